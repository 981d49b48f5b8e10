"""Extra state goes through files, and only as what a file can hold."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import secateur
from secateur.base.nested import tensors_in
from secateur.errors import FileError, InputError

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


class Noting(nn.Module):
    def __init__(self, note: Any = None):
        super().__init__()
        self.net, self.note = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 2)), note

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def get_extra_state(self) -> Any:
        return self.note

    def set_extra_state(self, state: Any) -> None:
        self.note = state


class Around(nn.Module):
    def __init__(self, note: Any = None):
        super().__init__()
        self.inner = Noting(note)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


NOTES: dict[str, Any] = {
    "nothing": None,
    "numbers": {"epoch": 3, "loss": 0.1, "on": True, "far": float("inf")},
    "nested": [1, ("a", [2.5, None]), {"deep": {"er": ()}}],
    "tensors": {"amax": torch.arange(3.0), "many": [torch.ones(2, dtype=torch.int64), (torch.zeros(()),)]},
    "a tensor": torch.rand(4),
    "keys": {1: "one", (2, 3): "two", None: torch.ones(1)},
    "tags": {"$tensor": "not one", "$": 1},
    "ordered": OrderedDict(b=1, a=2),
}


def alike(a: Any, b: Any) -> bool:
    """Equal, of equal types, tensors by their values."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(map(alike, a.values(), b.values()))
    return all(map(alike, a, b)) and len(a) == len(b) if isinstance(a, (list, tuple)) else a == b


@pytest.mark.parametrize("kind", [Noting, Around])
@pytest.mark.parametrize("note", NOTES)
def test_extra_state_comes_back(note: str, kind: type[Any], tmp_path: Path) -> None:
    pruned = secateur.prune(kind(NOTES[note]), X, "channels=0.5")
    pruned.save(tmp_path / "m.safetensors")
    again = secateur.load(kind("another"), tmp_path / "m.safetensors")
    assert torch.equal(again(X), pruned.model(X))
    held = again if kind is Noting else again.inner
    assert alike(held.note, NOTES[note])  # type: ignore[union-attr]


def test_tensors_of_extra_state_go_to_the_device(tmp_path: Path) -> None:
    secateur.save(Noting({"amax": torch.ones(2)}), tmp_path / "m.safetensors")
    again = secateur.load(Noting(), tmp_path / "m.safetensors", device="meta")
    assert all(tensor.is_meta for tensor in tensors_in(again.note))


class Odd:
    pass


@pytest.mark.parametrize(("note", "kind"), [(Odd(), "Odd"), ({"a": [1, {2}]}, "set"), ([torch.float32], "dtype")])
def test_what_only_a_pickle_could_hold_is_refused_with_its_module(note: Any, kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"the extra state of Noting 'inner' holds a {kind}: (.|\n)*never a pickle"):
        secateur.save(Around(note), tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_extra_state_for_nobody_is_refused(tmp_path: Path) -> None:
    secateur.save(Noting({"epoch": 3}), tmp_path / "m.safetensors")
    plain = nn.Module()
    plain.net = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 2))
    before = plain.net[0].weight
    with pytest.raises(FileError, match="holds extra state for this Module, which takes none"):
        secateur.load(plain, tmp_path / "m.safetensors")
    assert plain.net[0].weight is before


@pytest.mark.parametrize("told", ["{", "[1]", json.dumps({"": {"$tensor": "gone"}}), json.dumps({"": {"$items": 3}})])
def test_damaged_extra_state(told: str, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    secateur.save(Noting(1), path)
    with safe_open(path, "pt") as file:
        metadata = {**file.metadata(), "secateur_extra": told}
    save_file(load_file(path), path, metadata)
    with pytest.raises(FileError, match="its metadata are damaged: secateur_extra"):
        secateur.load(Noting(), path)
