"""Prove on the user's own model that a pruned one is right: laws 1 and 2, in float64.

1. Silence: the pruned model computes what the original computes with the dropped units zeroed wherever they occur
   (a mean or variance over units reads the kept ones only) and with removed blocks giving what they are given.
2. Permutation: reordering the units of every axis, everywhere at once, changes nothing; so every place that an axis
   reaches is known.

Both are checked by one comparison: the pruned model against the original with its dropped units silenced and the units
of all axes reordered. Where the two differ, each law is checked alone, to tell which one fails.

Units that are dead change nothing when they are silenced: then the first law says that the pruned model computes what
the original does. It could only fail where units of these axes reach the outputs at all, so those that stay are
silenced in their place, which must be seen.

Where the silenced original divides by something that was silenced, its outputs are not finite. Then it runs once more,
and what such a division makes is zero, as the silenced unit is.

Where weights were recovered after the cut, they are no longer the original's, and no law says what they must be. Then
the laws are checked on the cut alone, made anew, and the pruned model must have its structure and run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from secateur.apply.tensors import Cutter
from secateur.base.precision import WIDE, wide
from secateur.base.process import trainable
from secateur.errors import InputError, PruningError
from secateur.graph.graph import Graph
from secateur.graph.parts import At, Reading
from secateur.plan.plan import Plan
from secateur.proof.lifted import copy
from secateur.proof.noise import NotDrawn
from secateur.proof.ondemand import Fill
from secateur.proof.replay import Misaligned, Ran, ReplayJob
from secateur.proof.silencing import Silencing, nothing_of, orders, permutation_plan, with_others
from secateur.proof.units import Units
from secateur.trace.tracing import trace, trace_calls


class NothingToCompare(PruningError):
    """The original gives nothing on these inputs that a pruned model could be compared with."""


TOLERANCE = 1e-9
VISIBLE = 1e-6
NOTHING_REMOVED = "nothing was removed, so there is nothing to prove"
BLIND = (
    "give trained weights: the last layer may be zero, as in a new model, or activations vanish on the way, "
    "as behind a layer of which masks left nothing"
)
CLEARLY = 1e-3
"""What silencing changes is seen in the model's own precision from this share of the outputs on."""


@dataclass(frozen=True)
class Precision:
    """In what the laws were checked, and by how much equal outputs may differ there.

    Where the model cannot be run in float64, its own precision must do, of which sums in another order leave about half
    of the digits: the tolerance is the square root of its rounding error.
    """

    name: str = "float64"
    tolerance: float = TOLERANCE
    visible: float = VISIBLE

    @staticmethod
    def of(model: nn.Module) -> Precision:
        """The coarsest precision of a model's tensors."""
        kinds = {slot.tensor.dtype for slot in slots(model) if slot.tensor.is_floating_point()} or {torch.float32}
        coarsest = max(kinds, key=lambda dtype: torch.finfo(dtype).eps)
        tolerance = torch.finfo(coarsest).eps ** 0.5
        return Precision(str(coarsest).removeprefix("torch."), tolerance, 10 * tolerance)


