"""The models of the lessons, with random weights in every parameter and buffer: no error can hide behind a zero.

Small ones have the same structure, with fewer or narrower layers and smaller images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from secateur.recipes.framework import needs

Subject = tuple[nn.Module, Any]
"""A model in evaluation mode, and its example inputs."""


def resnet18(small: bool) -> Subject:
    vision = needs("torchvision.models", "vision")
    model = vision.ResNet(vision.resnet.BasicBlock, [1, 1, 1, 1]) if small else vision.resnet18()
    return _lively(model), _image(64 if small else 224)


def densenet121(small: bool) -> Subject:
    vision = needs("torchvision.models", "vision")
    build = {"block_config": (2, 2), "num_init_features": 64} if small else {}
    model = vision.DenseNet(**build) if small else vision.densenet121()
    return _lively(model), _image(64 if small else 224)


def deeplabv3(small: bool) -> Subject:
    vision = needs("torchvision.models", "vision").segmentation
    build = vision.deeplabv3_mobilenet_v3_large if small else vision.deeplabv3_resnet50
    return _lively(build(weights=None, weights_backbone=None, aux_loss=None)), _image(64 if small else 224)


def vit(small: bool) -> Subject:
    vision = needs("torchvision.models", "vision")
    if not small:
        return _lively(vision.vit_b_16()), _image(224)
    return _lively(vision.VisionTransformer(32, 8, 2, 4, 64, 128)), _image(32)


def bert(small: bool) -> Subject:
    hf = needs("transformers", "hf")
    sizes = (
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128} if small else {}
    )
    model = hf.BertModel(hf.BertConfig(**sizes))
    words = torch.arange(8).unsqueeze(0) + 100
    return _lively(model), {"input_ids": words, "attention_mask": torch.ones_like(words)}


def _image(side: int) -> Tensor:
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def _lively(model: nn.Module) -> nn.Module:
    """Random numbers of a size that keeps activations alive, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(_values(name, tensor, generator))
    return model.eval()


def _values(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    if name.endswith("running_var"):
        return torch.rand(tensor.shape, generator=generator) + 0.5
    noise = torch.randn(tensor.shape, generator=generator)
    if tensor.dim() > 1:
        return noise / max(tensor[0].numel(), 1) ** 0.5
    return noise * 0.3 + (1.0 if name.endswith("weight") else 0.0)
