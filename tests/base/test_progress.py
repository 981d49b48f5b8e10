"""Plain lines where nobody sees a bar, told by a clock that the test turns."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from secateur.base import progress
from secateur.base.progress import PERIOD, bar, doing, heartbeat, watched


class Clock:
    """Time passes when the test says so; `pass_` returns once what was due has been said."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._due: queue.Queue[bool] = queue.Queue()
        self._waiting = threading.Semaphore(0)

    def wait(self, seconds: float) -> bool:
        self._waiting.release()
        over = self._due.get()
        self.now += seconds
        return over

    def pass_(self, periods: int = 1) -> None:
        for _ in range(periods):
            assert self._waiting.acquire(timeout=10)
            self._due.put(False)
        assert self._waiting.acquire(timeout=10)
        self._waiting.release()

    @contextmanager
    def beating(self) -> Iterator[None]:
        with heartbeat(self.lines.append, clock=lambda: self.now, wait=self.wait):
            try:
                yield
            finally:
                self._due.put(True)


def test_a_line_is_due_at_least_every_30_seconds() -> None:
    clock = Clock()
    with clock.beating(), bar("fine-tuning", 100) as step:
        step("epoch 1/2, loss 0.5")
        clock.pass_()
        step("epoch 2/2, loss 0.4", 60)
        clock.pass_(2)
    assert PERIOD < 30
    assert clock.lines == [
        "fine-tuning 1 of 100 epoch 1/2, loss 0.5 (25 s)",
        "fine-tuning 60 of 100 epoch 2/2, loss 0.4 (50 s)",
        "fine-tuning 60 of 100 epoch 2/2, loss 0.4 (1 min 15 s)",
    ]


def test_the_innermost_is_told_and_silence_between_too() -> None:
    clock = Clock()
    with clock.beating():
        clock.pass_()
        with doing("searching"):
            clock.pass_()
            for _ in watched("accuracy", [1], 1):
                clock.pass_()
            clock.pass_()
        with bar("calibrating", None) as step:
            step("")
            clock.pass_()
    told = [line.rpartition(" (")[0] for line in clock.lines]
    assert told == ["working", "searching", "accuracy 0 of 1", "searching", "calibrating 1"]


def test_nothing_is_left_behind() -> None:
    with heartbeat(), doing("something"):
        assert any(thread.name == "secateur progress" for thread in threading.enumerate())
    assert not any(thread.name == "secateur progress" for thread in threading.enumerate())
    assert not progress._doing


def test_a_command_in_a_pipe_tells_what_it_does() -> None:
    code = (
        "import time; from secateur.base import progress; progress.PERIOD = 0.2\n"
        "from secateur.cli.command import CommandResult, command\n"
        "from secateur.cli.progress import working\n"
        "def slow() -> CommandResult:\n"
        "    with working('tracing'):\n"
        "        time.sleep(1.5)\n"
        "    return CommandResult({}, 'done')\n"
        "command(slow)(as_json=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tracing (" in done.stderr
    assert done.stdout == "done\n"
