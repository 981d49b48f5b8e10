"""What `from_pretrained` would make something else of is not saved for it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from secateur.anatomy.bypass import put_bypasses
from secateur.anatomy.guard import allow_checkpoints, bypassed, check_bare, guard, unguard
from secateur.errors import InputError
from secateur.masks import mask, masks_of


class Saving(nn.Module):
    """Saves itself as Hugging Face's models do, and has a part that does too."""

    def __init__(self, depth: int = 1):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.part = Saving(depth - 1) if depth else None
        self.saved: list[Any] = []

    def save_pretrained(self, folder: str, *, shards: int = 1) -> str:
        self.saved.append((folder, shards))
        return folder


class Config:
    def __init__(self, width: int):
        self.width = width

    def to_json_string(self) -> str:
        return f'{{"width": {self.width}}}'

    @classmethod
    def from_dict(cls, values: dict[str, int]) -> Config:
        return cls(**values)


class Pretrained(type("PreTrainedModel", (nn.Module,), {"__module__": "transformers.modeling_utils"})):  # type: ignore[misc]
    """One of Hugging Face's, as far as the guard looks."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.a = nn.Linear(config.width, 2)

    def save_pretrained(self, folder: str) -> str:
        return folder


def guarded(added: tuple[str, ...] = ()) -> Saving:
    model = Saving()
    guard(model, added)
    return model


def test_a_model_that_comes_back_as_it_is_is_saved() -> None:
    model = guarded()
    assert model.save_pretrained("folder", shards=2) == "folder"
    assert model.saved == [("folder", 2)]
    assert not hasattr(model, "push_to_hub")


def test_bypassed_blocks_are_refused_with_their_names() -> None:
    model = guarded()
    put_bypasses(dict(model.named_modules()), {"part.a": None})
    assert [*bypassed(model)] == ["part.a"]
    with pytest.raises(InputError, match=r"this Saving runs without part.a, which its config still counts"):
        model.save_pretrained("folder")
    with pytest.raises(InputError, match="runs without a, "):
        model.part.save_pretrained("folder")
    assert not model.saved


def test_masks_are_refused_until_they_are_permanent() -> None:
    model = guarded()
    mask(model, 0.5)
    with pytest.raises(InputError, match="has masks"):
        model.save_pretrained("folder")
    with pytest.raises(InputError, match="has masks"):
        check_bare(model)
    masks_of(model).harden()
    assert model.save_pretrained("folder") == "folder"


def test_added_parameters_are_refused_where_they_are() -> None:
    model = guarded(("part.a.bias",))
    for one, name in ((model, "part.a.bias"), (model.part, "a.bias")):
        with pytest.raises(InputError, match=rf"recovery added parameters .*: {name}\n"):
            one.save_pretrained("folder")
    guard(model, ["b.bias"])
    with pytest.raises(InputError, match=r"part\.a\.bias, b\.bias"):
        model.save_pretrained("folder")
    model.part = None
    with pytest.raises(InputError, match=r"would drop them: b\.bias"):
        model.save_pretrained("folder")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_keep_the_guard_of_their_own(copied: Any) -> None:
    model = guarded()
    twin = copied(model)
    put_bypasses(dict(twin.named_modules()), {"a": None})
    with pytest.raises(InputError, match="runs without a, "):
        twin.save_pretrained("folder")
    assert model.save_pretrained("folder") == "folder"


def test_guards_are_taken_off() -> None:
    model = guarded(("a.bias",))
    unguard(model)
    assert model.save_pretrained("folder") == "folder"
    assert "save_pretrained" not in model.__dict__
    assert "save_pretrained" not in model.part.__dict__


def test_a_config_that_does_not_describe_the_model_is_refused() -> None:
    pytest.importorskip("transformers", reason="transformers is not installed (extra hf)")
    model = Pretrained(Config(4))
    guard(model)
    assert model.save_pretrained("folder") == "folder"
    model.a.weight = nn.Parameter(torch.ones(2, 3))
    with pytest.raises(
        InputError, match=r"(?s)does not describe it: a.weight is \(2, 3\), the constructor makes \(2, 4\)"
    ):
        model.save_pretrained("folder")
    allow_checkpoints(model, allow=True)
    assert model.save_pretrained("folder") == "folder"
    allow_checkpoints(model, allow=False)
    model.config.width = -1
    with pytest.raises(InputError, match="the config of this Pretrained does not describe it: RuntimeError"):
        model.save_pretrained("folder")


def hub_class() -> Any:
    """A class with the mixin of huggingface_hub."""
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra hf)")

    class Net(nn.Module, hub.PyTorchModelHubMixin):
        def __init__(self, width: int = 8):
            super().__init__()
            self.a, self.b = nn.Linear(4, width), nn.Linear(width, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    return Net


def test_a_cut_model_of_the_hubs_mixin_is_refused_and_names_the_way_that_works(tmp_path: Path) -> None:
    kind = hub_class()
    net, x = kind(6), torch.randn(2, 4)
    small = secateur.prune(net, x, "channels=0.5").model
    for save in (small.save_pretrained, small.push_to_hub, copy.deepcopy(small).save_pretrained):
        with pytest.raises(InputError, match=r"model as it was before the cut; cut were a\.bias, a\.weight, b\.weight"):
            save(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    secateur.save(small, tmp_path / "small.safetensors")
    again = secateur.load(kind(6), tmp_path / "small.safetensors")
    assert torch.equal(again(x), small(x))
    with pytest.raises(InputError, match=r"secateur\.load\(Net\(\.\.\.\), 'small\.safetensors'\)"):
        again.save_pretrained(tmp_path / "folder")
    allow_checkpoints(small, allow=True)
    small.save_pretrained(tmp_path / "folder")
    net.save_pretrained(tmp_path / "dense")
    assert torch.equal(kind.from_pretrained(tmp_path / "dense")(x), net(x))


def test_parts_that_were_not_cut_are_saved_for_the_hub(tmp_path: Path) -> None:
    kind = hub_class()
    net = nn.Sequential(kind(6), kind(6))
    net[1].a = nn.Linear(2, 6)
    secateur.cut_(net, secateur.plan(secateur.trace(net, torch.randn(2, 4)), drop={"1.a": [0]}))
    net[0].save_pretrained(tmp_path / "whole")
    with pytest.raises(InputError, match=r"cut were a\.bias, a\.weight, b\.weight\n"):
        net[1].save_pretrained(tmp_path / "cut")
