"""The way to semi-structured tensors: what can be checked without a GPU is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import InputError
from secateur.masks import mask, semi_structured
from secateur.masks.semi_structured import is_two_of_four, to_semi_structured


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 6))


def test_the_pattern_that_masks_give_is_the_one_that_is_checked() -> None:
    model = net()
    assert not is_two_of_four(model[0].weight)
    mask(model, pattern="2:4")
    assert is_two_of_four(model[0].weight)
    assert is_two_of_four(model[2].weight)
    assert is_two_of_four(torch.zeros(2, 4))
    assert not is_two_of_four(torch.zeros(2, 6))
    assert not is_two_of_four(torch.zeros(4))


def test_a_cpu_has_none() -> None:
    model = net()
    mask(model, pattern="2:4")
    with pytest.raises(InputError, match=r"the model is on cpu, which has no semi-structured tensors\nuse an N"):
        to_semi_structured(model)


def test_a_dense_model_is_sent_back() -> None:
    with pytest.raises(InputError, match=r"no linear layer has two zeros in every four inputs.*\nmake it so with sec"):
        to_semi_structured(net())


def test_an_old_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnCuda(nn.Module):
        def parameters(self, recurse: bool = True) -> Any:
            yield type("P", (), {"device": torch.device("cuda:0")})()

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(InputError, match=r"Tesla T4 \(cuda:0\) has compute capability 7.5 and no semi-structured"):
        semi_structured._check_device(OnCuda())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    semi_structured._check_device(OnCuda())


def test_where_the_device_has_them_layers_are_converted_in_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's part is played by one that takes what PyTorch would take."""

    def convert(weight: Tensor) -> Tensor:
        assert is_two_of_four(weight)
        if weight.shape[0] % 32:
            raise RuntimeError(f"Error original_tensor.shape {tuple(weight.shape)} is not supported!\nmore")
        return weight.clone()

    monkeypatch.setattr(semi_structured, "_check_device", lambda model: None)
    monkeypatch.setattr(semi_structured, "to_sparse_semi_structured", convert)
    model, x = net(), torch.randn(2, 8)
    masks = mask(model, pattern="2:4")
    found = to_semi_structured(model)
    assert found.converted == ("0",)
    assert found.left_out == {"2": "Error original_tensor.shape (6, 64) is not supported!"}
    assert torch.equal(found.model(x), model(x))
    assert type(found.model[0]) is nn.Linear  # type: ignore[index]
    assert masks.sparsity == 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_function_is_the_same() -> None:
    model = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 128)).half().cuda()
    mask(model, pattern="2:4")
    x = torch.randn(64, 128, device="cuda", dtype=torch.float16)
    torch.testing.assert_close(to_semi_structured(model).model(x), model(x), rtol=1e-2, atol=1e-2)
