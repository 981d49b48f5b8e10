"""Coroutines as threads: functions that run one at a time, each in a separate thread, and only when advanced.

Several runs of a model can so pause at the same layer and continue together. A paused run holds only the tensors that
are alive at that layer, and every layer runs once. Two strands never run at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class _Closed(BaseException):
    """Unwinds a strand that is no longer needed."""


class Strand:
    """A run of `body(pause)` that stops at each `pause(event)`, which returns the answer to the event."""

    def __init__(self, body: Callable[[Callable[[Any], Any]], Any]):
        self._body = body
        self._events: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._answers: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.done = False
        self.event: Any = None  # the event at which it waits
        self.result: Any = None

    def advance(self, answer: Any = None) -> None:
        """Continue with an answer to the last event, until the next event or the end. Raises what the body raises."""
        assert not self.done, "the strand has ended"
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
        """End the strand at the point where it waits."""
        if self._thread is not None and not self.done:
            self._answers.put((False, None))
            self._events.get()
            self.done = True
            self._thread.join()

    def _pause(self, event: Any) -> Any:
        self._events.put(("paused", event))
        continues, answer = self._answers.get()
        if not continues:
            raise _Closed
        return answer

    def _run(self) -> None:
        try:
            self._events.put(("done", self._body(self._pause)))
        except BaseException as error:  # noqa: BLE001 - raised again where the strand was advanced
            self._events.put(("raised", error))


__all__ = ["Strand"]
