"""Functions whose results are cached by their arguments, such as `functools.lru_cache` makes them.

A size that becomes part of a key loses its history: the key is compared with those of other calls by value. During a
trace such a function is called without its cache wherever sizes are among its arguments. einops looks up the recipe of
every `rearrange` so.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from secateur.trace.tracked_ints import Num

Cached = functools._lru_cache_wrapper


class Memoised(NamedTuple):
    """A cached function, and where it is bound: a class, or the globals of a module."""

    owner: Any
    name: str
    function: Any
    binding: Any  # what it is wrapped in: `staticmethod`, `classmethod`, or None

    def replacement(self) -> Any:
        """What is bound there during a trace."""
        call = _uncached(self.function)
        return self.binding(call) if self.binding is not None else call


@functools.lru_cache(maxsize=1024)
def _uncached(function: Any) -> Any:
    """Return what does the same without the cache where a size is among the arguments."""

    @functools.wraps(function.__wrapped__)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function.__wrapped__ if _holds_size((args, kwargs)) else function)(*args, **kwargs)

    for name in ("cache_info", "cache_clear", "cache_parameters"):
        setattr(call, name, getattr(function, name))
    _originals[call] = function
    return call


_originals: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # the cached functions, by what stands in for them


def _holds_size(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_size, value.values()))
    return any(map(_holds_size, value)) if isinstance(value, (tuple, list)) else isinstance(value, Num)


class Search:
    """The cached functions that the methods of classes, and functions, reach by name; also in other modules.

    theirs: whether a module, by its name, belongs to the user's code or to a library of theirs.
    """

    def __init__(self, theirs: Any):
        self.theirs = theirs
        self.found: dict[tuple[int, str], Memoised] = {}
        self._seen: set[CodeType] = set()

    def of(self, held: type | FunctionType) -> None:
        """Search the methods of a class, or a function."""
        for name, value in vars(held).items() if isinstance(held, type) else (("", held),):
            self._value(held, name, value)

    def _value(self, owner: Any, name: str, value: Any) -> None:
        binding = next((kind for kind in (staticmethod, classmethod) if isinstance(value, kind)), None)
        value = value.__func__ if binding is not None else value
        if isinstance(value, FunctionType):  # another trace may have replaced it
            value = _originals.get(value, value)
        if isinstance(value, Cached):
            self.found[id(owner), name] = Memoised(owner, name, value, binding)
            value = value.__wrapped__
        if isinstance(value, FunctionType) and value.__code__ not in self._seen and self.theirs(value.__module__):
            self._seen.add(value.__code__)
            for table, at in _named(names_in(value.__code__), value.__globals__):
                self._value(table, at, table[at])


def _named(names: frozenset[str], table: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """The globals of that name, and what is taken from modules by that name."""
    for name in names & table.keys():
        yield table, name
        if isinstance(table[name], ModuleType):
            yield from ((vars(table[name]), inner) for inner in names & vars(table[name]).keys())


@functools.lru_cache(maxsize=4096)
def names_in(code: CodeType) -> frozenset[str]:
    """All names that a piece of code, with the functions in it, looks up."""
    return frozenset(code.co_names).union(*(names_in(part) for part in code.co_consts if isinstance(part, CodeType)))
