"""Tiny networks that carry their expected answers: prunable axes, reasons why the rest is frozen, costs by formula.

Each family of networks is a module, which registers its networks in `NETS` when it is imported.
"""

from nets import (
    attention,
    channels,
    conv,
    einops_nets,
    frequency,
    frozen,
    messages,
    moe,
    norms,
    picks,
    products,
    recurrent,
    regrouped,
    sharing,
)
from nets.moe import experts, routed
from nets.parts import Parts
from nets.table import IDS, IMAGE, NETS, TOKENS, Net
from nets.traced import graph_of

__all__ = [
    "IDS",
    "IMAGE",
    "NETS",
    "TOKENS",
    "Net",
    "Parts",
    "attention",
    "channels",
    "conv",
    "einops_nets",
    "experts",
    "frequency",
    "frozen",
    "graph_of",
    "messages",
    "moe",
    "norms",
    "picks",
    "products",
    "recurrent",
    "regrouped",
    "routed",
    "sharing",
]
