"""What the commands say on stderr while they work. Spinners and bars are silent where stderr is no terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from secateur.progress import bar, watched


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner beside `what`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


def warn(message: str) -> None:
    """One line on stderr, terminal or not."""
    Console(stderr=True, highlight=False).print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


__all__ = ["bar", "warn", "watched", "working"]
