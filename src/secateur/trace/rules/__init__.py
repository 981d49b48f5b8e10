"""Every rule, registered by importing its family."""

from secateur.trace.rules import (
    attention,
    bags,
    conv,
    detection,
    index,
    linear,
    losses,
    norm,
    pointwise,
    recurrent,
    reduce,
    routing,
    shape,
    spatial,
    vectors,
    whole,
)

__all__ = [
    "attention",
    "bags",
    "conv",
    "detection",
    "index",
    "linear",
    "losses",
    "norm",
    "pointwise",
    "recurrent",
    "reduce",
    "routing",
    "shape",
    "spatial",
    "vectors",
    "whole",
]
