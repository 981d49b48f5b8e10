"""The best settings of each side, by the mean over seeds."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean
from typing import Any

import record

from .results import Row

MEASURES = ("top1", "agreement", "cosine", "probe")
SHOWN = 5


def best(rows: list[Row]) -> str:
    """Return a table of the settings with the largest first measure, by task, share, side and recovery."""
    groups: defaultdict[Any, defaultdict[Any, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if "error" not in row:
            group = (row["task"], row["images"], -row["share"], row["side"], row["recovery"])
            groups[group][row["name"], row.get("scope", ""), row.get("widths", "")].append(row)
    measures = [m for m in MEASURES if any(m in row for row in rows)]
    lines = [line for group in sorted(groups) for line in _lines(group, groups[group], measures)]
    return record.table(["task", "times", "side", "recovery", "setting", "MACs left", "seeds", *measures], lines)


def _lines(group: Any, settings: dict[Any, list[Row]], measures: list[str]) -> list[list[str]]:
    task, images, share, side, recovery = group
    ranked = sorted(settings.items(), key=lambda item: -mean(row[measures[0]] for row in item[1]))
    return [
        [
            f"{task} ({images})",
            f"{-1 / share:.2g}",
            side,
            recovery,
            " ".join(filter(None, setting)),
            f"{mean(row.get('macs', 1.0) for row in found):.1%}",
            str(len(found)),
            *(f"{mean(row[m] for row in found):.4f}" for m in measures),
        ]
        for setting, found in ranked[:SHOWN]
    ]
