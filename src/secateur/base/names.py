"""Dotted names: patterns that match them, and the modules that contain them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator
from typing import Any

_STORED = re.compile(r"(^|\.)parametrizations\.(\w+)\.original$")


def plain_of(name: str) -> str:
    """Return the name that a parameter had before it was parametrized, for example by a mask.

    >>> plain_of("conv1.parametrizations.weight.original"), plain_of("conv1.weight")
    ('conv1.weight', 'conv1.weight')
    """
    return _STORED.sub(r"\1\2", name)


def enclosing(name: str) -> Iterator[str]:
    """Yield the modules around a dotted name, outermost first, and then the name itself.

    >>> list(enclosing("layer1.0.conv1"))
    ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def means(pattern: str, name: str) -> bool:
    """Return whether a glob matches a dotted name, or the name of a module around it.

    The brackets in the name of an axis, such as `[0]`, are taken literally and not as a set of characters.

    >>> means("layer*", "layer1.0.conv1"), means("attn.qkv[0]", "attn.qkv[0]"), means("conv1", "layer1.0.conv1")
    (True, True, False)
    """
    literal = pattern.replace("[", "[[]")
    heads = [*enclosing(name), plain_of(name)]
    return any(fnmatch.fnmatchcase(head, p) for head in heads for p in (pattern, literal))


def above(name: str) -> Iterator[str]:
    """Yield the modules around a module, innermost first."""
    yield from reversed([*enclosing(name)][:-1])


def inside(name: str, modules: Collection[str]) -> bool:
    """Return whether a dotted name is one of these modules or is inside one of them."""
    if not modules:
        return False
    return any(name[:i] in modules for i in (*(i for i, letter in enumerate(name) if letter == "."), len(name)))


DEPTH = 3  # attributes are read to this depth, as in self.config.text_config.rope_parameters


def may_count(name: Any) -> bool:
    """Return whether this is a string that can name a number of a class: `heads`, `_heads`; not `__len__`, `_buffers`.

    >>> [name for name in ("heads", "_heads", "__len__", "_buffers") if may_count(name)]
    ['heads', '_heads']
    """
    private = isinstance(name, str) and name.startswith("_") and name not in _OF_TORCH
    return is_public(name[1:] if private else name)


_OF_TORCH = frozenset({"_parameters", "_buffers", "_modules", "_version", "_non_persistent_buffers_set"})


def is_public(name: Any) -> bool:
    """Return whether this is a string that can name a public attribute."""
    return isinstance(name, str) and not name.startswith("_") and name.isidentifier()
