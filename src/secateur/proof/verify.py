"""Checks of two laws on the user's own model, in float64, which show that a pruned model is right.

1. Silence: the pruned model computes what the original computes with the dropped units zeroed wherever they occur
   (a mean or variance over units reads the kept ones only) and with removed blocks returning their input.
2. Permutation: reordering the units of every axis, everywhere at once, changes nothing. So every place that an axis
   reaches is known.

One comparison checks both: the pruned model against the original with its dropped units silenced and the units of all
axes reordered. If the two differ, each law is checked alone, to find the one that fails.

Silencing dead units changes nothing. Then the first law says that the pruned model computes what the original does. An
error could only be seen if units of these axes reach the outputs at all, so the units that stay are silenced as well,
and the outputs must change.

If the silenced original divides by something that was silenced, its outputs are not finite. Then it runs once more, and
the result of such a division is zero, as the silenced unit is.

If weights were recovered after the cut, they are no longer the original's, and no law says what they must be. Then the
laws are checked on the cut alone, which is made again; the pruned model must have its structure and must run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.calls import Call, refusal
from secateur.anatomy.checks import check_model
from secateur.anatomy.keeping import emptied
from secateur.anatomy.slots import slots
from secateur.anatomy.structure import difference, distance, same_infinities
from secateur.apply.closing import opened
from secateur.apply.ready import check_fits
from secateur.apply.surgery import cut
from secateur.base.precision import WIDE
from secateur.base.process import trainable
from secateur.errors import InputError, PruningError
from secateur.graph.graph import Graph
from secateur.graph.parts import At, Reading
from secateur.plan.plan import Plan
from secateur.proof.exact_scales import exactly_scaled
from secateur.proof.lifted import copy
from secateur.proof.noise import NotDrawn
from secateur.proof.ondemand import Fill
from secateur.proof.replay import Misaligned, Ran, ReplayJob
from secateur.proof.silencing import Silencing, nothing_of, permutation_plan, with_others
from secateur.proof.units import Units
from secateur.proof.verification import NOTHING_REMOVED, NothingToCompare, Precision, Verification
from secateur.trace.tracing import trace, trace_calls

CLEARLY = 1e-3
"""Run the original in float64 only if silencing changes its outputs by less than this share."""


@trainable
def verify(
    model: nn.Module,
    pruned: nn.Module,
    plan: Plan,
    example_inputs: Any = None,
    *,
    call: Callable[[nn.Module], Any] | None = None,
    calls: Iterable[Any] = (),
    outputs: Callable[[Any], Any] | None = None,
) -> Verification:
    """Check that `pruned` is what `plan` makes of `model`, on the example inputs, in float64.

    The models run with float64 copies of their tensors, one model at a time, and do not change. Constant float inputs
    (all zeros, all ones) are replaced by random numbers, which prove more. If the plan names recovery steps, its cut is
    made again and checked instead of `pruned`, which must have the same modules and integers and the same names and
    shapes of tensors, and must run.

    Args:
        model: the original, as it was when the plan was made.
        pruned: the model to check.
        plan: the plan that made it.
        example_inputs: the inputs of the model, as for `trace`.
        call: a function that runs the model, instead of `example_inputs`, as for `trace`.
        calls: further calls, as for `trace`.
        outputs: a function that picks what counts as output, the same as for the trace that the plan was made on.

    Returns:
        The errors of both laws, and whether they hold.

    Raises:
        InputError: the plan is not of this model, or the model does not run on these inputs.
        PruningError: the original's outputs are not finite, or the pruned model does not run.

    Example:
        >>> import secateur
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), "channels=0.5")
        >>> verify(net, secateur.cut(net, plan), plan, torch.zeros(1, 4)).passed
        True
    """
    check_model(pruned)
    check_fits(model, plan)
    uniform = "uniform" in plan.notes
    with emptied(model, plan.caches):
        graph = trace(model, example_inputs, call=call, calls=calls, outputs=outputs, uniform=uniform)
    return prove(graph, pruned, plan)


def prove(graph: Graph, pruned: nn.Module, plan: Plan) -> Verification:
    """Verify a pruned model against the model of a graph, on the calls that the graph was traced with."""
    proof = Proof(graph, pruned, plan, [_lively(call) for call in graph.run.source.calls])
    reference = proof.reference(lift=False)
    if proof.readings and dict(reference.steps) != dict(graph.run.numbered):
        proof = proof.retraced()
    try:
        try:
            return _checked(proof, reference)
        except Misaligned:
            return _checked(proof.retraced(), reference)
    except Misaligned as error:
        return Verification.not_tested(f"values decide what runs, and silencing the dropped units changes it: {error}")
    except NotDrawn as error:
        return Verification.not_tested(f"{error}, and the pruned model draws fewer")


def _checked(proof: Proof, reference: Ran) -> Verification:
    """Check in float64, or in the model's own precision if an op does not support float64."""
    try:
        silenced = proof.silenced(shuffled=True)
    except (Misaligned, NotDrawn):
        raise
    except Exception as error:
        if not proof.lift:
            raise NothingToCompare(f"the silenced original does not run: {type(error).__name__}: {error}") from error
        return _checked(replace(proof, lift=False), reference)
    return proof.verification(silenced, reference)


