"""What the commands say on stderr while they work: spinners and bars, or plain lines where stderr is not a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from secateur.base.progress import bar, doing, heartbeat, watched


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner beside `what`."""
    console = Console(stderr=True)
    with doing(what), console.status(what) if console.is_terminal else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def lively() -> Iterator[None]:
    """Within, a long silence is broken by plain lines where stderr is not a terminal."""
    with contextlib.nullcontext() if Console(stderr=True).is_terminal else heartbeat():
        yield


def warn(message: str) -> None:
    """One line on stderr, terminal or not."""
    Console(stderr=True, highlight=False).print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


__all__ = ["bar", "lively", "warn", "watched", "working"]
