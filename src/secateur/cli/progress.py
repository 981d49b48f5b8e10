"""Progress of commands on stderr: spinners and bars, or plain lines if stderr is not a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from secateur.base.progress import bar, doing, heartbeat, watched


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show a spinner next to `what`."""
    console = Console(stderr=True)
    with doing(what), console.status(what) if console.is_terminal else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def lively() -> Iterator[None]:
    """Print a plain line now and then if stderr is not a terminal."""
    with contextlib.nullcontext() if Console(stderr=True).is_terminal else heartbeat():
        yield


def warn(message: str) -> None:
    """Print one line on stderr, terminal or not."""
    Console(stderr=True, highlight=False).print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


__all__ = ["bar", "lively", "warn", "watched", "working"]
