"""Every rule, registered by importing its family."""

from . import attention, conv, detection, index, linear, norm, pointwise, recurrent, reduce, routing, shape, spatial

__all__ = [
    "attention",
    "conv",
    "detection",
    "index",
    "linear",
    "norm",
    "pointwise",
    "recurrent",
    "reduce",
    "routing",
    "shape",
    "spatial",
]
