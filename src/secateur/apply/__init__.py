"""Carry out a Plan on a model."""

from .surgery import cut, cut_

__all__ = ["cut", "cut_"]
