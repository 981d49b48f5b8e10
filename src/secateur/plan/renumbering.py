"""What modules and tensors are called before and after the gaps of lists are closed, from which layers were removed.

A plan speaks of a model as it was before the cut: `layers.3` is the fourth layer, whatever went before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from secateur.base.names import inside


class Names:
    """Names of modules and tensors before and after gaps are closed. Truthy where any name changes."""

    def __init__(self, removed: Collection[str], lists: Collection[str]):
        self._gone: dict[str, list[int]] = {name: [] for name in lists}
        self._closed = {name for name in removed if name.rpartition(".")[0] in self._gone}
        for name in self._closed:
            holder, _, place = name.rpartition(".")
            self._gone[holder].append(int(place))

    def __bool__(self) -> bool:
        return any(self._gone.values())

    def removes(self, name: str) -> bool:
        """Whether a name is, or lies in, a module whose gap is closed."""
        return inside(name, self._closed)

    def shortens(self, name: str) -> bool:
        """Whether a list loses members."""
        return bool(self._gone.get(name))

    def places(self, name: str) -> list[tuple[int, int]]:
        """The places of a module, and of the modules that it lies in, in closed lists: before and after."""
        pairs = zip(name.split("."), self.after(name).split("."), strict=True)
        return [(int(old), int(new)) for old, new in pairs if old != new]

    def after(self, name: str) -> str:
        """What is called `name` before, afterwards.

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
        """What is called `name` afterwards, before.

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
