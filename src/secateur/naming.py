"""How a pattern means a name: by a glob over dotted names, where the name of a module means all that lies in it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

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
