"""Measured values in a file: each is written as soon as it is known, so that whoever is killed goes on where it ended.

A value belongs to a model, and to whatever else it depends on. The file remembers fingerprints of all that, and is
refused where one of them is another: old values never pass for new ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from secateur.base.paths import PathLike, path_of
from secateur.base.writing import save_json
from secateur.errors import FileError
from secateur.probing.metric import number

FORMAT = 1


class JournalOptions(TypedDict, total=False):
    """What `search` and `sensitivity` take by name alike; `JournalSettings` says what each means and its default."""

    path: PathLike | None
    key: str
    progress: bool


@dataclass(frozen=True)
class JournalSettings:
    """Where values are kept, what else they depend on, and whether a bar shows how far the run has come.

    path: a JSON file to which every value is written as soon as it is known. key: a name for whatever the fingerprints
    do not hold, such as the data.
    """

    path: PathLike | None = None
    key: str = ""
    progress: bool = False


@dataclass(slots=True)
class Journal:
    """Numbers by key. `kind` says what they are, `fingerprint` by part what they depend on, `about` what they mean."""

    kind: str
    fingerprint: Mapping[str, str]
    values: dict[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    path: PathLike | None = None

    @staticmethod
    def opened(
        path: PathLike | None, kind: str, fingerprint: Mapping[str, str], about: Mapping[str, Any] | None = None
    ) -> Journal:
        """The journal of a file, with what it holds already; a new one where there is no such file, or no path.

        Raises `FileError` where the file is something else, or of something else, and `InputError` where it cannot be
        written to: before anything is measured.
        """
        journal = Journal(kind, fingerprint, {}, about or {}, path)
        if path is not None and path_of(path).exists():
            before = Journal.read(path, kind)
            _check_same(path, before.fingerprint, fingerprint)
            journal.values.update(before.values)
        journal._save()
        return journal

    def measured(self, key: str, measure: Callable[[], float]) -> float:
        """The value of a key: what the file says, or else what is measured now, and written."""
        if key not in self.values:
            self.values[key] = measure()
            self._save()
        return self.values[key]

    def _save(self) -> None:
        if self.path is not None:
            save_json(self.path, self.to_json())

    def to_json(self) -> str:
        head = {"format": FORMAT, "kind": self.kind, "fingerprint": dict(self.fingerprint), "about": self.about}
        return json.dumps({**head, "values": self.values}, indent=1, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str, kind: str) -> Journal:
        """Read it back. Raises `FileError` where the text is no journal of this kind."""
        try:
            data = json.loads(text)
            if (data["format"], data["kind"]) != (FORMAT, kind):
                raise ValueError(f"format {data['format']!r} of kind {data['kind']!r}, not {FORMAT} of kind {kind!r}")
            values = {str(key): number(value) for key, value in data["values"].items()}
            return Journal(kind, dict(data["fingerprint"]), values, data["about"])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise FileError(f"this is no {kind} file of secateur: {type(error).__name__}: {error}") from error

    @staticmethod
    def read(path: PathLike, kind: str) -> Journal:
        """The journal in a file. Raises `FileError` where there is none."""
        try:
            return Journal.from_json(path_of(path).read_text(encoding="utf-8"), kind)
        except FileError as error:
            raise FileError(f"{path}: {error}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise FileError(f"{path} cannot be read: {reason}") from error


def _check_same(path: PathLike, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    for part, now in new.items():
        if old.get(part) != now:
            raise FileError(
                f"{path} was measured with other {part}\n"
                f"  there  {old.get(part, 'none')}\n  here   {now}\n"
                "give another path, or delete the file to measure all of it again"
            )


def key_of(*parts: object) -> str:
    """What was measured, as the key of its value.

    >>> key_of("conv1", 24)
    'conv1:24'
    """
    return ":".join(map(str, parts))


__all__ = ["Journal", "key_of"]
