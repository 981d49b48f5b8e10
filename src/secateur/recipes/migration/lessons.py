"""The lessons: a job, the model that it is done on, and what of its outputs counts."""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import io
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

import secateur
from secateur import PruningError, Verification
from secateur.anatomy.running import seeded
from secateur.proof.replay import default_float64, in_float64
from secateur.recipes.framework import Row, size
from secateur.recipes.migration import models
from secateur.recipes.migration.judge import judged

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Lesson:
    """A function of `theirs` and `ours`, its model, and the importance by which units are chosen."""

    job: str
    build: Callable[[bool], models.Subject]
    importance: str | None = None
    outputs: Callable[[Any], Any] | None = None


LESSONS: dict[str, Lesson] = {
    "resnet18-by-hand": Lesson("by_hand", models.resnet18),
    "resnet18-random": Lesson("classifier", models.resnet18, "random"),
    "resnet18-l1": Lesson("classifier", models.resnet18, "l1"),
    "resnet18-l2": Lesson("classifier", models.resnet18, "l2"),
    "densenet121-l1": Lesson("classifier", models.densenet121, "l1"),
    "deeplabv3-l1": Lesson("segmentation", models.deeplabv3, "l1"),
    "vit-l2": Lesson("vision_transformer", models.vit, "l2"),
    "bert-l2": Lesson("bert", models.bert, "l2", outputs=lambda out: out.pooler_output),
}


@dataclass(frozen=True)
class Attempt:
    """One side of a lesson on one model."""

    lesson: Lesson
    side: ModuleType
    model: nn.Module
    inputs: Any
    seed: int = 0

    @property
    def job(self) -> Callable[..., Any]:
        return getattr(self.side, self.lesson.job)

    def row(self, method: str) -> tuple[Row, str]:
        """The figures of the side, and what it printed."""
        model, figures = copy.deepcopy(self.model), {"lines": float(len(body(self.job).splitlines()))}
        started = time.perf_counter()
        try:
            made, printed = self.done(model, self.inputs)
        # Whatever a library does to a model that it cannot prune.
        except Exception as error:  # noqa: BLE001
            return Row(method, *size(self.model, self.inputs), figures, {"right": f"fails: {_first(error)}"}), ""
        figures["seconds"] = time.perf_counter() - started
        verdict, figures["error"] = self.verdict(made)
        small = made.model if isinstance(made, secateur.Pruned) else model
        return Row(method, *size(small, self.inputs), figures, {"right": verdict}), printed

    def done(self, model: nn.Module, inputs: Any) -> tuple[Any, str]:
        """What the job returns, and what it printed."""
        printed, name = io.StringIO(), self.lesson.importance
        chosen = () if name is None else (self.side.IMPORTANCE[name],)
        with seeded(self.seed), contextlib.redirect_stdout(printed), _quiet():
            return self.job(model, inputs, *chosen), printed.getvalue()

    def verdict(self, made: Any) -> tuple[str, float]:
        """Whether the cut is right, and its relative error in float64."""
        try:
            found = self._ours(made) if isinstance(made, secateur.Pruned) else self._theirs()
        except PruningError as error:
            return f"no: {_first(error)}", float("inf")
        if not found.visible:
            return "nothing was cut", found.silence
        return ("yes" if found.silence < TOLERANCE else "no"), found.silence

    def _ours(self, made: secateur.Pruned) -> Verification:
        return secateur.verify(self.model, made.model, made.plan, self.inputs, outputs=self.lesson.outputs)

    def _theirs(self) -> Verification:
        """The same job once more in float64, with weights of which no two are alike."""
        wide, inputs = in_float64(self.model), _wide(self.inputs)
        with torch.no_grad(), seeded(self.seed):
            for tensor in filter(Tensor.is_floating_point, [*wide.parameters(), *wide.buffers()]):
                tensor.mul_(1 + TOLERANCE * torch.rand_like(tensor))
        small = copy.deepcopy(wide)
        with default_float64():
            self.done(small, inputs)
        return judged(wide, small, inputs, self.lesson.outputs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first(error: Exception) -> str:
    line = (str(error).splitlines() or [""])[0]
    return line if isinstance(error, PruningError) else f"{type(error).__name__}: {line}"


def _wide(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: _wide(value) for name, value in inputs.items()}
    return inputs.double() if inputs.is_floating_point() else inputs


def body(job: Callable[..., Any]) -> str:
    """What a function does, as one types it: its source without the head and without what it returns."""
    source = textwrap.dedent(inspect.getsource(job))
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    first, last = function.body[0], function.body[-1]
    end = last.lineno - 1 if isinstance(last, ast.Return) else last.end_lineno
    return textwrap.dedent("\n".join(source.splitlines()[first.lineno - 1 : end]))


__all__ = ["LESSONS", "Attempt", "Lesson", "body"]
