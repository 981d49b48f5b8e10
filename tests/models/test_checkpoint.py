from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from secateur.errors import FileError
from secateur.models import load_weights
from secateur.models.checkpoint import load_matching


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 3, bias=False)
        self.b = nn.Linear(3, 3, bias=False)
        self.b.weight = self.a.weight


class Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def same(model: nn.Module, other: nn.Module) -> bool:
    return all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


WRAPS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state},
    "model": lambda state: {"model": state, "optimizer": {"param_groups": []}},
    "nested": lambda state: {"model": {"state_dict": state}},
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "compiled": lambda state: {"model": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_torch_files(tmp_path: Path, wrap: str) -> None:
    saved, model = net(), net()
    torch.save(WRAPS[wrap](saved.state_dict()), tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    assert same(model, saved)


def test_safetensors(tmp_path: Path) -> None:
    saved, model = net(), net()
    save_file(saved.state_dict(), tmp_path / "w.safetensors")
    load_weights(model, str(tmp_path / "w.safetensors"))
    assert same(model, saved)


def test_a_child_that_is_called_module(tmp_path: Path) -> None:
    saved, model = (nn.Sequential() for _ in range(2))
    for wrapper in (saved, model):
        wrapper.module = net()
    torch.save(saved.state_dict(), tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    assert same(model, saved)


def test_shared_parameters_under_one_name(tmp_path: Path) -> None:
    saved, model = Tied(), Tied()
    save_model(saved, str(tmp_path / "w.safetensors"))
    load_weights(model, tmp_path / "w.safetensors")
    assert same(model, saved)
    assert model.a.weight is model.b.weight


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    saved, model = net(), net()
    torch.save({k: v for k, v in saved.state_dict().items() if "num_batches" not in k}, tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    assert same(model, saved)


def test_values_take_the_dtype_of_the_model(tmp_path: Path) -> None:
    model = net().double()
    torch.save(net().half().state_dict(), tmp_path / "w.pt")
    load_weights(model, tmp_path / "w.pt")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


MISFITS: dict[str, tuple[nn.Module, list[str]]] = {
    "missing": (
        nn.Sequential(nn.Conv2d(3, 4, 3)),
        ["missing       4  1.weight, 1.bias, 1.running_mean, 1.running_var"],
    ),
    "unexpected": (nn.Sequential(*net(), nn.Linear(1, 1)), ["unexpected    2  2.weight, 2.bias"]),
    "shapes": (
        nn.Sequential(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4)),
        ["different     1  0.weight: file (4, 3, 5, 5) float32, model (4, 3, 3, 3) float32"],
    ),
    "many": (nn.Sequential(*(nn.Linear(1, 1) for _ in range(5))), ["unexpected    6  2.weight", ", ... (1 more)"]),
}


@pytest.mark.parametrize("case", MISFITS)
def test_another_architecture(tmp_path: Path, case: str) -> None:
    other, facts = MISFITS[case]
    model, before = net(), net()
    before.load_state_dict(model.state_dict())
    torch.save(other.state_dict(), tmp_path / "w.pt")
    with pytest.raises(FileError) as caught:
        load_weights(model, tmp_path / "w.pt")
    text = str(caught.value)
    assert f"{tmp_path}/w.pt does not fit the model Sequential:" in text
    assert all(
        fact in text for fact in [*facts, "this checkpoint is of another architecture", "--model-arg NAME=VALUE"]
    )
    assert same(model, before)


def test_quantised_weights_are_no_weights(tmp_path: Path) -> None:
    state = net().state_dict()
    state["0.weight"] = state["0.weight"].to(torch.int8)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(FileError, match=r"0.weight: file \(4, 3, 3, 3\) int8, model \(4, 3, 3, 3\) float32"):
        load_weights(net(), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "keep"), [("w.pt", 0), ("w.pt", 400), ("w.safetensors", 0), ("w.safetensors", 20), ("w.safetensors", 400)]
)
def test_truncated(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    save_file(net().state_dict(), path) if name.endswith("safetensors") else torch.save(net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError, match=rf"\({keep} bytes\) cannot be read as weights(.|\n)*truncated"):
        load_weights(net(), path)


@pytest.mark.parametrize("dump", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, 2))])
def test_code_in_a_file_does_not_run(tmp_path: Path, dump: Callable[[object, Path], object]) -> None:
    model, before = net(), net()
    before.load_state_dict(model.state_dict())
    dump({**model.state_dict(), "0.weight": Hostile(tmp_path / "ran")}, tmp_path / "w.pt")
    with pytest.raises(FileError, match=r"cannot be read as weights(.|\n)*a pickle that would run code"):
        load_weights(model, tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()
    assert same(model, before)


def test_the_hostile_file_would_have_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (torch.ones(2), "holds Tensor, not a state dict"),
        ([1, 2], "holds list, not a state dict"),
        ({}, "holds nothing where a state dict has tensors"),
        ({"state": {0: 1}, "step": 3}, "holds state: dict, step: int where a state dict has tensors"),
        ({0: torch.ones(2)}, "holds 0: Tensor where"),
    ],
)
def test_other_content(tmp_path: Path, content: object, fact: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(FileError, match=fact):
        load_weights(net(), tmp_path / "w.pt")


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    with pytest.raises(FileError, match=r"no weights file .*weight.pt; did you mean 'weights.pt'\?"):
        load_weights(net(), tmp_path / "weight.pt")


def test_statistics_alone_do_not_make_weights_fit(tmp_path: Path) -> None:
    """The counter of a batch norm has the same shape in every network."""
    wide, narrow = (nn.Sequential(nn.Linear(4, n), nn.BatchNorm1d(n)) for n in (8, 4))
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    with pytest.raises(FileError, match=r"nothing in .*wide.pt fits Sequential by name and shape"):
        load_matching(narrow, tmp_path / "wide.pt")
