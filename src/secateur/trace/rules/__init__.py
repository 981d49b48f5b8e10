"""The rules of the ops, one module per family; importing this package registers all of them.

A rule may import the rest of `secateur.trace` below `recorder`, and what that package may import. To add an op, write a
function decorated with `rule` or `function_rule` in the module of its family; a new module must be imported here.
"""

from secateur.trace.rules import (
    attention,
    bags,
    conv,
    copying,
    detection,
    frequency,
    index,
    linear,
    losses,
    norm,
    pointwise,
    recurrent,
    reduce,
    routing,
    shape,
    sparse,
    spatial,
    vectors,
    whole,
)

__all__ = [
    "attention",
    "bags",
    "conv",
    "copying",
    "detection",
    "frequency",
    "index",
    "linear",
    "losses",
    "norm",
    "pointwise",
    "recurrent",
    "reduce",
    "routing",
    "shape",
    "sparse",
    "spatial",
    "vectors",
    "whole",
]