@dataclass(frozen=True)
class Verification:
    """Relative errors (largest difference over largest value) of both laws, and whether they hold.

    `visible` is how far the silenced model lies from the original. Where that is zero, `others` is how far it lies from
    it with the units that stay silenced in place of those that go: were that zero too, the first law would say nothing.
    `recovered`: the steps that changed weights after the cut. Then both laws were checked on the cut before them, and
    `structure` says how the pruned model differs from it in more than weights (None: it does not). `precision`: in what
    the models ran, and the errors allowed there. `untested`: why the laws could not be checked (None: they were).
    """

    silence: float
    permutation: float
    visible: float
    recovered: tuple[str, ...] = ()
    structure: str | None = None
    others: float | None = None
    precision: Precision = field(default_factory=Precision)
    untested: str | None = None

    @property
    def dead(self) -> bool:
        """Whether the dropped units change nothing on these inputs, and those that stay do."""
        seen = self.others is not None and self.others > self.precision.visible
        return self.visible < self.precision.tolerance and seen

    @property
    def lawful(self) -> bool:
        """Whether both laws hold; they may hold because nothing could have been seen."""
        return self.untested is None and max(self.silence, self.permutation) < self.precision.tolerance

    @property
    def conclusive(self) -> bool:
        """Whether the laws could have failed."""
        return self.untested is None and (self.visible > self.precision.visible or self.dead)

    @property
    def passed(self) -> bool:
        """Whether both laws hold and could have failed, and a recovered model is built like the cut."""
        return self.lawful and self.conclusive and self.structure is None

    @property
    def wrong(self) -> bool:
        """Whether a law is broken, or a recovered model is built otherwise."""
        return self.untested is None and (self.structure is not None or not self.lawful)

    @property
    def open(self) -> str | None:
        """Why nothing is proved though nothing is wrong; None where something is."""
        if self.untested is not None or self.wrong or self.conclusive:
            return self.untested
        return self._unseen

    @property
    def _unseen(self) -> str:
        return (
            f"silencing the dropped units changes the outputs by only {self.visible:.1e}, where more than "
            f"{self.precision.visible:.0e} is needed to see them; {BLIND}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "passed": self.passed}

    def __str__(self) -> str:
        lines = [self._laws()]
        if self.recovered:
            lines.append(f"weights were recovered by {', '.join(self.recovered)}; the cut before it was checked")
        if self.structure is not None:
            lines.append(f"FAILED: the recovered model is not built like the cut: {self.structure}")
        return "\n".join(lines)

    def _laws(self) -> str:
        if self.untested is not None or (self.lawful and not self.conclusive):
            return f"not proved: {self.untested or self._unseen}"
        dead = ""
        if self.dead:
            dead = f", so what goes is dead: silencing what stays of its axes changes them by {self.others:.1e}"
        coarse = "" if self.precision == Precision() else f" in {self.precision.name}, for float64 cannot be run"
        together = "with the units of all axes permuted"
        apart = f"permuted equals original to {self.permutation:.1e}"
        return (
            f"{'proved' if self.lawful else 'FAILED'}: pruned equals silenced to {self.silence:.1e}, "
            f"{together if self.silence == self.permutation else apart} (allowed {self.precision.tolerance:.0e}"
            f"{coarse}); silencing changes the outputs by {self.visible:.1e}{dead}"
        )


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

    The models run with float64 copies of their tensors, one model at a time, and are left as they were. Constant float
    inputs (all zeros, all ones) are replaced by random numbers, which prove more. Where the plan names recovery steps,
    its cut is made anew and checked in the place of `pruned`, which must have the same tensors by name and shape, the
    same modules and integers, and run.

    Args:
        model: The original, as it was when the plan was made.
        pruned: What is to be checked.
        plan: The plan that made it.
        example_inputs: What the model is called with, as for `trace`.
        call: In their place, a function that runs the model, as for `trace`.
        calls: Further calls, as for `trace`.
        outputs: Picks what counts as output, as it did for the trace that the plan was made on.

    Returns:
        The errors of both laws, and whether they hold.

    Raises:
        InputError: The plan is not of this model, or the model does not run on these inputs.
        PruningError: The original's outputs are not finite, or the pruned model does not run.

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
    """The same for the model of a graph, on the calls that it was traced with."""
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
        return _untested(f"values decide what runs, and silencing the dropped units changes it: {error}")
    except NotDrawn as error:
        return _untested(f"{error}, of which the pruned model draws fewer")


def _checked(proof: Proof, reference: Ran) -> Verification:
    """In float64, or in the model's own precision where it has an op without such a form."""
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
    """One cut to be proved: the model and its graph, what was made of it, by which plan, and the calls to compare."""

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
        """In what the models run."""
        return Precision() if self.lift else Precision.of(self.model)

    @cached_property
    def job(self) -> ReplayJob:
        """How they run."""
        return ReplayJob(self.calls, self.graph.run.source.outputs, self.plan.caches, self.lift)

    def retraced(self) -> Proof:
        """The same by a trace on these very calls and in this precision, where values decide what runs."""
        outputs, uniform = self.graph.run.source.outputs, "uniform" in self.plan.notes
        with emptied(self.model, self.plan.caches):
            again = trace_calls(self.model, self.calls, outputs, "real", lift=self.lift, uniform=uniform)
        return replace(self, graph=again)

    @cached_property
    def units(self) -> Units:
        """Which units stay."""
        return Silencing(self.graph, self.plan).units

    @cached_property
    def readings(self) -> Mapping[At, Reading]:
        """What the graph knows of calls that reduce over units that go, or draw random numbers."""
        return {at: reading for at, reading in self.graph.run.readings.items() if _concerns(reading, self.units)}

    def reference(self, *, lift: bool) -> Ran:
        """The original as it is. Raises `PruningError` where it does not run, or its outputs are not finite."""
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
            return self.reference(lift=True)  # what overflows in a lower precision need not in float64
        return ran

    def _check_runs(self) -> None:
        """Raise `InputError` where the original does not run as it is on what it was traced with."""
        if any(slot.tensor.is_meta for slot in slots(self.model)):
            return  # it has no values, whatever it is given
        try:
            replace(self.job, lift=False).run(self.model)
        except torch.OutOfMemoryError:
            return
        except Exception as error:
            raise InputError(refusal(error, self.calls[0])) from error

    def silenced(self, plan: Plan | None = None, *, shuffled: bool = False, clean: bool = False) -> list[Tensor]:
        """The original with what a plan drops silenced."""
        how = Silencing(self.graph, plan or self.plan, shuffled)
        return self.job.run(self.model, how.fill, self.readings, how.units, around=how.bypass, clean=clean).tensors

    def small(self) -> list[Tensor]:
        """The pruned model, or where it was recovered the cut before that."""
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
        """What comes of comparing the pruned model with the silenced and reordered original."""
        small = self.small()
        divided = not all(map(same_infinities, silenced, reference.tensors or silenced))
        if divided:
            silenced = self.silenced(shuffled=True, clean=True)
        error = distance(silenced, small)
        if divided and not error < self.precision.tolerance:
            return _untested("the original divides by what belongs to dropped units, so that these cannot be silenced")
        errors = (error, error) if error < self.precision.tolerance else self._apart(small)
        visible, others = self._seen(silenced, reference)
        recovered = tuple(dict.fromkeys(step.step for step in self.plan.recovery))
        differs = self._recovered_differs(small) if recovered else None
        found = Verification(*errors, visible, recovered, differs, others, self.precision)
        return replace(found, untested=NOTHING_REMOVED) if self.plan.is_empty and found.open is not None else found

    def _apart(self, small: list[Tensor]) -> tuple[float, float]:
        """The errors of the two laws, each checked by itself."""
        permuted = self.silenced(nothing_of(self.plan), shuffled=True)
        return distance(self.silenced(), small), distance(self.reference(lift=self.lift).tensors, permuted)

    def _seen(self, silenced: list[Tensor], reference: Ran) -> tuple[float, float | None]:
        """How much silencing changes the outputs; where that is nothing, how much the units that stay do."""
        visible = distance(reference.tensors, silenced)
        if self.lift and not CLEARLY < visible < float("inf"):
            reference = self.reference(lift=True)
            visible = distance(reference.tensors, silenced)
        if visible >= self.precision.tolerance:
            return visible, None
        visible = distance(reference.tensors, self.silenced())  # sums in the original's order
        return visible, distance(reference.tensors, self.silenced(with_others(self.plan)))

    def _recovered_differs(self, small: Sequence[Tensor]) -> str | None:
        """How a recovered model differs from the cut, whose outputs are `small`, in more than weights."""
        differs = difference(self.pruned, cut(self.model, self.plan))
        if differs is not None:
            return differs
        found = self._run_pruned(self.pruned)
        shapes, wanted = ([tuple(t.shape) for t in tensors] for tensors in (found, small))
        if shapes != wanted:
            return f"its outputs have the shapes {shapes}, those of the cut {wanted}"
        wrong = [i for i, pair in enumerate(zip(found, small, strict=True)) if not same_infinities(*pair)]
        return f"output {wrong[0]} is not finite" if wrong else None


def _untested(why: str) -> Verification:
    return Verification(float("nan"), float("nan"), float("nan"), untested=why)


def _concerns(reading: Reading, units: Units) -> bool:
    terms = [*(read[3] for read in reading.reads), *reading.masked, *reading.numbered.values()]
    terms += [term for sizes in reading.resized.values() for term in sizes]
    return reading.drawn is not None or any(map(units.loses, terms))


def _lively(call: Call) -> Call:
    """Constant inputs, which would prove little, become random."""
    generator = torch.Generator().manual_seed(0)

    def change(tensor: Tensor) -> Tensor:
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() < 2:
            return tensor
        if bool((tensor != tensor.flatten()[0]).any()):
            return tensor
        noise = torch.randn(tensor.shape, generator=generator, dtype=WIDE.get(tensor.dtype, tensor.dtype))
        return noise.to(tensor.device, tensor.dtype).as_subclass(type(tensor))

    return call.map(change)


def _check_comparable(outputs: Sequence[Tensor]) -> None:
    """Raise `NothingToCompare` for outputs that are not numbers, or all infinite: a few infinities are padding."""
    for i, tensor in enumerate(outputs):
        if bool(torch.isnan(tensor).any()) or (tensor.numel() and not bool(torch.isfinite(tensor).any())):
            raise NothingToCompare(
                f"output {i} of the original model is not finite, so nothing can be compared with it"
            )


def exactly_scaled(model: nn.Module, small: nn.Module, plan: Plan) -> Fill:
    """Writes the tensors of a cut model. Folded scales were rounded to the model's precision; where they agree to it,
    they are taken unrounded."""
    scaled = {*(scale.name for scale in plan.scales), *(renorm.name for renorm in plan.renorms)}
    names = {id(slot.tensor): slot.name for slot in slots(small) if slot.name in scaled}
    exact = _Exact(model, plan)

    def fill(tensor: Tensor, into: Tensor) -> None:
        into.copy_(tensor.detach())
        if id(tensor) in names:
            unrounded, rounding = exact.of(names[id(tensor)]), 4 * torch.finfo(tensor.dtype).eps
            alike = unrounded.shape == tensor.shape
            if alike and torch.allclose(tensor.detach(), unrounded.to(tensor.dtype), rtol=rounding, atol=0.0):
                into.copy_(unrounded)

    return fill


class _Exact:
    """What a cut in float64 makes of the tensors that a plan scales."""

    def __init__(self, model: nn.Module, plan: Plan):
        self.renorms = {renorm.name: renorm for renorm in plan.renorms}
        self.slots = {slot.name: slot for slot in slots(model)}
        self.plan, self.cutter = plan, Cutter(plan)

    def of(self, name: str) -> Tensor:
        """The values of one of them."""
        made, renorm = self.cutter.exact(name, self.slots[name].tensor), self.renorms.get(name)
        if renorm is None:
            return made
        whole = self.slots[renorm.of].tensor
        return made * self.cutter.left(renorm.of, wide(whole), self.cutter.exact(renorm.of, whole), renorm.dim)


def permutation_of(model: nn.Module, graph: Graph, *, seed: int = 0) -> nn.Module:
    """A copy with the units of every axis of `graph` in random order, everywhere at once."""
    return cut(model, permutation_plan(graph, seed=seed))


__all__ = ["TOLERANCE", "Verification", "orders", "permutation_of", "prove", "verify"]
