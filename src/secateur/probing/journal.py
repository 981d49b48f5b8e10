"""A file of measured values: each is written as soon as it is known, so that an interrupted run can continue.

The file stores fingerprints of the model and of everything else that the values depend on. It is refused if one of them
differs, so old values are never taken for new ones.
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
    """The keyword options that `search` and `sensitivity` share; `JournalSettings` describes them."""

    path: PathLike | None
    key: str
    progress: bool


@dataclass(frozen=True)
class JournalSettings:
    """Where values are stored, and what they depend on.

    path: a JSON file to which every value is written as soon as it is known. key: a name for everything that the
    fingerprints do not cover, such as the data. progress: whether to show a progress bar.
    """

    path: PathLike | None = None
    key: str = ""
    progress: bool = False


@dataclass(slots=True)
class Journal:
    """Numbers by key. `kind` names the measurement, `fingerprint` has what they depend on, `about` describes them."""

    kind: str
    fingerprint: Mapping[str, str]
    values: dict[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    path: PathLike | None = None

    @staticmethod
    def opened(
        path: PathLike | None, kind: str, fingerprint: Mapping[str, str], about: Mapping[str, Any] | None = None
    ) -> Journal:
        """Open the journal in a file with its values, or start a new one where there is no file or no path.

        Raises, before anything is measured, `FileError` if the file is not a journal or has other fingerprints, and
        `InputError` if it cannot be written.
        """
        journal = Journal(kind, fingerprint, {}, about or {}, path)
        if path is not None and path_of(path).exists():
            before = Journal.read(path, kind)
            _check_same(path, before.fingerprint, fingerprint)
            journal.values.update(before.values)
        journal._save()
        return journal

    def measured(self, key: str, measure: Callable[[], float]) -> float:
        """Return the value of a key; measure and write it if the journal does not have it."""
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
        """Read a journal from JSON. Raises `FileError` if the string is not a journal of this kind."""
        try:
            data = json.loads(text)
            if (data["format"], data["kind"]) != (FORMAT, kind):
                raise ValueError(f"format {data['format']!r} of kind {data['kind']!r}, not {FORMAT} of kind {kind!r}")
            values = {str(key): number(value) for key, value in data["values"].items()}
            return Journal(kind, dict(data["fingerprint"]), values, data["about"])
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise FileError(f"this is not a {kind} file of secateur: {type(error).__name__}: {error}") from error

    @staticmethod
    def read(path: PathLike, kind: str) -> Journal:
        """Read the journal in a file. Raises `FileError` if there is none."""
        try:
            return Journal.from_json(path_of(path).read_text(encoding="utf-8"), kind)
        except FileError as error:
            raise FileError(f"{path}: {error}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
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
    """Return the key of a value from what was measured.

    >>> key_of("conv1", 24)
    'conv1:24'
    """
    return ":".join(map(str, parts))


__all__ = ["Journal", "key_of"]
