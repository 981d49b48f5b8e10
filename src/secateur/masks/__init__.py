"""Fine-grained sparsity: single weights that are zero and stay so, as torch parametrizations."""

from secateur.masks.handle import Masks, mask, masks_of
from secateur.masks.semi_structured import to_semi_structured

__all__ = ["Masks", "mask", "masks_of", "to_semi_structured"]
