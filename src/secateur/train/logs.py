"""Log numbers while a model trains: to TensorBoard files, or to Trackio's local database.

A log is named by a string: "tensorboard", "trackio", or either with a place after a colon: a folder for TensorBoard
("tensorboard:run/logs"), a project and optionally a run for Trackio ("trackio:mnist/half"). Nothing is sent from the
machine unless Trackio's own settings say so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from secateur.base.table import Table
from secateur.errors import FileError, InputError, nearest

Write: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Called with a step, from 1, and numbers by name."""

LogLike: TypeAlias = "str | Write | None"
"""A log by its name, or a function."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Log:
    """Two functions: one writes to a log, the other flushes it to disk."""

    write: Write
    flush: Callable[[], None] = _nothing


@contextlib.contextmanager
def opened_log(log: LogLike, about: Mapping[str, Any], start: int = 0) -> Iterator[Log]:
    """Open a log, and close it afterwards.

    `about` are the settings of the run that the log records. What an interrupted run wrote after step `start` is
    written again; TensorBoard shows it once. Raises `InputError` for an unknown log, or if its package is not
    installed; `FileError` if it cannot be written.

    >>> seen = []
    >>> with opened_log(lambda step, numbers: seen.append((step, numbers)), {}) as log:
    ...     log.write(1, {"loss": 0.5})
    >>> seen
    [(1, {'loss': 0.5})]
    """
    if not isinstance(log, str):
        if log is not None and not callable(log):
            kinds = ", ".join(map(repr, KINDS))
            raise InputError(f"log={log!r} is not a log; give {kinds} or a function (step, numbers)")
        yield Log(log or _nowhere)
        return
    kind, place = check_log(log)
    with KINDS[kind](place, about, start) as opened:
        yield opened


def check_log(log: str) -> tuple[str, str]:
    """Split the name of a log into its kind and place. Raises `InputError` for an unknown kind.

    >>> check_log("tensorboard:run/logs")
    ('tensorboard', 'run/logs')
    """
    kind, _, place = log.partition(":")
    if kind not in KINDS:
        raise InputError(f"no log {kind!r}; known: {', '.join(KINDS)}{nearest(kind, KINDS)}")
    return kind, place


def _nowhere(step: int, numbers: Mapping[str, float]) -> None:
    pass


@contextlib.contextmanager
def _tensorboard(place: str, about: Mapping[str, Any], start: int) -> Iterator[Log]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _missing("TensorBoard") from error
    place = place or "runs"
    with _written(place):  # entries after `start` are hidden, because they are written again
        writer = SummaryWriter(place, purge_step=start + 1 if start else None)
        if not start:
            writer.add_text("options", "\n".join(f"    {name} = {value}" for name, value in about.items()))

    def write(step: int, numbers: Mapping[str, float]) -> None:
        with _written(place):
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)

    def flush() -> None:
        with _written(place):
            writer.flush()

    try:
        yield Log(write, flush)
    finally:
        with _written(place):
            writer.close()


@contextlib.contextmanager
def _written(place: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(
            f"no log can be written to {place}: {error.strerror}; free some space, or give another place"
        ) from error


@contextlib.contextmanager
def _trackio(place: str, about: Mapping[str, Any], start: int) -> Iterator[Log]:
    try:
        import trackio
    except ImportError as error:
        raise _missing("Trackio") from error
    project, _, name = place.partition("/")
    resume = "allow" if start and name else "never"
    run = trackio.init(
        project or "secateur", name or None, config=dict(about), resume=resume, embed=False, auto_log_cpu=False
    )
    try:
        yield Log(lambda step, numbers: run.log(dict(numbers), step=step))
    finally:
        run.finish()


def _missing(package: str) -> InputError:
    return InputError(f"{package} is not installed; install it with: pip install 'secateur[log]'")


KINDS: Table[str, Callable[[str, Mapping[str, Any], int], contextlib.AbstractContextManager[Log]]] = Table(
    "logs named",
    {
        "tensorboard": _tensorboard,
        "trackio": _trackio,
    },
)
"""The kinds of logs by name: functions (place, about, start) -> a context manager of a `Log`."""
