"""Stores sums over calibration data in a folder, so that a second plan needs no run of the model.

There is one file per statistic, so only new statistics need a run. The name of a file is a hash of what its sums depend
on, which is also stored inside. If a file is damaged or does not match, its sums are computed again, with a warning.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from secateur.base.hashing import digest, of_values
from secateur.base.paths import PathLike, path_of
from secateur.base.writing import read_tensors, save_tensors
from secateur.errors import FileError, InputError
from secateur.graph.fingerprint import fingerprint_of, of_steps
from secateur.graph.graph import Graph
from secateur.statistics import processes
from secateur.statistics.batches import CalibrationBatch

FORMAT = "1"
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Part:
    """The sums of one statistic, and the numbers of examples and batches."""

    examples: int
    batches: int
    sums: Mapping[Key, Tensor]


@dataclass(frozen=True, slots=True)
class Store:
    """A folder with the sums of one model."""

    folder: Path
    marks: Mapping[str, str]

    @staticmethod
    def opened(path: PathLike, graph: Graph, **marks: Any) -> Store:
        """Open or create a folder. marks: what else sums depend on. Raises `InputError` if it cannot be a folder."""
        folder = path_of(path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cache={str(path)!r} cannot be a folder: {error.strerror}\npass another one") from error
        model = {**fingerprint_of(graph), "steps": of_steps(graph)}
        return Store(folder, {"format": FORMAT, **model, **{name: str(value) for name, value in marks.items()}})

    def at(self, need: str, data: str, **marks: Any) -> Entry:
        """Return the file of a statistic over data with this hash."""
        found = {**self.marks, "data": data, "need": need, **{name: str(value) for name, value in marks.items()}}
        return Entry(self.folder / f"{need}-{digest(json.dumps(found, sort_keys=True))}.safetensors", found)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of sums, and what they depend on."""

    path: Path
    marks: Mapping[str, str]

    def read(self) -> Part | None:
        """Return the stored sums; None if the file does not exist or cannot be used."""
        if not self.path.exists():
            return None
        try:
            tensors, texts = read_tensors(self.path)
            if {name: texts.get(name) for name in self.marks} != dict(self.marks):
                raise FileError(f"{self.path} was written for something else")
            sums = {(name, what): t for key, t in tensors.items() for what, _, name in [key.partition(" ")]}
            return Part(int(texts["examples"]), int(texts["batches"]), sums)
        except (FileError, KeyError, ValueError) as error:
            first = str(error).partition("\n")[0]
            warnings.warn(f"the cached sums cannot be used, so they are computed again: {first}", stacklevel=2)
            return None

    def write(self, part: Part) -> None:
        """Write sums; only one of several processes does."""
        if processes.first():
            tensors = {f"{what} {name}": tensor for (name, what), tensor in part.sums.items()}
            counts = {"examples": str(part.examples), "batches": str(part.batches)}
            save_tensors(self.path, tensors, {**self.marks, **counts})


class DataHash:
    """A hash of batches, in their order."""

    def __init__(self) -> None:
        self._seen: list[str] = []

    def add(self, batch: CalibrationBatch) -> None:
        self._seen.append(of_values((batch.call.args, dict(batch.call.kwargs), batch.targets)))

    def text(self) -> str:
        """Return a short hash of the data of all processes."""
        return digest(" ".join(processes.gathered(digest(" ".join(self._seen)))))


def hashed(found: Iterable[CalibrationBatch]) -> str:
    """Return the hash of batches without a run. Those of several processes are hashed together."""

    def run() -> DataHash:
        data = DataHash()
        for batch in found:
            data.add(batch)
        return data

    return processes.together(run).text()


__all__ = ["DataHash", "Entry", "Part", "Store", "hashed"]
