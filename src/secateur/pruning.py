"""`prune`: trace, plan, cut and (if asked) verify, in one call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from torch import nn

from secateur.anatomy.building import is_pretrained
from secateur.anatomy.calls import called, further
from secateur.apply import cut
from secateur.apply.closing import check_closed, opened
from secateur.base.keywords import by_group
from secateur.base.process import trainable
from secateur.errors import InputError, PruningError
from secateur.files.model_file import save
from secateur.files.pretrained import check_rebuilds, save_folder
from secateur.graph.blocks import without
from secateur.graph.frozen_text import frozen_summary
from secateur.graph.graph import Graph
from secateur.importance import Criterion, Scores, needs_of_importance
from secateur.plan.plan import Plan
from secateur.planning import plan
from secateur.planning.planning import Drop
from secateur.planning.selection.select import SelectLike
from secateur.proof.path import walks_alike
from secateur.proof.verification import NOTHING_REMOVED, NothingToCompare, Verification
from secateur.proof.verify import prove
from secateur.recover import Recover, named_steps, recover_
from secateur.recover import needs_of as needs_of_recovery
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import NEED_LOSS, Loss, Statistics
from secateur.trace.tracing import trace

if TYPE_CHECKING:
    from typing_extensions import Unpack

PROOF_WORK = 30e9
"""A cut is proved by default up to this much work, the MACs of all calls plus `WEIGHT_WORK` times the parameters: a few
seconds on two cores."""
WEIGHT_WORK = 40


@dataclass(frozen=True)
class Pruned:
    """A pruned model with the Plan and Graph that it was made from; `print` shows what was cut and what it saves.

    Attributes:
        model: The pruned model.
        plan: Which units were kept.
        graph: The Graph of the model before the cut.
        verification: The errors that the proof measured. None: no proof was made.
        unproved: Why the cut was not proved. None: it was proved.
    """

    model: nn.Module
    plan: Plan
    graph: Graph
    verification: Verification | None = None
    unproved: str | None = field(default=None, kw_only=True)

    @property
    def proved(self) -> bool:
        """Whether the cut was proved correct, in float64 on the example inputs."""
        return self.verification is not None and self.verification.passed

    @property
    def report(self) -> dict[str, Any]:
        """What was cut and what it saves, as plain data for JSON."""
        before, after = self.plan.before, self.plan.after
        return {
            **{kind: {"before": value, "after": after[kind]} for kind, value in before.as_dict().items()},
            "target": list(self.plan.target),
            "removed": list(self.plan.removed),
            "added": [added.name for added in self.plan.added],
            "recovery": [{"step": step.step, "options": dict(step.options)} for step in self.plan.recovery],
            "axes": {name: {"before": axis.size, "after": axis.kept_count} for name, axis in self.plan.dropped()},
            "coverage": {"params": self.graph.coverage.params, "macs": self.graph.coverage.macs},
            "untrained": self.graph.diagnosis.untrained,
            "proof": {"proved": self.proved, "because": self.unproved},
            "verification": self.verification.as_dict() if self.verification is not None else None,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights and plan to one safetensors file; see `secateur.save`.

        Args:
            path: The file to write. For a Hugging Face model, a path without a suffix is a folder that
                `from_pretrained` reads.

        Raises:
            InputError: The path cannot be written to, or no config describes the model, for example because its layers
                differ in width (`uniform=True` keeps them equal).
        """
        if is_pretrained(self.model) and not Path(path).suffix:
            return save_folder(self.model, path, self.graph.run.source.calls, self.graph.run.source.outputs)
        save(self.model, path)

    def __str__(self) -> str:
        lines = [str(self.plan), frozen_summary(self.graph)]
        lines.append(self._proof())
        return "\n\n".join(line for line in lines if line)

    def _proof(self) -> str:
        if self.proved:
            return str(self.verification)
        if self.unproved is not None:
            return f"not proved: {self.unproved}"
        return "" if self.verification is None else str(self.verification)


class CuttingOptions(TypedDict, total=False):
    """The keyword options that `prune`, `iterate` and `search` share; see `prune`. `Cutting` has the defaults."""

    importance: str | Criterion | Scores
    scope: str
    data: Iterable[Any] | None
    loss: Loss | None
    recover: Recover
    calls: Iterable[Any]
    outputs: Callable[[Any], Any] | None
    uniform: bool
    seed: int


