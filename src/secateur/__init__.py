"""secateur: make trained PyTorch models smaller and faster by removing whole channels, heads and neurons."""

from .plan import Plan  # first, lest the module of that name hide the function

# isort: split
from . import importance, recover
from .apply import cut, cut_
from .apply.transplant import transplant
from .budget import Select, plan
from .calls import Call
from .count import Count, count
from .errors import FileError, InputError, PruningError, TargetError, TraceError
from .graph import Graph
from .io import load, save
from .masks import mask
from .probing import Sensitivity, search, sensitivity
from .pruning import Pruned, prune
from .trace import trace
from .trace.teach import rule
from .train.iterate import iterate
from .verify import Verification, verify

__version__ = "0.1.0"
__all__ = [
    "Call",
    "Count",
    "FileError",
    "Graph",
    "InputError",
    "Plan",
    "Pruned",
    "PruningError",
    "Select",
    "Sensitivity",
    "TargetError",
    "TraceError",
    "Verification",
    "count",
    "cut",
    "cut_",
    "importance",
    "iterate",
    "load",
    "mask",
    "plan",
    "prune",
    "recover",
    "rule",
    "save",
    "search",
    "sensitivity",
    "trace",
    "transplant",
    "verify",
]
