"""Objects that a model shares with others, such as a config: its own copies of those that are about to change."""

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
    """Copies that take the place of what modules hold; all modules that hold one object share one copy."""

    places: list[tuple[dict[str, Any], str, Any]] = field(default_factory=list)  # attributes of a module, name, copy
    copies: dict[int, Any] = field(default_factory=dict)  # by the ids of what they are copies of

    def of(self, owner: Any) -> Any:
        """The copy of an object; the object itself where the model keeps it."""
        return self.copies.get(id(owner), owner)

    def put(self) -> None:
        for table, name, value in self.places:
            table[name] = value


def own_objects(model: nn.Module, changing: Iterable[Any]) -> OwnObjects:
    """Copies of the plain objects among `changing`, and of what leads to them; the model is only read.

    None where a copy cannot be made, or where the model would still see an old one (a hook closes over it): such
    objects are to be changed as they are.
    """
    wanted = {id(one): one for one in changing if not isinstance(one, nn.Module)}
    kept: dict[int, Any] = {id(one): one for one in (*model.modules(), *(slot.tensor for slot in slots(model)))}
    copies, places = dict(kept), []
    for table in (vars(module) for module in model.modules()) if wanted else ():
        for name, value in table.items():
            if name not in TABLES and _leads(name, value, wanted):
                try:
                    places.append((table, name, copy.deepcopy(value, copies)))
                except Exception:  # noqa: BLE001 - of the object's own code
                    return OwnObjects()
    if any(_leads(name, value, wanted) for _, name, value in places):
        return OwnObjects()
    return OwnObjects(places, {key: copies[key] for key in wanted if key in copies})


def _leads(name: str, value: Any, wanted: dict[int, Any]) -> bool:
    return any(id(one) in wanted for one in held([{name: value}]))


__all__ = ["OwnObjects", "own_objects"]
