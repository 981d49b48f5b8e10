"""What is said on stderr of whatever takes more than a second.

Bars where stderr is a terminal. Where it is none, as in a pipe or a job's log, `heartbeat` says in a plain line, at
least every 30 seconds, what is being done and how far it has come.
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
PERIOD = 25.0  # seconds; a line takes a moment to be told


class ProgressStep(Protocol):
    """Called after each step with what to show beside the bar; `done`: how many are, where that is not one more."""

    def __call__(self, beside: str, done: int | None = None) -> None: ...


@dataclass
class Doing:
    """Something that is being done: `done` of `steps` steps (None: nobody knows), and what is to be said beside."""

    what: str
    steps: int | None = None
    done: int = 0
    beside: str = ""

    def __str__(self) -> str:
        counted = f" {self.done}" if self.steps is None and self.done else f" {self.done} of {self.steps}"
        return f"{self.what}{counted if self.steps or self.done else ''}{' ' + self.beside if self.beside else ''}"


_doing: list[Doing] = []  # the innermost last


@contextlib.contextmanager
def doing(what: str, steps: int | None = None) -> Iterator[Doing]:
    """Within, this is being done."""
    begun = Doing(what, steps)
    _doing.append(begun)
    try:
        yield begun
    finally:
        _doing.remove(begun)


@contextlib.contextmanager
def bar(what: str, steps: int | None, *, shown: bool = True) -> Iterator[ProgressStep]:
    """A bar of `steps` steps (None: nobody knows) that is gone at the end; none unless `shown`."""
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
    """The same items, with a bar that moves as they are taken."""
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
    """Within, a plain line every `PERIOD` seconds: what is being done, how far it has come, and for how long.

    say: where lines go, by default stderr. wait: returns after so many seconds, and whether it is over.

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
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _lasting(seconds: float) -> str:
    """How long something has taken.

    >>> _lasting(5), _lasting(65), _lasting(7325)
    ('5 s', '1 min 5 s', '2 h 2 min')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


__all__ = ["Doing", "ProgressStep", "bar", "doing", "heartbeat", "watched"]
