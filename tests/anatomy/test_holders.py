"""Integers that lie in objects which modules hold: configs of every make, shared by layers."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import secateur
from nets import Parts
from secateur.anatomy.holders import holders, owner_of, values
from secateur.export.loader import loader_source
from secateur.trace.tracked_ints import Num


@dataclass
class Plain:
    heads: int = 4
    size: int = 3


@dataclass(frozen=True, slots=True)
class Sealed:
    heads: int = 4
    size: int = 3


class Mapped:
    """Reads and writes one attribute by another name, and refuses what it does not know."""

    names: ClassVar = {"heads": "n_head"}

    def __init__(self) -> None:
        self.n_head, self.size = 4, 3

    def __getattribute__(self, name: str) -> Any:
        names = object.__getattribute__(self, "names")
        return object.__getattribute__(self, names.get(name, name))

    def __setattr__(self, name: str, value: Any) -> None:
        if type(value) is not int:
            raise TypeError(f"{name} is an int")
        object.__setattr__(self, self.names.get(name, name), value)


class Derived:
    """The head count is a property."""

    def __init__(self) -> None:
        self.width, self.size = 12, 3

    @property
    def heads(self) -> int:
        return self.width // self.size


class Alone(SimpleNamespace):
    """Copies as itself."""

    def __deepcopy__(self, memo: object) -> Alone:
        return self


class Items(dict):  # type: ignore[type-arg]
    """Its items are read as attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


class Both(dict):  # type: ignore[type-arg]
    """Holds each item as an attribute too."""

    def __init__(self, **items: int) -> None:
        super().__init__(**items)
        vars(self).update(items)


class Locked(OrderedDict):  # type: ignore[type-arg]
    """Holds each item as an attribute too, and cannot be changed."""

    def __init__(self, **items: int) -> None:
        super().__init__(**items)
        vars(self).update(items, locked=True)

    def __setitem__(self, key: str, value: Any) -> None:
        if "locked" in vars(self):
            raise TypeError("this config cannot be changed")
        super().__setitem__(key, value)

    def __deepcopy__(self, memo: Any) -> Locked:
        return type(self)(**self)

    def _refused(self, *_: object, **__: object) -> Any:
        raise TypeError("this config cannot be changed")

    __setattr__ = __delitem__ = update = pop = setdefault = clear = _refused


OBJECTS: dict[str, Callable[[], Any]] = {
    "namespace": lambda: SimpleNamespace(heads=4, size=3),
    "arguments": lambda: argparse.Namespace(heads=4, size=3),
    "dataclass": Plain,
    "frozen, with slots": Sealed,
    "custom attributes": Mapped,
    "a property": Derived,
    "a dict of items": lambda: Items(heads=4, size=3),
    "items that are attributes": lambda: Both(heads=4, size=3),
    "a locked dict": lambda: Locked(heads=4, size=3),
}
CUTS = pytest.mark.parametrize("function", [secateur.cut, secateur.cut_])
X = torch.randn(2, 5, 6)


def block(self: Any, x: Tensor) -> Tensor:
    cfg = self.config["attention"] if type(self.config) is dict else self.config
    return self.out(self.wide(x).view(*x.shape[:-1], cfg.heads, cfg.size).relu().flatten(-2))


def model_of(config: Any) -> Any:
    torch.manual_seed(0)
    parts = [Parts(block, wide=nn.Linear(6, 12), out=nn.Linear(12, 6), config=config) for _ in range(2)]
    return Parts(lambda self, x: self.b(self.a(x)), a=parts[0], b=parts[1])


def numbers(model: nn.Module) -> dict[str, Any]:
    """What every object below a module holds."""
    return {f"{h.module}.{h.path}": dict(values(h.owner)) for h in holders(model) if h.path}


@CUTS
@pytest.mark.parametrize("name", OBJECTS)
def test_the_integers_of_a_config_follow(name: str, function: Callable[..., Any]) -> None:
    config = OBJECTS[name]()
    model = model_of(config)
    before = numbers(model)
    graph = secateur.trace(model, X)
    assert numbers(model) == before
    assert not any(isinstance(v, Num) for held in numbers(model).values() for v in held.values())
    plan = secateur.plan(graph, "channels=0.6", importance="random")
    reference = model_of(OBJECTS[name]())
    pruned = function(model, plan)
    assert (numbers(model) == before) is (function is secateur.cut)
    assert pruned.a.config is pruned.b.config
    assert pruned.a.config.heads * pruned.a.config.size == pruned.a.wide.out_features < 12
    assert secateur.verify(reference, pruned, plan, X).passed