@trainable
def prune(
    model: nn.Module,
    example_inputs: Any = None,
    target: str | Sequence[str] | None = None,
    *,
    call: Callable[[nn.Module], Any] | None = None,
    select: SelectLike = None,
    drop: Drop | None = None,
    verify: bool | None = None,
    **options: Unpack[CuttingOptions],
) -> Pruned:
    """Return a smaller copy of `model` that meets the target; the model itself does not change.

    Args:
        model: A trained model.
        example_inputs: The inputs that the model is called with; see `secateur.trace`.
        target: What remains, such as "macs=0.5", or a list of targets; see `secateur.plan`.
        call: Instead of example inputs, a function that runs the model:
            `prune(model, call=lambda m: m(Graph(x, edges)), target="macs=0.5")`. Default: None.
        select: Limits, as a `Select` or as rules; see `secateur.plan`. Default: None.
        drop: Units to cut by hand, by axis name; see `secateur.plan`. Default: None.
        verify: Whether to prove the cut in float64, before any recovery. Default: None, prove it where that takes only
            a few seconds (the MACs of all calls plus 40 times the parameters are at most 30e9); the report says
            "proved", or "not proved" and why. False: only a model in which values decide what runs is proved.
        calls: Further calls of the model; see `secateur.trace`. Default: ().
        outputs: A function that picks the part of the outputs that matters; see `secateur.trace`. Default: None, all.
        uniform: Whether a Hugging Face model stays one that a config describes; see `secateur.trace`. Default: False.
        importance: The criterion that scores units; see `secateur.importance`. Default: "l2".
        scope: Which units compete: "global", "axis" or "isomorphic"; see `secateur.plan`. Default: "global".
        data: Batches of (inputs, targets), for an importance or a recovery that reads data. Default: None.
        loss: A function (output, targets) -> scalar, for an importance that reads derivatives. Default: None.
        recover: "norms", "shift", "lsq", "lsq_moments" or a list of steps; see `secateur.recover`. Default: ().
        seed: The seed of all random numbers that are drawn. Default: 0.

    Returns:
        A `Pruned`: the smaller `model`, its `plan` and the `graph` of the original.

    Raises:
        PruningError: The proof finds the cut wrong, or `verify=True` and it cannot be proved.
        TargetError: A target is malformed or out of reach.
        InputError: Another argument cannot be used.

    Example:
        >>> import torch
        >>> result = prune(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.zeros(1, 4), "macs=0.5")
        >>> result.model[0]
        Linear(in_features=4, out_features=4, bias=True)
    """
    run, (asked,) = called(example_inputs, call), by_group(prune, options, CuttingOptions)
    cutting = Cutting.of(run, asked)
    return cutting.pruned(cutting.traced(model), target, select, drop=drop, verify=verify)


@dataclass(frozen=True)
class Cutting:
    """How a model is traced, planned, cut and recovered, for any target: once, or in every stage of a loop."""

    example_inputs: Any
    calls: Sequence[Any] = ()
    outputs: Callable[[Any], Any] | None = None
    uniform: bool = False
    importance: str | Criterion | Scores = "l2"
    scope: str = "global"
    data: Iterable[Any] | None = None
    loss: Loss | None = None
    recover: Recover = ()
    seed: int = 0

    @classmethod
    def of(cls, example_inputs: Any, options: Mapping[str, Any]) -> Cutting:
        """Make it from `CuttingOptions`. Raises `InputError` for `calls` that are not a list of calls."""
        rest = {**options}
        return cls(example_inputs, further(rest.pop("calls", ())), **rest)

    def traced(self, model: nn.Module) -> Graph:
        """Trace a model with these options."""
        return trace(model, self.example_inputs, calls=self.calls, outputs=self.outputs, uniform=self.uniform)

    def pruned(
        self,
        graph: Graph,
        target: str | Sequence[str] | None,
        select: SelectLike = None,
        *,
        drop: Drop | None = None,
        verify: bool | None = None,
    ) -> Pruned:
        """Return a smaller copy of the model of a graph; the model itself does not change."""
        if verify not in (None, True, False):
            raise InputError(
                f"verify={verify!r}: True proves the cut, False does not, None proves it where that is cheap"
            )
        seed, statistics = self.seed, self.statistics(graph)
        options: dict[str, Any] = {"importance": self.importance, "scope": self.scope, "statistics": statistics}
        made = plan(graph, target, select=select, drop=drop, seed=seed, **options)
        found = finished(graph, made, cut(graph.model, made), verify=verify)
        return recovered(found, self.data, self.recover, statistics, seed=seed)

    def statistics(self, graph: Graph) -> Statistics | None:
        """Collect the statistics that importance and recovery need; None if they need none."""
        return calibrated(graph, self.importance, self.data, self.loss, recover=self.recover, seed=self.seed)


