"""Progress on stderr, for work that takes more than a second.

Progress bars are shown where stderr is a terminal. Elsewhere, as in a pipe or the log of a job, `heartbeat` writes a
plain line at least every 30 seconds that names the current work and how far it is.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
PERIOD = 25.0  # seconds; less than the 30 promised, because a line may be written late


class ProgressStep(Protocol):
    """Called after each step with the text to show next to the bar, and `done` if more than one step was finished."""

    def __call__(self, beside: str, done: int | None = None) -> None: ...


@dataclass
class Doing:
    """Work in progress: `done` of `steps` steps (None if the number is unknown), and a text to show next to it."""

    what: str
    steps: int | None = None
    done: int = 0
    beside: str = ""

    def __str__(self) -> str:
        counted = f" {self.done}" if self.steps is None and self.done else f" {self.done} of {self.steps}"
        return f"{self.what}{counted if self.steps or self.done else ''}{' ' + self.beside if self.beside else ''}"


_doing: list[Doing] = []  # nested work, innermost last


@contextlib.contextmanager
def doing(what: str, steps: int | None = None) -> Iterator[Doing]:
    """Announce work for the duration of the context."""
    begun = Doing(what, steps)
    _doing.append(begun)
    try:
        yield begun
    finally:
        _doing.remove(begun)


@contextlib.contextmanager
def bar(what: str, steps: int | None, *, shown: bool = True) -> Iterator[ProgressStep]:
    """Show a bar of `steps` steps (None if the number is unknown), removed at the end; nothing unless `shown`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        doing(what, steps) as now,
        Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal)) as progress,
    ):
        task = progress.add_task(what, total=steps)

        def step(beside: str, done: int | None = None) -> None:
            now.done, now.beside = now.done + 1 if done is None else done, beside
            moved: dict[str, Any] = {"advance": 1} if done is None else {"completed": done}
            progress.update(task, description=f"{what} {beside}".rstrip(), **moved)

        yield step


def watched(what: str, items: Iterable[T], steps: int) -> Iterator[T]:
    """Yield the same items, with a bar that advances as they are taken."""
    with bar(what, steps) as step:
        for item in items:
            yield item
            step("")


@contextlib.contextmanager
def heartbeat(
    say: Callable[[str], None] | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], bool] | None = None,
) -> Iterator[None]:
    """Write a line every `PERIOD` seconds within this context: the current work, its progress and its duration.

    Args:
        say: receives each line; by default it is written to stderr.
        clock: returns the time in seconds.
        wait: waits for a number of seconds and returns whether the context has ended.

    >>> with heartbeat():
    ...     pass
    """
    over, begun = threading.Event(), clock()
    say, wait = say or _to_stderr, wait or over.wait

    def beat() -> None:
        while not wait(PERIOD):
            say(f"{_doing[-1] if _doing else 'working'} ({_lasting(clock() - begun)})")

    thread = threading.Thread(target=beat, name="secateur progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(PERIOD)


def _to_stderr(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # stderr is closed
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _lasting(seconds: float) -> str:
    """Return a duration as text.

    >>> _lasting(5), _lasting(65), _lasting(7325)
    ('5 s', '1 min 5 s', '2 h 2 min')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


__all__ = ["Doing", "ProgressStep", "bar", "doing", "heartbeat", "watched"]
