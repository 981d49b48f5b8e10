"""Selections in YAML or JSON files, with the same options as in Python.

select:                            # or the list of rules alone
  - {match: layer4.*, keep: 0.5}
  - type=Linear: floor=16 align=8
protect: [head]
floor: 0.1
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from secateur.base.paths import PathLike, path_of
from secateur.errors import FileError, nearest

REMEDY = "write a list of rules, or a mapping with a list of rules under 'select'"


def read(path: PathLike) -> Any:
    """Return the lists and mappings of a file. Raises `FileError` if it is missing or cannot be read."""
    file = path_of(path)
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise FileError(f"{path} is not a selection file\nits name must end in one of {', '.join(READERS)}")
    if not file.is_file():
        near = nearest(file.name, (other.name for other in file.parent.glob("*")))
        raise FileError(f"no file {path}{near}")
    try:
        data = reader(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} cannot be read: {error or type(error).__name__}\n{REMEDY}") from error
    if not isinstance(data, (list, Mapping)) or not data:
        raise FileError(f"{path} holds {'nothing' if data is None else repr(data)}\n{REMEDY}")
    return data


def is_selection(text: str) -> bool:
    """Return whether a string is the name of a selection file, rather than a rule."""
    return Path(text).suffix.lower() in READERS


def _once(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return pairs as a mapping. Raises `ValueError` if a key occurs twice."""
    found: dict[Any, Any] = {}
    for word, value in pairs:
        if word in found:
            raise ValueError(f"{word!r} is set twice; keep one")
        found[word] = value
    return found


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise FileError("YAML needs PyYAML\nrun pip install 'secateur[yaml]', or write the same as .json") from error

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            return _once(
                (self.construct_object(k, deep=True), self.construct_object(v, deep=True)) for k, v in node.value
            )

    Loader.add_constructor("tag:yaml.org,2002:map", Loader.construct_mapping)
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"{error}\nquote any string that begins with a *, as in match: '*.attn'") from error


READERS: dict[str, Callable[[str], Any]] = {".yaml": _yaml, ".yml": _yaml, ".json": _json}
"""Suffix of a file name -> reader of its text."""