def recovered(
    found: Pruned, data: Iterable[Any] | None, recover: Recover, statistics: Statistics | None, *, seed: int = 0
) -> Pruned:
    """Apply steps of recovery to a pruned model. Raises `InputError` if they need data and none is passed."""
    if not named_steps(recover):
        return found
    if data is None:
        raise InputError(f"recover={recover!r} reads data; give data=, batches of (inputs, targets)")
    plan = recover_(found.model, found.graph, found.plan, data, recover, statistics=statistics, seed=seed)
    return replace(found, plan=plan)


def calibrated(
    graph: Graph,
    importance: str | Criterion | Scores,
    data: Iterable[Any] | None,
    loss: Loss | None,
    *,
    recover: Recover = (),
    seed: int = 0,
    progress: bool = False,
) -> Statistics | None:
    """Collect the statistics that an importance and steps of recovery need; None if they need none.

    Raises `InputError` if data or a loss are needed and not given.
    """
    steps = needs_of_recovery(recover)
    needs = needs_of_importance(importance) | steps
    if not needs:
        return None
    if data is None and steps:
        raise InputError(f"recover={recover!r} reads data; give data=, batches of (inputs, targets)")
    name = importance if isinstance(importance, str) else getattr(importance, "__name__", type(importance).__name__)
    if data is None:
        raise InputError(f"importance={name!r} is read from data; give data=, batches of (inputs, targets)")
    if loss is None and needs & NEED_LOSS:
        raise InputError(
            f"importance={name!r} reads derivatives of the loss; give loss=, such as torch.nn.functional.cross_entropy"
        )
    return calibrate(graph, data, needs=needs, loss=loss, seed=seed, progress=progress)


def finished(graph: Graph, made: Plan, pruned: nn.Module, *, verify: bool | None = None) -> Pruned:
    """Check that a cut model runs, and prove it where that is cheap, asked for, or values decide what runs.

    Raises `PruningError` if it does not run or fails the proof.
    """
    example_inputs = graph.run.source.calls[0]
    if graph.run.source.uniform:
        check_rebuilds(pruned)
    with opened(pruned, made):
        alike = walks_alike(without(graph, made.removed), pruned, example_inputs, graph.run.source.outputs)
    check_closed(pruned, made, graph.run.source.calls, graph.run.source.outputs)
    return proved(Pruned(pruned, made, graph), verify=verify if alike else True)


def proved(found: Pruned, *, verify: bool | None = None) -> Pruned:
    """Prove a pruned model, or record the reason why it is not proved.

    Args:
        found: The pruned model.
        verify: Whether to prove it. None: where that is cheap.

    Raises:
        PruningError: The cut is wrong, or (with `verify=True`) it could not be proved.
    """
    why = _unasked(found) if verify is None else "it was asked not to be" if not verify else None
    if why is not None:
        return replace(found, unproved=why)
    try:
        verification = prove(found.graph, found.model, found.plan)
    except NothingToCompare as error:
        if verify:
            raise
        return replace(found, unproved=str(error).partition("\n")[0])
    if verification.wrong:
        raise PruningError(f"the pruned model is not what the plan says; please report this model\n{verification}")
    if verify and not verification.passed:
        raise PruningError(f"{verification}\nverify=True asks for a proof; leave it out where none can be had")
    return replace(found, verification=verification, unproved=verification.open)


def _unasked(found: Pruned) -> str | None:
    """Return why a proof is made only on request; None if it is made by default."""
    if found.plan.is_empty:
        return NOTHING_REMOVED
    graph = found.graph
    if not too_dear(graph):
        return None
    return (
        f"it would take more than a few seconds ({graph.total_macs:,} MACs, {graph.params:,} parameters); "
        "verify=True proves it"
    )


def too_dear(graph: Graph) -> bool:
    """Return whether a proof would take more than a few seconds, so that it is made only on request."""
    return graph.total_macs * len(graph.run.source.calls) + WEIGHT_WORK * graph.params > PROOF_WORK
