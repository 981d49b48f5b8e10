"""What `from_pretrained` would make something else of is not saved for it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

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
