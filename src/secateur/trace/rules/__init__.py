"""Every rule, registered by importing its family."""

from . import attention, conv, index, linear, norm, pointwise, reduce, shape, spatial

__all__ = ["attention", "conv", "index", "linear", "norm", "pointwise", "reduce", "shape", "spatial"]
