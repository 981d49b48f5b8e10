"""Prove on the user's own model that a pruned one is right: laws 1 and 2, in float64.

1. Silence: the pruned model computes what the original computes with the dropped units zeroed wherever they occur
   (a mean or variance over units reads the kept ones only) and with removed blocks giving what they are given.
2. Permutation: reordering the units of every axis, everywhere at once, changes nothing; so every place that an axis
   reaches is known.

Units that are dead change nothing when they are silenced: then the first law says that the pruned model computes what
the original does. It could only fail where units of these axes reach the outputs at all, so those that stay are
silenced in their place, which must be seen.

Where weights were recovered after the cut, they are no longer the original's, and no law says what they must be. Then
the laws are checked on the cut alone, made anew, and the pruned model must have its structure and run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from .apply.surgery import cut
from .budget.planning import build_plan
from .calls import Call, further
from .cost import Cost
from .errors import InputError, PruningError, nearest
from .graph import Graph
from .plan import AxisPlan, Gives, Plan, needs_plan
from .replay import default_float64, in_float64, run
from .slots import slots
from .structure import difference
from .terms import Each
from .trace import check_model, trace_calls

TOLERANCE = 1e-9
VISIBLE = 1e-6


@dataclass(frozen=True)
class Verification:
    """Relative errors in float64 (largest difference over largest value) of both laws, and whether they hold.

    `visible` is how far the silenced model lies from the original. Where that is zero, `others` is how far it lies from
    it with the units that stay silenced in place of those that go: were that zero too, the first law would say nothing.
    `recovered`: the steps that changed weights after the cut. Then both laws were checked on the cut before them, and
    `structure` says how the pruned model differs from it in more than weights (None: it does not).
    """

    silence: float
    permutation: float
    visible: float
    recovered: tuple[str, ...] = ()
    structure: str | None = None
    others: float | None = None

    @property
    def dead(self) -> bool:
        """Whether the dropped units change nothing on these inputs, and those that stay do."""
        return self.visible < TOLERANCE and self.others is not None and self.others > VISIBLE

    @property
    def passed(self) -> bool:
        """Whether both laws hold and could have failed, and a recovered model is built like the cut."""
        lawful = self.silence < TOLERANCE and self.permutation < TOLERANCE
        return lawful and (self.visible > VISIBLE or self.dead) and self.structure is None

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
        if not (self.visible > VISIBLE or self.dead):
            return (
                f"nothing is proved: silencing the dropped units changes the outputs by only {self.visible:.1e}\n"
                "is none dropped, is the last layer zero, do the inputs die on the way, or do none reach the outputs?"
            )
        dead = ""
        if self.dead:
            dead = f", so what goes is dead: silencing what stays of its axes changes them by {self.others:.1e}"
        verdict = "verified" if self.silence < TOLERANCE and self.permutation < TOLERANCE else "FAILED"
        return (
            f"{verdict}: pruned equals silenced to {self.silence:.1e}, permuted equals original to "
            f"{self.permutation:.1e} (allowed {TOLERANCE:.0e}); silencing changes the outputs by {self.visible:.1e}"
            f"{dead}"
        )


def verify(
    model: nn.Module,
    pruned: nn.Module,
    plan: Plan,
    example_inputs: Any,
    *,
    calls: Iterable[Any] = (),
    outputs: Callable[[Any], Any] | None = None,
) -> Verification:
    """Check that `pruned` is what `plan` makes of `model`, on the example inputs, in float64 copies of both.

    `outputs` picks what counts as output, as it did for the trace that the plan was made on. Constant float inputs (all
    zeros, all ones) are replaced by random numbers, which prove more. Where the plan names recovery steps, its cut is
    made anew and checked in the place of `pruned`, which must have the same tensors by name and shape, the same modules
    and integers, and run. Raises `InputError` where the plan is not of this model, `PruningError` where the original's
    outputs are not finite or the pruned model does not run.

    >>> import secateur
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), "channels=0.5")
    >>> verify(net, secateur.cut(net, plan), plan, torch.zeros(1, 4)).passed
    True
    """
    check_model(model)
    check_model(pruned)
    needs_plan(plan)
    _check_removed(model, plan)
    wanted = [_lively(call) for call in (Call.of(example_inputs), *further(calls))]
    dense = in_float64(model, plan.caches)
    with default_float64():
        graph = trace_calls(dense, wanted, outputs, "real", lift=True, uniform="uniform" in plan.notes)
    reference = run(dense, wanted, outputs=outputs)
    _check_finite(reference)

    def without(units: Plan) -> list[torch.Tensor]:
        return run(_silenced(dense, units, graph), wanted, graph.readings, _keep(graph, units), outputs=outputs)

    silenced = without(plan)
    given, exact = in_float64(pruned, plan.caches), cut(dense, plan)
    checked = exact if plan.recovery else _exactly_scaled(given, pruned, exact, plan)
    small = _run_pruned(checked, wanted, outputs)
    differs = _recovered_differs(given, cut(dense, plan), wanted, small, outputs) if plan.recovery else None
    permuted = run(permutation_of(dense, graph), wanted, outputs=outputs)
    errors = distance(silenced, small), distance(reference, permuted), distance(reference, silenced)
    others = distance(reference, without(_with_others(plan))) if errors[2] < TOLERANCE else None
    recovered = tuple(dict.fromkeys(step.step for step in plan.recovery))
    return Verification(*errors, recovered=recovered, structure=differs, others=others)


def _recovered_differs(
    given: nn.Module,
    exact: nn.Module,
    calls: Sequence[Call],
    small: Sequence[torch.Tensor],
    outputs: Callable[[Any], Any] | None,
) -> str | None:
    """How a recovered model differs from the cut, whose outputs are `small`, in more than weights."""
    differs = difference(given, exact)
    if differs is not None:
        return differs
    found = _run_pruned(given, calls, outputs)
    shapes, wanted = ([tuple(t.shape) for t in tensors] for tensors in (found, small))
    if shapes != wanted:
        return f"its outputs have the shapes {shapes}, those of the cut {wanted}"
    wrong = [i for i, t in enumerate(found) if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    return f"output {wrong[0]} is not finite" if wrong else None


def _run_pruned(model: nn.Module, calls: Sequence[Call], outputs: Callable[[Any], Any] | None) -> list[torch.Tensor]:
    try:
        return run(model, calls, outputs=outputs)
    except Exception as error:
        raise PruningError(f"the pruned model does not run: {type(error).__name__}: {error}") from error


def _lively(call: Call) -> Call:
    """Float inputs in float64; constant ones, which would prove little, become random."""
    generator = torch.Generator().manual_seed(0)

    def change(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        if tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
            return torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
        return tensor.double()

    return call.map(change)


def _check_removed(model: nn.Module, plan: Plan) -> None:
    modules = dict(model.named_modules())
    for name in plan.removed:
        if name not in modules:
            raise InputError(f"the plan removes {name!r}, which this model does not have{nearest(name, modules)}")


def _check_finite(outputs: Sequence[torch.Tensor]) -> None:
    for i, tensor in enumerate(outputs):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise PruningError(f"output {i} of the original model is not finite, so nothing can be compared with it")


def _keep(graph: Graph, plan: Plan) -> dict[Any, Any]:
    """The plan's kept units by the axes of this graph."""
    for name, axis in plan.axes.items():
        if axis.kept is not None and name not in graph.by_name and axis.count != axis.size:
            raise InputError(f"the plan cuts {name!r}, which is no prunable axis of this model on these inputs")
    return {a.term: plan.axes[a.name].kept for a in graph.axes if a.name in plan.axes}


