"""Functions that run in turn, each in a thread of its own and only while it is told to.

So several runs of a model can stop at the same layer and go on together: what a run holds at that moment is all that
lives of it, and every layer runs once. No two strands ever run at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class _Closed(BaseException):
    """Unwinds a strand that is not needed any more."""


class Strand:
    """`body(pause)` runs until it pauses. `pause(event)` hands an event out and gives the answer to it."""

    def __init__(self, body: Callable[[Callable[[Any], Any]], Any]):
        self._body = body
        self._events: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._answers: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.done = False
        self.event: Any = None  # at which it waits
        self.result: Any = None

    def advance(self, answer: Any = None) -> None:
        """Go on with an answer to the last event, until the next event or the end. Raises what the body raises."""
        assert not self.done, "it has ended"
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        else:
            self._answers.put((True, answer))
        kind, value = self._events.get()
        if kind == "paused":
            self.event = value
            return
        self.event, self.done = None, True
        self._thread.join()
        if kind == "raised":
            raise value
        self.result = value

    def close(self) -> None:
        """End it where it stands."""
        if self._thread is not None and not self.done:
            self._answers.put((False, None))
            self._events.get()
            self.done = True
            self._thread.join()

    def _pause(self, event: Any) -> Any:
        self._events.put(("paused", event))
        goes_on, answer = self._answers.get()
        if not goes_on:
            raise _Closed
        return answer

    def _run(self) -> None:
        try:
            self._events.put(("done", self._body(self._pause)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the strand was advanced
            self._events.put(("raised", error))


__all__ = ["Strand"]