def test_a_dict_and_an_object_in_it() -> None:
    result = secateur.prune(model_of({"attention": Plain()}), X, "channels=0.6")
    assert [(c.module, c.name) for c in result.plan.attributes if "config" in c.name] == [
        ("a", "config.attention.heads"),
    ]


@pytest.mark.parametrize("name", OBJECTS)
def test_saved_and_loaded(name: str, tmp_path: Path) -> None:
    result = secateur.prune(model_of(OBJECTS[name]()), X, "channels=0.6")
    result.save(tmp_path / "small.safetensors")
    again = secateur.load(model_of(OBJECTS[name]()), tmp_path / "small.safetensors")
    assert torch.equal(again(X), result.model(X))
    assert numbers(again) == numbers(result.model)


def test_the_loader_that_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    result = secateur.prune(model_of(Plain()), X, "channels=0.6")
    result.save(path)
    scope: dict[str, Any] = {}
    exec(loader_source(path), scope)
    assert torch.equal(scope["load_pruned"](model_of(Plain()), path)(X), result.model(X))
    with pytest.raises(ValueError, match=r"config.heads is not held by a plain object here; load .* secateur\.load"):
        scope["load_pruned"](model_of(Sealed()), path)


def test_an_object_that_copies_as_itself_is_changed_in_place_only() -> None:
    model = model_of(Alone(heads=4, size=3))
    plan = secateur.plan(secateur.trace(model, X), "channels=0.6")
    with pytest.raises(secateur.InputError, match=r"what holds a\.config\.heads copies as itself.*\n.*cut_"):
        secateur.cut(model, plan)
    assert model.a.config.heads == 4
    inplace: Any = secateur.cut_(model, plan)
    assert inplace.a.config.heads < 4


def test_what_forward_leaves_in_an_object_goes_away() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        self.state.calls += 1
        self.state.last = x
        return self.fc(x)

    model: Any = Parts(run, fc=nn.Linear(6, 2), state=SimpleNamespace(calls=1))
    secateur.trace(model, X)
    assert vars(model.state) == {"calls": 1}


def test_modules_private_names_and_tensors_hold_no_objects() -> None:
    config = SimpleNamespace(_inner=SimpleNamespace(n=1), model=nn.Linear(2, 2), n=2)
    config.again = config
    model = Parts(lambda self, x: x, config=config)
    assert [(h.module, h.path) for h in holders(model)] == [("", ""), ("", "config")]


@pytest.mark.parametrize("name", ["config.depth", "other.n", "config.n.real", "config._inner.n", "fc.out_features"])
def test_names_that_lead_nowhere(name: str) -> None:
    model = Parts(lambda self, x: x, config=SimpleNamespace(_inner=SimpleNamespace(n=1), n=2), fc=nn.Linear(2, 2))
    assert owner_of(model, name) is None
    assert owner_of(model, "config.n") == (vars(model)["config"], "n")


def test_items_and_attributes_are_changed_together() -> None:
    config: Any = secateur.prune(model_of(Both(heads=4, size=3)), X, "channels=0.6").model.a.config
    assert config.heads == config["heads"] < 4


def test_an_item_that_differs_from_the_attribute_of_its_name_is_not_followed() -> None:
    config = Both(heads=4, size=3)
    config["heads"] = 5
    assert values(config) == {"size": 3}
    model = model_of(config)
    secateur.trace(model, X)
    assert (model.a.config.heads, model.a.config["heads"]) == (4, 5)


def test_the_attributes_of_a_list_are_restored() -> None:
    class Sizes(list):  # type: ignore[type-arg]
        pass

    sizes = Sizes([12])
    sizes.seen = []  # type: ignore[attr-defined]

    def noted(self: Any, x: Tensor) -> Tensor:
        self.sizes.seen.append(x.shape[-1])
        self.sizes.last = x
        return self.a(x)

    secateur.trace(Parts(noted, a=nn.Linear(6, 12), sizes=sizes), X)
    assert vars(sizes) == {"seen": []}