def _with_others(plan: Plan) -> Plan:
    """The plan with all that it keeps of the axes that it cuts dropped in place of what it drops."""

    def others(kept: tuple[int, ...], n: int) -> tuple[int, ...]:
        return tuple(sorted(set(range(n)).difference(kept)))

    def changed(axis: AxisPlan) -> AxisPlan:
        rows: Any = axis.kept if axis.outer is not None else (axis.kept,)
        found = tuple(others(row, axis.size) for row in rows)
        return replace(axis, kept=found if axis.outer is not None else found[0])

    return replace(plan, axes={**plan.axes, **{name: changed(axis) for name, axis in plan.dropped()}})


def _silenced(model: nn.Module, plan: Plan, graph: Graph) -> nn.Module:
    """A copy with the dropped units' slices zeroed on every site, but those of weights that are divided by their norm:
    there the quotient is zeroed."""
    apart = {renorm.of for renorm in graph.renorms}
    copied = in_float64(model)
    named = {slot.name: slot.tensor for slot in slots(copied)}
    with torch.no_grad():
        for name in filter(lambda name: _holds_values(named[name]), plan.sites.keys() - apart):
            for dim, kept in enumerate(plan.positions(name)):
                if kept is not None:
                    gone = sorted(set(range(named[name].shape[dim])) - set(kept))
                    named[name].index_fill_(dim, torch.tensor(gone, dtype=torch.long, device=named[name].device), 0)
    for name, gives in plan.removed.items():
        copied.get_submodule(name).register_forward_hook(_giving_back(gives), with_kwargs=True)
    return copied


