from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from secateur.models.modnet import IBNorm, MODNet

TRAINING_ONLY = {"lr_branch.conv_lr.layers.0", "hr_branch.conv_hr.0.layers.0", "hr_branch.conv_hr.1.layers.0"}


def macs(model: nn.Module, *inputs: object) -> int:
    with FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2


@pytest.fixture(scope="module")
def on_meta() -> MODNet:
    with torch.device("meta"):
        return MODNet()


def test_parameters_are_those_of_the_release(on_meta: MODNet) -> None:
    assert sum(parameter.numel() for parameter in on_meta.parameters()) == 6_487_075


@pytest.mark.parametrize(("inference", "expected"), [(False, 18_117_066_752), (True, 15_465_971_712)])
def test_macs_at_512(on_meta: MODNet, inference: bool, expected: int) -> None:
    assert macs(on_meta, torch.empty(1, 3, 512, 512, device="meta"), inference) == expected


def test_outputs_in_training() -> None:
    semantic, detail, matte = MODNet().eval()(torch.randn(2, 3, 64, 96))
    assert [tuple(y.shape) for y in (semantic, detail, matte)] == [(2, 1, 4, 6), (2, 1, 64, 96), (2, 1, 64, 96)]
    assert all(torch.equal(y, y.clamp(0, 1)) for y in (semantic, detail, matte))


def test_inference_gives_the_same_matte_alone() -> None:
    model, image = MODNet().eval(), torch.randn(1, 3, 64, 64)
    semantic, detail, matte = model(image, inference=True)
    assert semantic is None
    assert detail is None
    assert torch.equal(matte, model(image, inference=False)[2])


def test_inference_skips_three_convolutions(on_meta: MODNet) -> None:
    ran: set[str] = set()
    convs = {name: module for name, module in on_meta.named_modules() if isinstance(module, nn.Conv2d)}
    handles = [conv.register_forward_pre_hook(lambda *_, name=name: ran.add(name)) for name, conv in convs.items()]
    on_meta(torch.empty(1, 3, 64, 64, device="meta"), True)
    for handle in handles:
        handle.remove()
    assert convs.keys() - ran == TRAINING_ONLY


@pytest.mark.parametrize("channels", [2, 5, 32])
def test_ibnorm_splits_at_its_attribute(channels: int) -> None:
    norm, x = IBNorm(channels), torch.randn(3, channels, 8, 8)
    y = norm(x)
    assert (norm.bnorm_channels, norm.inorm_channels) == (channels // 2, channels - channels // 2)
    assert_close(y[:, : channels // 2], nn.BatchNorm2d(channels // 2)(x[:, : channels // 2]))
    assert_close(y[:, channels // 2 :], nn.InstanceNorm2d(channels - channels // 2)(x[:, channels // 2 :]))


def test_the_encoder_is_shared() -> None:
    model = MODNet()
    assert model.lr_branch.backbone is model.backbone
