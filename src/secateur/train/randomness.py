"""The state of all random generators that a training draws from: those of the process, and those of its data."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from secateur.train.reachable import held

Own = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


@dataclass(frozen=True, slots=True)
class Dice:
    """The random generators that data hold, and the loaders, whose worker processes may persist between epochs.

    >>> import torch
    >>> dice = Dice.of({"order": torch.Generator(), "noise": [random.Random(0)]})
    >>> state, first = dice.state(), (torch.rand(1), dice.own[1].random())
    >>> dice.put(state)
    >>> bool(torch.rand(1) == first[0]), dice.own[1].random() == first[1]
    (True, True)
    """

    own: tuple[Own, ...]
    loaders: tuple[DataLoader[Any], ...]

    @staticmethod
    def of(source: Any) -> Dice:
        """Find those that an object holds."""
        found = held(source, DataLoader, torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
        loaders = tuple(one for one in found if isinstance(one, DataLoader))
        return Dice(tuple(one for one in found if not isinstance(one, (DataLoader, random.SystemRandom))), loaders)

    @property
    def kinds(self) -> str:
        """The types of the generators."""
        return ", ".join(type(one).__name__ for one in self.own)

    def start_anew(self) -> None:
        """Restart persistent workers: the state of their generators cannot be read, so they begin as in a new run."""
        for loader in self.loaders:
            loader._iterator = None

    def state(self) -> dict[str, Any]:
        """Return the state of all generators: tensors, arrays, numbers and strings."""
        return {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "own": self.own_state(),
        }

    def put(self, state: Mapping[str, Any]) -> None:
        """Restore the state of all generators."""
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        if state["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
        self.put_own(state["own"])

    def own_state(self) -> list[Any]:
        """Return the states of the generators that the data hold."""
        return [_state_of(one) for one in self.own]

    def put_own(self, states: list[Any]) -> None:
        """Restore the states of the generators that the data hold."""
        for one, was in zip(self.own, states, strict=True):
            _put(one, was)


def _state_of(own: Own) -> Any:
    if isinstance(own, np.random.Generator):
        return own.bit_generator.state
    return own.getstate() if isinstance(own, random.Random) else own.get_state()


def _put(own: Own, state: Any) -> None:
    if isinstance(own, np.random.Generator):
        own.bit_generator.state = state
    elif isinstance(own, random.Random):
        own.setstate(state)
    else:
        own.set_state(state)


__all__ = ["Dice"]
