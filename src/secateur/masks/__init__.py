"""Fine-grained sparsity: single weights that are zero and stay so, as torch parametrizations."""

from .handle import Masks, mask, masks_of

__all__ = ["Masks", "mask", "masks_of"]
