"""Applies a Plan to a model: slices its tensors, bypasses blocks, and lets optimizers follow.

This package may import `secateur.graph` and everything below it, but not the trace. Support for a new kind of optimizer
state is a rule in `states.py`; other objects that hold parameters are dispatched in `transplant.py`.
"""

from secateur.apply.recovered import recovered_
from secateur.apply.surgery import cut, cut_

__all__ = ["cut", "cut_", "recovered_"]
