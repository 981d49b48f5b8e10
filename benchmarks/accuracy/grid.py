"""Both sides over their settings, one row of figures for each, as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from . import incumbent, ours
from .results import Row
from .task import Task, norms_reestimated


@dataclass(frozen=True, slots=True)
class Sought:
    """What to measure. names: criteria of theirs or configurations of ours, all where empty. seen: rows left out."""

    shares: Sequence[float]
    names: str = ""
    scopes: Sequence[str] = tuple(incumbent.SCOPES)
    seen: Callable[[Row], bool] = lambda row: False


def dense(task: Task, images: str) -> Row:
    """The model before any cut."""
    return _head(task, "dense", "dense", 1.0, images) | {"recovery": "raw", **task.evaluate(task.model)}


def of_ours(task: Task, sought: Sought, images: str) -> Iterator[Row]:
    """Every configuration at every share, as it is and with batch norms re-estimated."""
    for config in ours.configs(task.name, sought.names):
        for share in sought.shares:
            head = _head(task, "ours", config.name, share, images)
            yield from _measured(task, head, sought, lambda c=config, s=share: (ours.pruned(task, c, s), {}))


def of_theirs(task: Task, sought: Sought, images: str) -> Iterator[Row]:
    """Every criterion, choice of widths and scope at every share, raw and with batch norms re-estimated."""
    names = sought.names.split(",") if sought.names else list(incumbent.CRITERIA)
    for name in names:
        for widths in task.hints.ignored:
            heads = [
                _head(task, "theirs", name, share, images) | {"scope": scope, "widths": widths}
                for scope in sought.scopes
                if scope in incumbent.CRITERIA[name].scopes
                for share in sought.shares
            ]
            if all(sought.seen(head | {"recovery": "raw"}) for head in heads):
                continue
            began = time.perf_counter()
            try:
                ready = incumbent.scores(task, name, widths)
            except Exception as error:
                yield from (head | {"recovery": "raw", "error": told(error)} for head in heads)
                continue
            scoring = {"scoring_seconds": round(time.perf_counter() - began, 2)}
            for head in heads:
                yield from _measured(task, head | scoring, sought, lambda h=head, r=ready: _fitted(task, h, r))


def _fitted(task: Task, head: Row, ready: incumbent.Scores) -> tuple[nn.Module, Row]:
    model, ratio = incumbent.fitted(task, ready, head["scope"], head["widths"], head["share"])
    return model, {"ratio": ratio}


def _measured(task: Task, head: Row, sought: Sought, made: Callable[[], tuple[nn.Module, Row]]) -> Iterator[Row]:
    if sought.seen(head | {"recovery": "raw"}):
        return
    began = time.perf_counter()
    try:
        model, more = made()
        found = head | more | task.left(model)
        seconds = time.perf_counter() - began
        yield found | {"recovery": "raw", "seconds": round(seconds, 2), **task.evaluate(model)}
        began = time.perf_counter()
        renormed = norms_reestimated(model, task.batches)
        if renormed is not None:
            seconds += time.perf_counter() - began
            yield found | {"recovery": "norms", "seconds": round(seconds, 2), **task.evaluate(renormed)}
    except Exception as error:
        yield head | {"recovery": "raw", "error": told(error)}


def _head(task: Task, side: str, name: str, share: float, images: str) -> Row:
    return {"task": task.name, "side": side, "name": name, "share": share, "seed": task.seed, "images": images}


def told(error: Exception) -> str:
    """The kind and the first line of an error."""
    text: Any = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:160]}"
