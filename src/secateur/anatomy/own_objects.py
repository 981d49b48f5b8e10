"""Copies of objects that a model shares with others, such as a config, before a cut changes them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from secateur.anatomy.keeping import TABLES, held
from secateur.anatomy.slots import slots


@dataclass(frozen=True)
class OwnObjects:
    """Copies that replace objects that modules hold; all modules that hold one object share its copy."""

    places: list[tuple[dict[str, Any], str, Any]] = field(default_factory=list)  # attributes of a module, name, copy
    copies: dict[int, Any] = field(default_factory=dict)  # by the ids of the originals

    def of(self, owner: Any) -> Any:
        """Return the copy of an object; the object itself where the model keeps it."""
        return self.copies.get(id(owner), owner)

    def put(self) -> None:
        """Put the copies into the modules."""
        for table, name, value in self.places:
            table[name] = value


def own_objects(model: nn.Module, changing: Iterable[Any]) -> OwnObjects:
    """Copy the plain objects among `changing`, and what leads to them, without changing the model.

    Nothing is copied where a copy fails, or where the model would still use an original (such as in the closure of a
    hook): those objects are then changed in place.
    """
    wanted = {id(one): one for one in changing if not isinstance(one, nn.Module)}
    kept: dict[int, Any] = {id(one): one for one in (*model.modules(), *(slot.tensor for slot in slots(model)))}
    copies, places = dict(kept), []
    for table in (vars(module) for module in model.modules()) if wanted else ():
        for name, value in table.items():
            if name not in TABLES and _leads(name, value, wanted):
                try:
                    places.append((table, name, copy.deepcopy(value, copies)))
                except Exception:  # noqa: BLE001 - the copy runs code of the object
                    return OwnObjects()
    if any(_leads(name, value, wanted) for _, name, value in places):
        return OwnObjects()
    return OwnObjects(places, {key: copies[key] for key in wanted if key in copies})


def _leads(name: str, value: Any, wanted: dict[int, Any]) -> bool:
    return any(id(one) in wanted for one in held([{name: value}]))


__all__ = ["OwnObjects", "own_objects"]