@dataclass(frozen=True)
class Proof:
    """One cut to prove: the graph of the original, the pruned model, its plan, and the calls to compare."""

    graph: Graph
    pruned: nn.Module
    plan: Plan
    calls: Sequence[Call]
    lift: bool = True

    @property
    def model(self) -> nn.Module:
        """The original."""
        return self.graph.model

    @cached_property
    def precision(self) -> Precision:
        """The precision in which the models run."""
        return Precision() if self.lift else Precision.of(self.model)

    @cached_property
    def job(self) -> ReplayJob:
        """The calls, and how the models run them."""
        return ReplayJob(self.calls, self.graph.run.source.outputs, self.plan.caches, self.lift)

    def retraced(self) -> Proof:
        """Return the same proof on a new trace of these calls, for models in which values decide what runs.

        It is in the model's own precision where a call does not run in float64, as when it passes the outputs on to
        another model.
        """
        outputs, uniform = self.graph.run.source.outputs, "uniform" in self.plan.notes
        try:
            with emptied(self.model, self.plan.caches):
                again = trace_calls(self.model, self.calls, outputs, "real", lift=self.lift, uniform=uniform)
        except PruningError:
            if not self.lift:
                raise
            return replace(self, lift=False).retraced()
        return replace(self, graph=again)

    @cached_property
    def units(self) -> Units:
        """The units that stay."""
        return Silencing(self.graph, self.plan).units

    @cached_property
    def readings(self) -> Mapping[At, Reading]:
        """The readings of calls that reduce over dropped units or draw random numbers."""
        return {at: reading for at, reading in self.graph.run.readings.items() if _concerns(reading, self.units)}

    def reference(self, *, lift: bool) -> Ran:
        """Run the original as it is. Raises `PruningError` if it does not run, or if its outputs are not finite."""
        low = any(slot.tensor.dtype in (torch.float16, torch.bfloat16) for slot in slots(self.model))
        drawn = any(reading.drawn is not None for reading in self.graph.run.readings.values())
        job, readings = replace(self.job, lift=lift or low or drawn), self.readings
        try:
            ran = job.run(self.model, None, readings, Units())
        except (Misaligned, NotDrawn):
            return Ran([], {})
        except Exception as error:
            self._check_runs()
            raise NothingToCompare(f"the original does not run: {type(error).__name__}: {error}") from error
        try:
            _check_comparable(ran.tensors)
        except NothingToCompare:
            if lift or not self.lift:
                raise
            return self.reference(lift=True)  # an overflow in a lower precision may not occur in float64
        return ran

    def _check_runs(self) -> None:
        """Raise `InputError` if the original does not run as it is on the inputs that it was traced with."""
        if any(slot.tensor.is_meta for slot in slots(self.model)):
            return  # it has no values, so it cannot run
        try:
            replace(self.job, lift=False).run(self.model)
        except torch.OutOfMemoryError:
            return
        except Exception as error:
            raise InputError(refusal(error, self.calls[0])) from error

    def silenced(self, plan: Plan | None = None, *, shuffled: bool = False, clean: bool = False) -> list[Tensor]:
        """Run the original with the dropped units of a plan silenced."""
        how = Silencing(self.graph, plan or self.plan, shuffled)
        return self.job.run(self.model, how.fill, self.readings, how.units, around=how.bypass, clean=clean).tensors

    def small(self) -> list[Tensor]:
        """Run the pruned model; if it was recovered, the cut before that."""
        model = cut(self.model, self.plan) if self.plan.recovery else self.pruned
        with opened(model, self.plan):
            return self._run_pruned(model, exactly_scaled(self.model, model, self.plan) if self.lift else copy)

    def _run_pruned(self, model: nn.Module, fill: Fill | None = None) -> list[Tensor]:
        drawn = {at: reading for at, reading in self.readings.items() if reading.drawn is not None}
        units = Units(self.units.keep, gone=True)
        try:
            return self.job.run(model, fill, drawn, units).tensors
        except (Misaligned, NotDrawn):
            raise
        except Exception as error:
            raise PruningError(f"the pruned model does not run: {type(error).__name__}: {error}") from error

    def verification(self, silenced: list[Tensor], reference: Ran) -> Verification:
        """Compare the pruned model with the silenced and reordered original."""
        small = self.small()
        divided = not all(map(same_infinities, silenced, reference.tensors or silenced))
        if divided:
            silenced = self.silenced(shuffled=True, clean=True)
        error = distance(silenced, small)
        if divided and not error < self.precision.tolerance:
            return Verification.not_tested(
                "the original divides by values of dropped units, so these units cannot be silenced"
            )
        errors = (error, error) if error < self.precision.tolerance else self._apart(small)
        visible, others = self._seen(silenced, reference)
        recovered = tuple(dict.fromkeys(step.step for step in self.plan.recovery))
        differs = self._recovered_differs(small) if recovered else None
        found = Verification(*errors, visible, recovered, differs, others, self.precision)
        return replace(found, untested=NOTHING_REMOVED) if self.plan.is_empty and found.open is not None else found

    def _apart(self, small: list[Tensor]) -> tuple[float, float]:
        """Return the errors of the two laws, each checked alone."""
        permuted = self.silenced(nothing_of(self.plan), shuffled=True)
        return distance(self.silenced(), small), distance(self.reference(lift=self.lift).tensors, permuted)

    def _seen(self, silenced: list[Tensor], reference: Ran) -> tuple[float, float | None]:
        """Return how much silencing the dropped units changes the outputs; if nothing, also how much the others do."""
        visible = distance(reference.tensors, silenced)
        if self.lift and not CLEARLY < visible < float("inf"):
            reference = self.reference(lift=True)
            visible = distance(reference.tensors, silenced)
        if visible >= self.precision.tolerance:
            return visible, None
        visible = distance(reference.tensors, self.silenced())  # sums in the original's order
        return visible, distance(reference.tensors, self.silenced(with_others(self.plan)))

    def _recovered_differs(self, small: Sequence[Tensor]) -> str | None:
        """Return how a recovered model differs from the cut, whose outputs are `small`, in more than weights."""
        differs = difference(self.pruned, cut(self.model, self.plan))
        if differs is not None:
            return differs
        found = self._run_pruned(self.pruned)
        shapes, wanted = ([tuple(t.shape) for t in tensors] for tensors in (found, small))
        if shapes != wanted:
            return f"its outputs have the shapes {shapes}, the outputs of the cut {wanted}"
        wrong = [i for i, pair in enumerate(zip(found, small, strict=True)) if not same_infinities(*pair)]
        return f"output {wrong[0]} is not finite" if wrong else None


