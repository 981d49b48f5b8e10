"""Carry out a Plan on a model."""

from .recovered import recovered_
from .surgery import cut, cut_

__all__ = ["cut", "cut_", "recovered_"]
