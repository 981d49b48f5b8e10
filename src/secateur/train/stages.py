"""The settings of a loop of cutting and training: how a stage is trained, what is cut, and the loop's identity."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from secateur.anatomy.masked import worn
from secateur.base.hashing import of_values
from secateur.data.batches import Source
from secateur.errors import InputError
from secateur.files.model_file import load
from secateur.graph.graph import Graph
from secateur.masks import masks_of
from secateur.trace.tracing import trace
from secateur.train.distill import Distillation
from secateur.train.epochs import Later
from secateur.train.identity import of_code
from secateur.train.iterate import Iteration, iterate
from secateur.train.options import TrainOptions
from secateur.train.randomness import Dice
from secateur.train.stage_verdict import StageJudge
from secateur.train.stepping import StepPenalty, listed
from secateur.train.training import Job

Penalties: TypeAlias = Callable[[Graph], Sequence[StepPenalty]]
"""From the Graph of a stage's model to the penalties of its training."""


@dataclass(frozen=True)
class StageTrainer:
    """How each stage is trained."""

    batches: Source
    epochs: int
    options: TrainOptions
    penalties: Penalties | None
    teaching: Distillation | None

    def job(self, model: nn.Module, stage: int = 1, **more: Any) -> Job:
        """Return the training of a stage."""
        options = replace(self.options, seed=(self.options.seed + stage - 1) % 2**32)
        source = Later.of(self.batches, self.epochs * (stage - 1))
        return Job(model, source, self.epochs, options, teaching=self.teaching, **more)

    def before(self, stage: int) -> int:
        """Return the number of optimizer steps before a stage."""
        return (stage - 1) * self.epochs * -(-len(self.batches) // self.options.gradients.accumulate)


@dataclass(frozen=True)
class Loop:
    """The settings of a loop: what is cut, how, and when it ends."""

    model: nn.Module
    example_inputs: Any
    target: Any
    cutting: Mapping[str, Any]
    trainer: StageTrainer
    judge: StageJudge

    @property
    def steps(self) -> int:
        return self.cutting.get("steps", 1)

    def dice(self) -> Dice:
        """Return the random generators that cutting and judging draw from."""
        return Dice.of([self.cutting, self.judge.metric])

    def identity(self) -> dict[str, str]:
        """Return strings by name that differ between different loops."""
        training, judge = self.trainer.job(self.model).identity(), self.judge
        cutting = {name: _text(value) for name, value in self.cutting.items() if name not in ("data", "calls")}
        clash = {f"{name} of the cut": cutting.pop(name) for name in ("loss", "seed") if name in cutting}
        read = self.cutting.get("data")
        batches = of_values(read) if isinstance(read, (list, tuple)) else _kind(read)
        return {
            **training,
            **cutting,
            **clash,
            "data of the cut": batches,
            "generators": f"{training['generators']}; {self.dice().kinds or 'none'}",
            "penalties": _text(self.trainer.penalties),
            "target": str(self.target),
            "metric": _text(judge.metric),
            "max_drop": _text(judge.max_drop),
            "dense": _text(judge.dense),
            "higher_is_better": str(judge.higher_is_better),
        }

    def about(self) -> dict[str, Any]:
        """Return the settings that a log records."""
        return {**self.trainer.job(self.model).about(), "target": str(self.target), "stages": self.steps}

    def iterate(self, model: nn.Module, optimizer: torch.optim.Optimizer, start: int) -> Iteration:
        """Iterate over the stages after stage `start`, whose model is `model`."""
        return iterate(model, self.example_inputs, self.target, carry=[optimizer], start=start, **self.cutting)

    def penalties(self, model: nn.Module) -> tuple[StepPenalty, ...]:
        """Make the penalties for the training of a model."""
        if self.trainer.penalties is None:
            return ()
        asked = {name: self.cutting[name] for name in ("calls", "outputs", "uniform") if name in self.cutting}
        return listed(self.trainer.penalties(trace(model, self.example_inputs, **asked)))

    def rebuilt(self, path: Path) -> nn.Module:
        """Load the model that was saved at a path into a copy of the original; its masks are in the file."""
        fresh = copy.deepcopy(self.model)
        if worn(fresh):
            masks_of(fresh).remove()
        return load(fresh, path)


def check_penalties(penalties: Any) -> None:
    """Raise `InputError` for penalties that are made already: they act on one model, and each stage has another."""
    if penalties is not None and (not callable(penalties) or hasattr(penalties, "add_gradients_")):
        raise InputError(
            f"penalties is a {type(penalties).__name__}, but every stage has a different model\n"
            "give a function that makes them: penalties=lambda graph: [ScaleL1(graph, 1e-4)]"
        )


def _kind(value: Any) -> str:
    return "none" if value is None else type(value).__qualname__


def _text(value: Any) -> str:
    """Return a string that is the same for the same argument in every process."""
    if isinstance(value, (list, tuple)):
        return str([_text(one) for one in value])
    return of_code(value) if callable(value) else "none" if value is None else str(value)


__all__ = ["Loop", "Penalties", "StageTrainer", "check_penalties"]
