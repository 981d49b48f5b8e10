"""Of each of timm's families (the modules of `timm.models`), the two smallest models by parameters.

`timm_models.json` lists them, with their parameters and the side of the smallest input that they take; it was made by

    python benchmarks/zoo/timm_models.py

which builds every model of timm on the meta device (half an hour on one core).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

LISTING = Path(__file__).with_suffix(".json")
SIDES = (96, 128, 160, 192, 224, 256)
PER_FAMILY = 2
SMALLER: dict[str, dict[str, Any]] = {
    "deepseek_vit_412m": {"depth": 4},
    "deepseek_vit_412m_align": {"depth": 4},
    "mobilenetv5_300m": {"channel_multiplier": 0.5},
}
"""The smallest of their families and still too large for several copies in float64: fewer of the same blocks, or
narrower ones."""


def _maker(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, pretrained=False, **SMALLER.get(name, {}))


def _entries() -> Iterator[Any]:
    from .entry import Entry, image

    for row in json.loads(LISTING.read_text()):
        yield Entry(f"timm:{row['name']}", row["family"], _maker(row["name"]), image(1, 3, row["side"], row["side"]))


def smallest(family: str) -> list[tuple[int, str]]:
    """Parameters and names of the smallest models of a family."""
    sizes = sorted((_size(name), name) for name in timm.list_models(module=family))
    return sizes[:PER_FAMILY]


def _size(name: str) -> int:
    """The number of parameters. What cannot be built without values is built with them."""
    try:
        with torch.device("meta"):
            model = timm.create_model(name)
    except (RuntimeError, NotImplementedError):
        model = timm.create_model(name)
    return sum(p.numel() for p in model.parameters())


def side(name: str) -> int:
    """The side of the smallest square image, from `SIDES` up to its own size, that a model takes."""
    model = timm.create_model(name).eval()
    own = model.default_cfg.get("input_size", (3, 224, 224))[-1]
    for length in (*(s for s in SIDES if s < own), own):
        try:
            with torch.no_grad():
                model(torch.zeros(1, 3, length, length))
        except (RuntimeError, AssertionError, ValueError):
            continue
        return length
    raise RuntimeError(f"{name} takes no square image")


def main() -> None:
    """Write the listing."""
    rows = []
    for family in sorted(timm.list_modules()):
        for params, name in smallest(family):
            rows.append({"family": family, "name": name, "params": params, "side": side(name)})
            print(rows[-1], flush=True)
    LISTING.write_text("[\n" + ",\n".join(f" {json.dumps(row)}" for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
else:
    ENTRIES = list(_entries())
