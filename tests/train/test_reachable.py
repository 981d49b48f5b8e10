from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from torch import nn
from torch.utils.data import DataLoader

from secateur.train.reachable import FEW, held

GLOBAL = Random(0)


class Slotted:
    __slots__ = ("dice", "unset")

    def __init__(self, dice: Random) -> None:
        self.dice = dice


class Held:
    def __init__(self, dice: Random) -> None:
        self.parts, self.self = {"dice": [dice]}, self

    def method(self) -> None: ...


class InItsClass:
    dice = GLOBAL

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("read in passing")


class Private:
    __slots__ = ("__dice",)

    def __init__(self, dice: Random) -> None:
        self.__dice = dice


class Module(nn.Module):
    def __init__(self, dice: Random) -> None:
        super().__init__()
        self.dice = dice


class Listed(list[int]):
    def __init__(self, dice: Random) -> None:
        super().__init__([1])
        self.dice = dice

    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("read in passing")


class Drawing:
    def __getitem__(self, row: int) -> list[float]:
        return [GLOBAL.random() for _ in range(row)]


class Unread(Mapping[str, Random]):
    """Reads a file to say what it holds."""

    def __getitem__(self, key: str) -> Random:
        raise RuntimeError("read in passing")

    __iter__ = __len__ = __getitem__  # type: ignore[assignment]


def closing_over(dice: Random) -> Callable[[], float]:
    return lambda: dice.random()


def by_default(dice: Random) -> Callable[..., float]:
    def drawn(one: Random = dice) -> float:
        return one.random()

    return drawn


def helper() -> float:
    return GLOBAL.random()


def calling() -> float:
    return helper()


HOLDERS: dict[str, Callable[[Random], Any]] = {
    "itself": lambda dice: dice,
    "containers": lambda dice: ({"a": [dice]},),
    "attributes, in a circle": Held,
    "slots": Slotted,
    "slots of its own": Private,
    "a module": Module,
    "attributes of a list": Listed,
    "a deque": lambda dice: deque([dice]),
    "what is built in": lambda dice: dice.random,
    "a method": lambda dice: Held(dice).method,
    "a partial function": lambda dice: functools.partial(max, key=dice),
    "a closure": closing_over,
    "a default": by_default,
    "a loader": lambda dice: DataLoader([0], collate_fn=closing_over(dice)),
}


@pytest.mark.parametrize("where", HOLDERS)
def test_it_is_found_wherever_it_lies(where: str) -> None:
    dice = Random(1)
    assert held(HOLDERS[where](dice), Random) == [dice]


def test_what_a_function_uses_of_its_own_file_is_found() -> None:
    assert held(calling, Random) == [GLOBAL]


USERS: dict[str, Callable[[], Any]] = {
    "a class": InItsClass,
    "a method": Drawing,
    "a comprehension": lambda: lambda: [GLOBAL for _ in range(2)],
}


@pytest.mark.parametrize("what", USERS)
def test_what_a_class_has_or_its_methods_use_is_found(what: str) -> None:
    assert held(USERS[what](), Random) == [GLOBAL]


def test_each_is_found_once_in_the_order_in_which_it_was_built() -> None:
    one, other = Random(1), Random(2)
    assert held([{"b": one, "a": other}, one], Random) == [one, other]


def test_data_are_not_gone_through(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with np.load(tmp_path / "a.npz") as arrays:
        assert held([arrays, Unread(), [Random(0)] * (FEW + 1), Random], Random) == []


def test_workers_that_run_are_not_gone_through() -> None:
    loader = DataLoader([0, 1], num_workers=1, persistent_workers=True)
    before = held(loader, Random, np.random.RandomState)
    assert list(loader)
    assert held(loader, Random, np.random.RandomState) == before
