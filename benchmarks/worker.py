"""A child process that times one side of a comparison on request, so that two sides can alternate in one run.

The child has done the imports; a request names a model. The child builds it, answers "ready", times the pruning, and
returns the seconds. The parent stops the child `limit` seconds after "ready" and starts another. Imports and the
construction of the model are therefore not part of a figure or of the limit.
"""

from __future__ import annotations

import gc
import json
import os
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

REPEATS = 5
BUDGET = 30.0
"""Seconds of measuring per model and side after which no further repeat is started."""


@dataclass(slots=True)
class Runs:
    """All timed runs of one side on one model. `seconds` lists the completed runs, in order."""

    limit: float
    seconds: list[float] = field(default_factory=list)
    problem: str | None = None
    timed_out: bool = False
    remaining: float | None = None
    """Share of the parameters that the pruned model still has."""
    runs: bool | None = None
    """Whether the pruned model still runs forward."""

    @property
    def done(self) -> bool:
        """Whether no further repeat is needed or affordable."""
        return self.timed_out or self.problem is not None or len(self.seconds) >= REPEATS or sum(self.seconds) > BUDGET

    @property
    def value(self) -> float | None:
        """The figure to report: the median, the limit if no run ended within it, or None if the run failed."""
        if self.seconds:
            return median(self.seconds)
        return self.limit if self.timed_out else None

    def add(self, answer: dict[str, Any]) -> None:
        """Add one answer of the child."""
        self.timed_out = self.timed_out or bool(answer.get("timed_out"))
        self.problem = self.problem or answer.get("problem")
        if "seconds" in answer:
            self.seconds.append(answer["seconds"])
            self.remaining, self.runs = answer["remaining"], answer["runs"]

    def describe(self) -> str:
        """Return the result as one cell of a table."""
        if self.problem:
            return f"fails: {self.problem}"
        if not self.seconds:
            return f"> {self.limit:.0f} s"
        note = "" if self.runs else ", result does not run"
        return f"{self.value:.2f} s (median of {len(self.seconds)}; {self.remaining:.0%} of parameters left{note})"


class Worker:
    """A handle on one child. side: "ours" or "incumbent"; source: the folder from which secateur is imported."""

    def __init__(self, side: str, source: Path | None = None) -> None:
        self.side = side
        self._source = {"PYTHONPATH": str(source)} if source is not None else {}
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def measure(self, name: str, limit: float) -> dict[str, Any]:
        """Time one run of model `name`; return `seconds`, `remaining` and `runs`, or `timed_out`, or `problem`."""
        child = self._start()
        assert child.stdin is not None
        child.stdin.write(f"{name}\n".encode())
        ready = self._read(child, 120.0)
        if "ready" not in ready:
            self._end()
            return {"problem": ready.get("problem", "the child did not start")}
        answer = self._read(child, limit)
        if "timed_out" in answer or child.poll() is not None:
            self._end()
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, __file__, self.side],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, **self._source, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            )
        return self._child

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    @staticmethod
    def _read(child: subprocess.Popen[bytes], limit: float) -> dict[str, Any]:
        assert child.stdout is not None
        if not select.select([child.stdout], [], [], limit)[0]:
            return {"timed_out": True}
        line = child.stdout.readline()
        return json.loads(line) if line else {"problem": "the child died"}


def repeat(child: Worker, name: str, limit: float) -> Runs:
    """Measure one side until it has enough runs."""
    runs = Runs(limit)
    while not runs.done:
        runs.add(child.measure(name, limit))
    return runs


def alternate(sides: dict[str, Worker], name: str, limit: float) -> dict[str, Runs]:
    """Measure several sides in alternation, so that other load on the machine affects all of them."""
    runs = {side: Runs(limit) for side in sides}
    while not all(r.done for r in runs.values()):
        for side, child in sides.items():
            if not runs[side].done:
                runs[side].add(child.measure(name, limit))
    return runs


def _ours(model: Any, x: Any) -> None:
    import incumbent
    import secateur

    graph = secateur.trace(model, (x,))
    plan = secateur.plan(graph, f"channels={1 - incumbent.RATIO:g}", importance="l2")
    secateur.cut_(model, plan)


def _side(name: str) -> Callable[[Any, Any], None]:
    import incumbent

    if name == "incumbent":
        import torch_pruning  # noqa: F401  (the import is not part of the figure)

        return incumbent.prune
    import secateur  # noqa: F401

    return _ours


def _timed(prune: Callable[[Any, Any], None], repair: Callable[[Any], None], model: Any, x: Any) -> dict[str, Any]:
    before = sum(p.numel() for p in model.parameters())
    gc.collect()
    start = time.perf_counter()
    prune(model, x)
    seconds = time.perf_counter() - start
    remaining = sum(p.numel() for p in model.parameters()) / before
    repair(model)
    return {"seconds": seconds, "remaining": remaining, "runs": _runs(model, x)}


def _runs(model: Any, x: Any) -> bool:
    import torch

    try:
        with torch.no_grad():
            model(x)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return False
    return True


def _serve(side: str) -> None:
    """Answer requests until the parent closes the pipe. Output of the libraries is redirected to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    import torch

    import incumbent

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    prune = _side(side)
    repair = incumbent.repair if side == "incumbent" else lambda _: None
    for line in sys.stdin:
        model, x = incumbent.build(line.strip())
        print('{"ready": true}', file=answers)
        try:
            answer = _timed(prune, repair, model, x)
        except Exception as error:  # any error of either library is a result
            answer = {"problem": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    _serve(sys.argv[1])