def _holds_values(tensor: torch.Tensor) -> bool:
    """Whole numbers are positions: what a list of them picks is silenced where it is read."""
    return tensor.is_floating_point() or tensor.is_complex()


def _giving_back(gives: Gives) -> Callable[..., Any]:
    """A hook that lets a block run and do whatever else it does, but puts what it was given for what it made."""

    def hook(module: nn.Module, args: Any, kwargs: Any, out: Any) -> Any:
        def given(key: int | str) -> torch.Tensor:
            tensor = kwargs[key] if isinstance(key, str) else args[key]
            with torch._C.DisableTorchFunction(), _disable_current_modes():  # a replay counts what the model does
                return tensor.clone()

        if not isinstance(gives, tuple):
            return given(gives or 0)
        at = next(i for i, part in enumerate(out) if isinstance(part, torch.Tensor))
        key = gives[at]
        return (*out[:at], given(0 if key is None else key), *out[at + 1 :])

    return hook


def _exactly_scaled(small: nn.Module, pruned: nn.Module, exact: nn.Module, plan: Plan) -> nn.Module:
    """Folded scales were rounded to the model's precision; where they agree to it, take them unrounded."""
    stored, here, there = (dict(m.named_parameters()) for m in (pruned, small, exact))
    for name in {scaled.name for scaled in (*plan.scales, *plan.renorms)}:
        a, b = here[name].detach(), there[name].detach()
        rounding = 4 * torch.finfo(stored[name].dtype).eps
        if a.shape == b.shape and bool(((a - b).abs() <= rounding * b.abs()).all()):
            a.copy_(b)
    return small


def permutation_of(model: nn.Module, graph: Graph, *, seed: int = 0) -> nn.Module:
    """A copy with the units of every axis of `graph` in random order, everywhere at once."""
    return cut(model, build_plan(graph, orders(graph, seed=seed), Cost.of(graph).full))


def orders(graph: Graph, *, seed: int = 0) -> dict[str, Any]:
    """A random order of the units of every axis, for each outer unit where there are."""
    random = np.random.default_rng(seed)
    kept: dict[str, Any] = {}
    for axis in graph.axes:
        inner = isinstance(axis.term, Each) and axis.term.outer is not None
        rows = [_shuffled(axis.size, random) for _ in range(axis.outer.n if axis.outer else 1)]
        kept[axis.name] = tuple(rows) if inner else rows[0]
    return kept


def _shuffled(n: int, random: np.random.Generator) -> tuple[int, ...]:
    """A random order in which no unit stays in its place: a shuffled ring, each unit taking the next one's."""
    ring = random.permutation(n)
    order = np.empty(n, dtype=np.int64)
    order[ring] = np.roll(ring, 1)
    return tuple(order.tolist())


def distance(a: Sequence[torch.Tensor], b: Sequence[torch.Tensor]) -> float:
    """The largest difference over the largest value, over all outputs; infinite where they do not match at all."""
    if len(a) != len(b) or any(x.shape != y.shape for x, y in zip(a, b, strict=False)):
        return float("inf")
    return max((_relative(x, y) for x, y in zip(a, b, strict=True)), default=float("inf"))


def _relative(x: torch.Tensor, y: torch.Tensor) -> float:
    if not x.numel():
        return 0.0
    if not (x.is_floating_point() and y.is_floating_point()):
        return float((x != y).double().mean())
    scale = max(float(x.abs().max()), float(y.abs().max()), 1e-300)
    difference = float((x - y).abs().max()) / scale
    return difference if difference == difference else float("inf")
