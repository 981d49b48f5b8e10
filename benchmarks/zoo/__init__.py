"""The models that the survey runs on, each with seeded random weights and an example call. Nothing is downloaded.

    from zoo import entries, find
    model, call = find("timm:resnet10t").build(), find("timm:resnet10t").call()

One file a source: `torchvision_models`, `timm_models`, `hf_models` (Hugging Face transformers).
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Iterator

from .entry import Entry

SOURCES = ("torchvision", "timm", "hf")


def entries(pattern: str = "*") -> Iterator[Entry]:
    """Yield the models whose name ("timm:resnet10t") matches a glob, source by source."""
    for source in SOURCES:
        if fnmatch.fnmatchcase(source, pattern.partition(":")[0]):
            module = importlib.import_module(f"{__name__}.{source}_models")
            yield from (entry for entry in module.ENTRIES if fnmatch.fnmatchcase(entry.name, pattern))


def find(name: str) -> Entry:
    """Return the model with this name. Raises `KeyError` if there is none."""
    source = name.partition(":")[0]
    if source in SOURCES:
        module = importlib.import_module(f"{__name__}.{source}_models")
        for entry in module.ENTRIES:
            if entry.name == name:
                return entry
    raise KeyError(f"no model of the zoo is named {name!r}")


__all__ = ["SOURCES", "Entry", "entries", "find"]
