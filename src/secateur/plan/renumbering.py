"""Names of modules and tensors before and after gaps are closed in lists that layers were removed from.

A plan uses the names from before the cut: `layers.3` is the fourth layer even if an earlier one is removed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from secateur.base.names import inside


class Names:
    """The names of modules and tensors before and after gaps are closed. True as a bool if any name changes."""

    def __init__(self, removed: Collection[str], lists: Collection[str]):
        self._gone: dict[str, list[int]] = {name: [] for name in lists}
        self._closed = {name for name in removed if name.rpartition(".")[0] in self._gone}
        for name in self._closed:
            holder, _, place = name.rpartition(".")
            self._gone[holder].append(int(place))

    def __bool__(self) -> bool:
        return any(self._gone.values())

    def removes(self, name: str) -> bool:
        """Return whether a name is, or is inside, a module whose gap is closed."""
        return inside(name, self._closed)

    def shortens(self, name: str) -> bool:
        """Return whether a list loses members."""
        return bool(self._gone.get(name))

    def places(self, name: str) -> list[tuple[int, int]]:
        """Return the indices of a module and of those that contain it in closed lists that change: before and after."""
        pairs = zip(name.split("."), self.after(name).split("."), strict=True)
        return [(int(old), int(new)) for old, new in pairs if old != new]

    def after(self, name: str) -> str:
        """Return the name after the cut of what is called `name` before it.

        >>> Names({"layers.1"}, ["layers"]).after("layers.3.mlp.weight")
        'layers.2.mlp.weight'
        """
        parts = name.split(".")
        new = list(parts)
        for i in range(1, len(parts)) if self else ():
            gone = self._gone.get(".".join(parts[:i]), ())
            if gone and parts[i].isdecimal():
                new[i] = str(int(parts[i]) - sum(place < int(parts[i]) for place in gone))
        return ".".join(new)

    def before(self, name: str) -> str:
        """Return the name before the cut of what is called `name` after it.

        >>> Names({"layers.1"}, ["layers"]).before("layers.2.mlp.weight")
        'layers.3.mlp.weight'
        """
        parts = name.split(".")
        for i in range(1, len(parts)) if self else ():
            gone = self._gone.get(".".join(parts[:i]), ())
            if gone and parts[i].isdecimal():
                parts[i] = str(_opened(int(parts[i]), gone))
        return ".".join(parts)


def _opened(place: int, gone: Iterable[int]) -> int:
    for other in sorted(gone):
        place += other <= place
    return place
