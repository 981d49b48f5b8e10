"""Raw outputs of all heads of torchvision detectors, before boxes are selected by value.

Proposals, thresholds and non-maximum suppression choose by comparing values, so two detectors that agree to 1e-15 may
still list their boxes in another order. Here the second stage looks at fixed boxes instead of its proposals.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

BOXES = ((4, 4, 60, 50), (20, 10, 90, 90), (50, 30, 100, 110), (0, 0, 120, 96))
"""Left, top, right, bottom, in pixels of the resized image."""


def raw_heads(detector: nn.Module) -> nn.Module:
    """Return a shallow copy of a detector, with the same parameters and names, whose forward returns raw outputs."""
    twin = copy.copy(detector)
    kind = type(detector)
    twin.__class__ = type(
        f"Raw{kind.__name__}", (kind,), {"forward": _two_stages if hasattr(detector, "rpn") else _one}
    )
    return twin


def _one(self: Any, images: list[torch.Tensor]) -> Any:
    """Classes, boxes (and centres) of RetinaNet, FCOS and SSD, for every anchor."""
    resized, _ = self.transform(images)
    return self.head(_levels(self.backbone(resized.tensors)))


def _two_stages(self: Any, images: list[torch.Tensor]) -> Any:
    """Objectness and boxes of the proposal network; classes and boxes, masks and keypoints of the second stage."""
    resized, _ = self.transform(images)
    features = self.backbone(resized.tensors)
    boxes = [torch.tensor(BOXES, dtype=resized.tensors.dtype, device=resized.tensors.device) for _ in images]
    outputs = [self.rpn.head(_levels(features))]
    heads, sizes = self.roi_heads, resized.image_sizes
    outputs.append(heads.box_predictor(heads.box_head(heads.box_roi_pool(features, boxes, sizes))))
    if heads.has_mask():
        outputs.append(heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, boxes, sizes))))
    if heads.has_keypoint():
        outputs.append(heads.keypoint_predictor(heads.keypoint_head(heads.keypoint_roi_pool(features, boxes, sizes))))
    return outputs


def _levels(features: Any) -> list[torch.Tensor]:
    return [features] if isinstance(features, torch.Tensor) else list(features.values())
