"""Where numbers go while a model trains: TensorBoard's files, or Trackio's local data base.

A log is named by a text: "tensorboard", "trackio", or either with a place after a colon: a folder for TensorBoard
("tensorboard:run/logs"), a project and perhaps a run for Trackio ("trackio:mnist/half"). Nothing leaves the machine
unless Trackio's own settings say so.
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
"""A log by its name, or a function of one's own."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Log:
    """What writes to a log, and what sees to it that it is on the disk."""

    write: Write
    flush: Callable[[], None] = _nothing


@contextlib.contextmanager
def opened_log(log: LogLike, about: Mapping[str, Any], start: int = 0) -> Iterator[Log]:
    """A log, which is closed afterwards.

    `about` is what the log says of the run. What a killed run wrote after step `start` is written again; TensorBoard
    shows it once. Raises `InputError` for an unknown name or what is no log, and where the package is not installed;
    `FileError` where nothing can be written.

    >>> seen = []
    >>> with opened_log(lambda step, numbers: seen.append((step, numbers)), {}) as log:
    ...     log.write(1, {"loss": 0.5})
    >>> seen
    [(1, {'loss': 0.5})]
    """
    if not isinstance(log, str):
        if log is not None and not callable(log):
            raise InputError(f"log={log!r} is no log; give {', '.join(map(repr, KINDS))} or a function (step, numbers)")
        yield Log(log or _nowhere)
        return
    kind, place = check_log(log)
    with KINDS[kind](place, about, start) as opened:
        yield opened


def check_log(log: str) -> tuple[str, str]:
    """The kind and place that a text names. Raises `InputError` for an unknown kind.

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
    with _written(place):  # what came after `start` is hidden, for it is written anew
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
            f"no log can be written to {place}: {error.strerror}; make room, or give another place"
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
"""The names that a log may have."""
