"""Detectors with deformable attention as transformers writes them, small and with random weights: cut and proved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import laws
import secateur

hf: Any = pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")

IDS = torch.tensor([[2, 5, 6, 7, 3]])
TEXT = {"input_ids": IDS, "token_type_ids": torch.zeros_like(IDS), "attention_mask": torch.ones_like(IDS)}
STAGES = {"out_features": ["stage2", "stage3", "stage4"]}
# Widths of all of them: 32, in 4 heads.
ENCODER = {"encoder_layers": 1, "encoder_ffn_dim": 32, "encoder_attention_heads": 4}
DECODER = {"decoder_layers": 2, "decoder_ffn_dim": 32, "decoder_attention_heads": 4}
SHAPE = {**ENCODER, **DECODER, "d_model": 32, "num_queries": 10, "use_pretrained_backbone": False, "num_labels": 3}
POINTS = {"num_feature_levels": 4, "encoder_n_points": 2, "decoder_n_points": 2}
REAL_TIME = {"encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "num_denoising": 0, "anchor_image_size": None}


def resnet(config: Any) -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1] * 4}
    return config(**sizes, layer_type="basic", **STAGES)


def swin(first: int) -> Any:
    stages = [f"stage{i}" for i in range(first, 5)]
    small = {"image_size": 64, "patch_size": 4, "embed_dim": 16, "window_size": 4}
    return hf.SwinConfig(**small, depths=[1] * 4, num_heads=[2] * 4, out_features=stages)


def rt_detr(family: str = "RTDetr") -> nn.Module:
    backbone = resnet(hf.RTDetrResNetConfig)
    widths = {"encoder_in_channels": [16, 16, 32], "decoder_n_points": 2}
    config = getattr(hf, f"{family}Config")(backbone_config=backbone, **widths, **SHAPE, **REAL_TIME)
    return getattr(hf, f"{family}ForObjectDetection")(config)


def d_fine() -> nn.Module:
    stages = {"stage_in_channels": [8, 16, 16, 32], "stage_mid_channels": [8, 8, 8, 16]}
    outs = {"stage_out_channels": [16, 16, 32, 32], "hidden_sizes": [16, 16, 32, 32], "depths": [1] * 4}
    blocks = {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [2] * 4, "stem_channels": [3, 8, 8]}
    backbone = hf.HGNetV2Config(**stages, **outs, **blocks, embedding_size=8, **STAGES)
    widths = {"encoder_in_channels": [16, 32, 32], "decoder_n_points": [2] * 3}
    return hf.DFineForObjectDetection(hf.DFineConfig(backbone_config=backbone, **widths, **SHAPE, **REAL_TIME))


def deformable_detr(**options: Any) -> nn.Module:
    backbone = {"backbone_config": resnet(hf.ResNetConfig), "use_timm_backbone": False, "backbone": None}
    return hf.DeformableDetrForObjectDetection(hf.DeformableDetrConfig(**backbone, **SHAPE, **POINTS, **options))


def mask2former() -> nn.Module:
    widths = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32}
    layers = {"dim_feedforward": 32, "encoder_layers": 2, "decoder_layers": 2, "num_attention_heads": 4}
    rest = {"num_queries": 10, "num_labels": 3, "use_pretrained_backbone": False}
    config = hf.Mask2FormerConfig(backbone_config=swin(1), **widths, **layers, **rest)
    return hf.Mask2FormerForUniversalSegmentation(config)


def grounding(family: str = "GroundingDino") -> nn.Module:
    """As many text tokens as are given, so that no score is minus infinity."""
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4}
    text = hf.BertConfig(vocab_size=50, hidden_size=32, intermediate_size=32, **heads)
    both = {"backbone_config": swin(2), "text_config": text, "max_text_len": IDS.shape[1]}
    config = getattr(hf, f"{family}Config")(**both, **SHAPE, **POINTS)
    return getattr(hf, f"{family}ForObjectDetection")(config)


DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "RT-DETR": rt_detr,
    "RT-DETR v2": lambda: rt_detr("RTDetrV2"),
    "Deformable DETR": deformable_detr,
    "Deformable DETR in two stages": lambda: deformable_detr(two_stage=True, with_box_refine=True),
    "D-FINE": d_fine,
    "Mask2Former": mask2former,
    "Grounding DINO": grounding,
    "MM Grounding DINO": lambda: grounding("MMGroundingDino"),
}
FAST = ("RT-DETR", "Deformable DETR")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in DETECTORS]
)
def test_a_detector_is_cut_and_proved(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, image = laws.randomized(DETECTORS[name]()), torch.randn(1, 3, 128, 128)
    inputs = {"pixel_values": image, **(TEXT if "Grounding" in name else {})}
    graph = secateur.trace(model, inputs)
    assert "head" in {axis.kind for axis in graph.axes}
    plan = secateur.plan(graph, "channels=0.7", importance="random")
    assert plan.after.params < 0.75 * plan.before.params
    laws.check_verified(model, secateur.cut(model, plan), plan, inputs)
