"""All laws on torchvision's models: each loses at least a quarter of its parameters at `channels=0.7`."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import laws
from secateur.anatomy.calls import Call

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed (extra vision)")


@dataclass(frozen=True)
class Entry:
    """A model, the side of its square input, and whether parts of it run in training mode only."""

    name: str
    side: int = 64
    training: bool = False
    quick: bool = False

    def build(self) -> nn.Module:
        options: dict[str, object] = {"weights": None}
        if self.name.startswith(("deeplab", "fcn", "lraspp")):
            options |= (
                {"weights_backbone": None, "aux_loss": True} if self.name[0] != "l" else {"weights_backbone": None}
            )
        if self.training:
            options |= {"init_weights": False, "aux_logits": True}
        return torchvision.models.get_model(self.name, **options)


ENTRIES = [
    *(Entry("alexnet", 96), Entry("vgg11_bn"), Entry("resnet18", quick=True), Entry("resnet50")),
    *(Entry("resnext50_32x4d"), Entry("wide_resnet50_2"), Entry("densenet121", quick=True)),
    *(Entry("googlenet", 224, training=True), Entry("inception_v3", 299, training=True)),
    *(Entry("squeezenet1_1", quick=True), Entry("shufflenet_v2_x0_5", quick=True), Entry("mobilenet_v2")),
    *(Entry("mobilenet_v3_small", quick=True), Entry("mnasnet0_5"), Entry("efficientnet_b0"), Entry("regnet_y_400mf")),
    *(Entry("convnext_tiny"), Entry("vit_b_32", 224), Entry("swin_t"), Entry("swin_v2_t"), Entry("maxvit_t", 224)),
    *(Entry("deeplabv3_resnet50"), Entry("fcn_resnet50"), Entry("lraspp_mobilenet_v3_large")),
]


def check(entry: Entry, path: Path, law: Callable[..., object] = laws.check_all) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, entry.side, entry.side)
    calls = [Call((torch.randn(2, 3, entry.side, entry.side),), training=True)] if entry.training else []
    plan = law(entry.build, inputs, path / "pruned.safetensors", calls=calls)
    gc.collect()
    assert plan.after.params <= 0.75 * plan.before.params  # type: ignore[attr-defined]


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.quick], ids=lambda e: e.name)
def test_laws_on_one_of_each_family(entry: Entry, tmp_path: Path) -> None:
    check(entry, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("entry", [e for e in ENTRIES if not e.quick], ids=lambda e: e.name)
def test_laws_on_the_zoo(entry: Entry, tmp_path: Path) -> None:
    check(entry, tmp_path)
