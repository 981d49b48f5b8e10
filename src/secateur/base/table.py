"""Tables of extensions: an ordinary dict, to which each name is added once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Table(dict[K, V]):
    """A dict that refuses a second value for a name, so that one extension does not silently replace another.

    A name that was deleted may be added again.

    Args:
        what: What the rows are, as the error says it: "rules for".
        rows: The rows to begin with.

    Raises:
        ValueError: Where a name is added that the table has.

    Example:
        >>> shapes = Table("shapes named", {"square": 4})
        >>> shapes["triangle"] = 3
        >>> shapes["square"] = 5
        Traceback (most recent call last):
            ...
        ValueError: two shapes named square
    """

    def __init__(self, what: str, rows: Mapping[K, V] | None = None) -> None:
        super().__init__(rows or {})
        self.what = what

    def __setitem__(self, name: K, value: V) -> None:
        if name in self:
            raise ValueError(f"two {self.what} {name}")
        super().__setitem__(name, value)

    def register(self, *names: K) -> Callable[[V], V]:
        """Return a decorator that adds a function or class under these names.

        Args:
            names: The names; all of them mean the same value.

        Returns:
            The decorator. It returns its argument unchanged.

        Example:
            >>> doubles = Table("ways to double a")
            >>> @doubles.register("number", "string")
            ... def double(x):
            ...     return x + x
            >>> doubles["string"]("ab")
            'abab'
        """

        def add(value: V) -> V:
            for name in names:
                self[name] = value
            return value

        return add