def _concerns(reading: Reading, units: Units) -> bool:
    terms = [*(read[3] for read in reading.reads), *reading.masked, *reading.numbered.values()]
    terms += [term for sizes in reading.resized.values() for term in sizes]
    return reading.drawn is not None or any(map(units.loses, terms))


def _lively(call: Call) -> Call:
    """Replace constant inputs, which would prove little, by random numbers."""
    generator = torch.Generator().manual_seed(0)

    def change(tensor: Tensor) -> Tensor:
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() < 2:
            return tensor
        if tensor.layout != torch.strided:  # which entries a sparse tensor has says enough
            return tensor
        if bool((tensor != tensor.flatten()[0]).any()):
            return tensor
        noise = torch.randn(tensor.shape, generator=generator, dtype=WIDE.get(tensor.dtype, tensor.dtype))
        return noise.to(tensor.device, tensor.dtype).as_subclass(type(tensor))

    return call.map(change)


def _check_comparable(outputs: Sequence[Tensor]) -> None:
    """Raise `NothingToCompare` if an output has a nan or only infinities. A few infinities are padding."""
    for i, tensor in enumerate(outputs):
        if bool(torch.isnan(tensor).any()) or (tensor.numel() and not bool(torch.isfinite(tensor).any())):
            raise NothingToCompare(
                f"output {i} of the original model is not finite, so nothing can be compared with it"
            )


def permutation_of(model: nn.Module, graph: Graph, *, seed: int = 0) -> nn.Module:
    """Return a copy with the units of every axis of `graph` in random order, everywhere at once."""
    return cut(model, permutation_plan(graph, seed=seed))


__all__ = ["permutation_of", "prove", "verify"]
