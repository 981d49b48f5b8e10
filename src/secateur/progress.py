"""Bars on stderr for whatever takes more than a second. Silent where stderr is no terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Step(Protocol):
    """Called after each step with what to show beside the bar; `done`: how many are, where that is not one more."""

    def __call__(self, beside: str, done: int | None = None) -> None: ...


@contextlib.contextmanager
def bar(what: str, steps: int | None, *, shown: bool = True) -> Iterator[Step]:
    """A bar of `steps` steps (None: nobody knows) that is gone at the end; none unless `shown`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as progress:
        task = progress.add_task(what, total=steps)

        def step(beside: str, done: int | None = None) -> None:
            moved: dict[str, Any] = {"advance": 1} if done is None else {"completed": done}
            progress.update(task, description=f"{what} {beside}".rstrip(), **moved)

        yield step


def watched(what: str, items: Iterable[T], steps: int) -> Iterator[T]:
    """The same items, with a bar that moves as they are taken."""
    with bar(what, steps) as step:
        for item in items:
            yield item
            step("")
