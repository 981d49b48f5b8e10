"""The runtime `loader`: a Python file that loads a saved model on machines without secateur.

Its code is `secateur/export/load_pruned.py`, an ordinary module. The source of everything that it imports from secateur
is copied into the exported file, which therefore needs only torch and safetensors.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
from importlib.resources import files

from secateur.files.model_file import read_plans

_IMPORTS = re.compile(r"(?:^from secateur\S* import \w+\n)+", re.MULTILINE)
_ONE = re.compile(r"from (\S+) import (\w+)\n")
_PART = re.compile(r"^ *# (\w+): begin\n(.*?)^ *# \1: end\n", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"\n\n +>>> .*?(?=\n +\"\"\")", re.DOTALL)
_FOR_CHECKERS = re.compile(r"  # (?:type: ignore|noqa).*$", re.MULTILINE)


def loader_source(path: str | os.PathLike[str]) -> str:
    """Return the source of a Python file with one function, `load_pruned(model, path)`, that does not need secateur.

    The code that closes gaps in lists of layers, and that copies objects which modules hold, is left out if the saved
    model does not need it.

    Args:
        path: A file that `secateur.save` wrote. It is checked, and named in the first lines of the source.

    Returns:
        Python source.

    Raises:
        FileError: `path` is not such a file.

    Example:
        >>> loader_source("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        secateur.errors.FileError: no file nowhere.safetensors
    """
    plans = read_plans(path)
    closes = any(plan.renumbered is not None for plan in plans)
    owns = closes or any("." in change.name for plan in plans for change in plan.attributes)
    needed = {"lists": closes, "owning": owns}
    source = files("secateur.export").joinpath("load_pruned.py").read_text(encoding="utf-8")
    source = _PART.sub(lambda part: part[2] if needed[part[1]] else "", source)
    source = _FOR_CHECKERS.sub("", _IMPORTS.sub(lambda imports: _written_out(imports[0]), source))
    name = json.dumps(os.fspath(path)).replace("\\\\", "\\\\\\\\")
    return source.replace('"model.safetensors"', name, 1)


def _written_out(imports: str) -> str:
    """Return the source of the classes and functions that these lines import."""
    found = [getattr(importlib.import_module(module), name) for module, name in _ONE.findall(imports)]
    sources = (_EXAMPLE.sub("", inspect.getsource(one)) for one in found)
    return "\n" + "\n\n".join(sources) + "\n"
