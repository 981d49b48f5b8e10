"""How a pattern means a name: by a glob over dotted names, where the name of a module means all that lies in it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator


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
    return any(fnmatch.fnmatchcase(head, p) for head in enclosing(name) for p in (pattern, literal))
