"""Time a cut by secateur and by Torch-Pruning in alternation, in one process on one thread.

A run starts with the model in memory and ends with the model pruned in place: ours is trace, plan and `cut_`, theirs is
building the graph and pruning, both by weight norms at the same share of channels. Seconds are processor time, which
does not depend on other load on the machine. A tiny network is pruned first, to trigger late imports.
"""

from __future__ import annotations

import copy
import gc
import time
import warnings
from collections.abc import Callable
from statistics import median
from typing import Any

from torch import nn

import secateur
import zoo
from secateur.anatomy.calls import Call

from . import hints, theirs
from .common import TARGET, params_of, subject, tiny
from .pool import OutOfTime, limited, told

REPEATS = 3
BUDGET = 12.0
"""Seconds after which no further repeat of a side is started."""
Side = Callable[[nn.Module], Any]


def examine(name: str, *, alone: bool = False) -> dict[str, Any]:
    """Return the seconds of each side (median of up to three runs), and the share of parameters that it left.

    alone: run ours only, if theirs is known to fail or to take too long.
    """
    entry, model, call = subject(name)
    warnings.simplefilter("ignore")
    small, image = tiny()
    first = zoo.Entry("tiny", "", lambda: small, lambda: image)
    for warm in _sides(first, small, image).values():
        warm(copy.deepcopy(small))
    runs: dict[str, list[float]] = {"ours": [], "theirs": []}
    found: dict[str, Any] = {"verdict": "timed"}
    sides = _sides(entry, model, call)
    if alone:
        del sides["theirs"]
    for _ in range(REPEATS):
        for side, prune in sides.items():
            if side not in found and sum(runs[side]) < BUDGET:
                _once(side, prune, model, runs[side], found)
    return found | {f"{side}_seconds": median(seconds) for side, seconds in runs.items() if seconds}


def _once(side: str, prune: Side, model: nn.Module, seconds: list[float], found: dict[str, Any]) -> None:
    twin = copy.deepcopy(model)
    gc.collect()
    start = time.process_time()
    try:
        with limited(theirs.LIMIT):
            prune(twin)
    except OutOfTime:
        found[side] = {"error": f"over {theirs.LIMIT:.0f} s"}
    except Exception as error:
        found[side] = told(error)
    else:
        seconds.append(time.process_time() - start)
        found[f"{side}_left"] = params_of(twin) / params_of(model)


def _sides(entry: zoo.Entry, model: nn.Module, call: Call) -> dict[str, Side]:
    import torch_pruning as tp

    known = hints.known(entry, model, call)

    def ours(twin: nn.Module) -> None:
        secateur.cut_(twin, secateur.plan(secateur.trace(twin, call), TARGET, importance="l2"))

    def incumbent(twin: nn.Module) -> None:
        theirs.pruner(twin, call, known, entry, tp.importance.GroupMagnitudeImportance(p=2)).step()

    return {"ours": ours, "theirs": incumbent}
