"""Run tasks in separate forked processes with a time limit. Libraries are imported once, by the parent."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

Work = Callable[[str], dict[str, Any]]
MEMORY = 12 * 2**30
"""Memory limit of one child, in bytes, so that a large model fails without affecting the machine."""


@dataclass(frozen=True, slots=True)
class _Child:
    task: str
    process: BaseProcess
    answer: Connection
    end: float


def run(tasks: Sequence[str], work: Work, *, jobs: int, limit: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `work(task)` for every task, `jobs` at a time, in the order in which they end; kill one after `limit` s."""
    waiting, living = list(tasks), list[_Child]()
    while waiting or living:
        while waiting and len(living) < jobs:
            living.append(_start(waiting.pop(0), work, limit))
        ready = wait([child.answer for child in living], timeout=1.0)
        for child in [*living]:
            if child.answer in ready or time.monotonic() > child.end:
                living.remove(child)
                yield child.task, _finish(child, limit)


def _start(task: str, work: Work, limit: float) -> _Child:
    context = multiprocessing.get_context("fork")
    answer, end = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(end, work, task), daemon=True)
    process.start()
    end.close()
    return _Child(task, process, answer, time.monotonic() + limit)


def _finish(child: _Child, limit: float) -> dict[str, Any]:
    try:
        found = child.answer.recv() if child.answer.poll() else {"verdict": "timeout", "error": f"over {limit:.0f} s"}
    except EOFError:
        found = {"verdict": "crash", "error": "the process died (out of memory?)"}
    child.process.kill()
    child.process.join()
    return found


def _serve(answer: Connection, work: Work, task: str) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        answer.send(work(task))
    except Exception as error:
        answer.send({"verdict": "crash", **told(error)})


class OutOfTime(BaseException):
    """Raised when the time is up; `except Exception` does not catch it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after `seconds` of processor time, which does not depend on other load."""

    def ring(*_: object) -> None:
        raise OutOfTime

    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def told(error: BaseException, frames: int = 3) -> dict[str, Any]:
    """Return an exception as data: its message, and its last frames outside torch, with those of its causes."""
    at: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(at) < 5 * frames:
        lines = [f for f in traceback.extract_tb(cause.__traceback__) if not _dull(f.filename)]
        at += [f"{'/'.join(f.filename.split('/')[-3:])}:{f.lineno} {f.name}: {f.line}" for f in lines[-frames:]]
        cause = cause.__cause__
        if cause is not None:
            at.append(f"caused by {type(cause).__name__}: {str(cause)[:200]}")
    return {"error": f"{type(error).__name__}: {error}"[:1500], "at": at}


def _dull(file: str) -> bool:
    return "/torch/" in file or "/trace/recorder.py" in file
