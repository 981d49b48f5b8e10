"""Measure both sides over their settings, and yield one row of figures for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from . import incumbent, ours
from .results import Row
from .task import Task, has_norms, norms_reestimated

THEIRS = ("raw", "norms")
"""The recoveries of Torch-Pruning's models."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What to measure; empty lists mean all that a side has. seen: whether to skip a row."""

    shares: Sequence[float]
    names: Sequence[str] = ()
    scopes: Sequence[str] = ()
    widths: Sequence[str] = ()
    recoveries: Sequence[str] = ()
    seen: Callable[[Row], bool] = lambda row: False


def dense(task: Task, images: str) -> Row:
    """Measure the model before any cut."""
    return _head(task, "dense", "dense", 1.0, images) | {"recovery": "raw", **task.evaluate(task.model)}


def of_ours(task: Task, sought: Sought, images: str) -> Iterator[Row]:
    """Measure every criterion, scope and choice of widths at every share, with each recovery on a new cut."""
    recoveries = [r for r in sought.recoveries or ours.RECOVERIES if r != "norms" or has_norms(task.model)]
    settings = [
        ours.Setting(name, scope, widths)
        for name in sought.names or ours.NAMES
        for scope in sought.scopes or ours.SCOPES
        for widths in sought.widths or task.hints.ignored
    ]
    ready: ours.Ready | None = None
    for setting in settings:
        for share in sought.shares:
            head = _head(task, "ours", setting.criterion, share, images)
            head |= {"scope": setting.scope, "widths": setting.widths}
            left = [r for r in recoveries if not sought.seen(head | {"recovery": r})]
            if left:
                ready = ready or ours.Ready.of(task, [replace(s, recovery=r) for s in settings for r in recoveries])
                yield from _recovered(ready, setting, head, left)


def _recovered(ready: ours.Ready, setting: ours.Setting, head: Row, recoveries: Sequence[str]) -> Iterator[Row]:
    try:
        began = time.perf_counter()
        plan = ready.plan(setting, head["share"])
        planning = {"calibration_seconds": round(ready.seconds, 2)}
        planning |= {"planning_seconds": round(time.perf_counter() - began, 2)}
    except Exception as error:
        yield from (head | {"recovery": recovery, "error": told(error)} for recovery in recoveries)
        return
    for recovery in recoveries:
        began = time.perf_counter()
        try:
            model = ready.cut(plan, recovery)
            seconds = {"seconds": round(time.perf_counter() - began, 2)}
            found = planning | ready.task.left(model) | seconds | ready.task.evaluate(model)
            yield head | {"recovery": recovery} | found
        except Exception as error:
            yield head | {"recovery": recovery, "error": told(error)}


def of_theirs(task: Task, sought: Sought, images: str) -> Iterator[Row]:
    """Measure every criterion, choice of widths and scope at every share, raw and with batch norms re-estimated."""
    for name in sought.names or incumbent.CRITERIA:
        for widths in sought.widths or task.hints.ignored:
            heads = [
                _head(task, "theirs", name, share, images) | {"scope": scope, "widths": widths}
                for scope in sought.scopes or incumbent.SCOPES
                if scope in incumbent.CRITERIA[name].scopes
                for share in sought.shares
            ]
            if all(sought.seen(head | {"recovery": r}) for head in heads for r in sought.recoveries or THEIRS[:1]):
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
    left = [r for r in sought.recoveries or THEIRS if not sought.seen(head | {"recovery": r})]
    if not left or (left == ["norms"] and not has_norms(task.model)):
        return
    began = time.perf_counter()
    try:
        model, more = made()
        found = head | more | task.left(model)
        seconds = time.perf_counter() - began
        if "raw" in left:
            yield found | {"recovery": "raw", "seconds": round(seconds, 2), **task.evaluate(model)}
        began = time.perf_counter()
        renormed = norms_reestimated(model, task.batches) if "norms" in left else None
        if renormed is not None:
            seconds += time.perf_counter() - began
            yield found | {"recovery": "norms", "seconds": round(seconds, 2), **task.evaluate(renormed)}
    except Exception as error:
        yield head | {"recovery": left[0], "error": told(error)}


def _head(task: Task, side: str, name: str, share: float, images: str) -> Row:
    head = {"task": task.name, "side": side, "name": name, "share": share, "seed": task.seed, "images": images}
    return head | {"calibration": sum(len(targets) for _, targets in task.batches)}


def told(error: Exception) -> str:
    """Return the class and the first line of an error."""
    text: Any = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text[:160]}"
