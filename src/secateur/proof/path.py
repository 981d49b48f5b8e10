"""The check that a cut model runs the same ops as the original."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from torch import nn

from secateur.anatomy.calls import ModelIgnored
from secateur.errors import PruningError
from secateur.graph.graph import Graph
from secateur.trace.tracing import trace

# Ops through which values decide what Python runs next.
DECIDING = frozenset(
    f"aten::{name}" for name in "_local_scalar_dense nonzero masked_select _unique2 unique_dim bincount".split()
) | {"torchvision::nms"}


def walks_alike(graph: Graph, pruned: nn.Module, example_inputs: Any, outputs: Callable[[Any], Any] | None) -> bool:
    """Return whether the pruned model runs the same ops as the original, with the same constants.

    This shows what Python hides from a trace (`range(channels)`, `1.0 / channels`, a table of sizes). Where values
    decide which ops run (how many boxes a detector finds), another path proves nothing, and the result is False.
    Raises `PruningError` where the pruned model does not run, or takes another path.
    """
    hint = "a size reached code that a trace cannot see; name the module in Select(protect=...) and report it"
    try:
        path = trace(pruned, example_inputs, outputs=outputs, run=graph.run.source.run).run.path
    except ModelIgnored:
        raise
    except PruningError as error:
        raise PruningError(f"the pruned model does not run: {error}\n{hint}") from error
    if path == graph.run.path:
        return True
    if any(name in DECIDING for name, _ in graph.run.path):
        return False
    pairs = enumerate(itertools.zip_longest(graph.run.path, path))
    at, (old, new) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
    raise PruningError(f"the pruned model takes another path: op {at} was {old}, is {new}\n{hint}")
