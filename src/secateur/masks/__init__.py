"""Fine-grained sparsity: torch parametrizations that make single weights zero and keep them zero.

This package may import `planning`, `trace` and everything below them, but not `proof`. A new criterion is a row of
`criteria.CRITERIA`, a new pattern a row of `patterns.PATTERNS`.
"""

from secateur.masks.handle import Masks, mask, masks_of
from secateur.masks.semi_structured import to_semi_structured

__all__ = ["Masks", "mask", "masks_of", "to_semi_structured"]
