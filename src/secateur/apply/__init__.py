"""Carry out a Plan on a model."""

from secateur.apply.recovered import recovered_
from secateur.apply.surgery import cut, cut_

__all__ = ["cut", "cut_", "recovered_"]
