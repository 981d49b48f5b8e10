"""How a pattern means a name: by a glob over dotted names, where the name of a module means all that lies in it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator
from typing import Any

_STORED = re.compile(r"(^|\.)parametrizations\.(\w+)\.original$")


def plain_of(name: str) -> str:
    """What a parameter was called before its weight was computed from it, as where it wears a mask.

    >>> plain_of("conv1.parametrizations.weight.original"), plain_of("conv1.weight")
    ('conv1.weight', 'conv1.weight')
    """
    return _STORED.sub(r"\1\2", name)


def enclosing(name: str) -> Iterator[str]:
    """A dotted name and the modules around it, outermost first.

    >>> list(enclosing("layer1.0.conv1"))
    ['layer1', 'layer1.0', 'layer1.0.conv1']
    """
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def means(pattern: str, name: str) -> bool:
    """A pattern means a name, or every name inside the module it names. The [0] of an axis is no set of letters.

    >>> means("layer*", "layer1.0.conv1"), means("attn.qkv[0]", "attn.qkv[0]"), means("conv1", "layer1.0.conv1")
    (True, True, False)
    """
    literal = pattern.replace("[", "[[]")
    heads = [*enclosing(name), plain_of(name)]
    return any(fnmatch.fnmatchcase(head, p) for head in heads for p in (pattern, literal))


def above(name: str) -> Iterator[str]:
    """The modules that a module lies in, the innermost first."""
    while name := name.rpartition(".")[0]:
        yield name


def inside(name: str, modules: Collection[str]) -> bool:
    """Whether a dotted name lies in one of these modules, or is one."""
    if not modules:
        return False
    return any(name[:i] in modules for i in (*(i for i, letter in enumerate(name) if letter == "."), len(name)))


DEPTH = 3  # self.config.text_config.rope_parameters, and no deeper


def is_public(name: Any) -> bool:
    """Whether this can be the name of an attribute that is no private one."""
    return isinstance(name, str) and not name.startswith("_") and name.isidentifier()
