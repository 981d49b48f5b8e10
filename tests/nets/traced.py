"""The graphs of the networks, traced once."""

from __future__ import annotations

import functools

import secateur
from nets.table import NETS
from secateur.graph.graph import Graph


@functools.cache
def graph_of(name: str) -> Graph:
    """The Graph of a network, traced once."""
    return secateur.trace(NETS[name].make(), NETS[name].example())
