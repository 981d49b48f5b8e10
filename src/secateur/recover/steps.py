"""The recovery steps, their registry, and `recover_`, which applies them to a cut model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor, nn

from secateur.anatomy.keeping import kept, set_modes
from secateur.anatomy.masked import worn
from secateur.anatomy.running import seeded
from secateur.anatomy.slots import slots
from secateur.apply.closing import opened
from secateur.apply.ready import PLANS, plans_of
from secateur.apply.recovered import recovered_
from secateur.base.nested import tensors_in
from secateur.base.process import trainable
from secateur.base.table import Table
from secateur.errors import InputError, nearest
from secateur.graph.graph import Graph
from secateur.plan.parts import Added, Recovery
from secateur.plan.plan import Plan
from secateur.recover.constants import Constants
from secateur.recover.layerwise import Layerwise
from secateur.recover.moments import FromMoments
from secateur.recover.norms import estimate_norms
from secateur.recover.task import Task
from secateur.recover.walking import rehearsed
from secateur.statistics.batches import batches
from secateur.statistics.sums import PLACES, Statistics

StepSums: TypeAlias = "tuple[dict[Added, Tensor], dict[str, Any]]"
"""The parameters that a step adds, with their values, and the figures that it reports."""


@runtime_checkable
class Step(Protocol):
    """The interface of a recovery step: a frozen dataclass whose fields are its options.

    `name` is what `recover=` takes, and `needs` lists the statistics that calibration must collect
    (`secateur.statistics.NEEDS`).
    """

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]

    def __call__(self, task: Task) -> StepSums:
        """Change the weights of the task's model in place.

        Returns:
            The parameters that the step adds, with their values, and the figures that it reports.
        """
        ...


@dataclass(frozen=True)
class Norms:
    """Step "norms": re-estimate the running mean and variance of every batch norm over the calibration batches.

    Reference:
        Li et al., "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", ECCV 2020, section 3.3
        (adaptive batch normalization).
    """

    name: ClassVar[str] = "norms"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, task: Task) -> StepSums:
        return {}, {"norms": estimate_norms(task.model, task.batches)}


@dataclass(frozen=True)
class MeanShift:
    """Step "shift": add the mean contribution of removed units to the biases of the weights that read them.

    Args:
        add_bias: Whether layers without a bias get one.

    Reference:
        Berisha et al., "Variance-Based Pruning for Accelerating and Compressing Trained Networks", ICCV 2025, which
        moves the mean of removed activations into the next bias.
    """

    add_bias: bool = True

    name: ClassVar[str] = "shift"
    needs: ClassVar[frozenset[str]] = frozenset({"moments"})

    def __call__(self, task: Task) -> StepSums:
        with _constants(task, self.add_bias) as (ends, constants):
            changed = FromMoments(task, ends, constants).shift()
            return constants.tidy(), {"biases": changed}


@dataclass(frozen=True)
class MomentLeastSquares:
    """Step "lsq_moments": least squares in one pass for every weight that lost inputs, from moments of the dense model.

    Args:
        ridge: The ridge penalty, as a multiple of the mean second moment of the inputs.
        add_bias: Whether layers without a bias get one.

    Reference:
        He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, equation 4.
    """

    ridge: float = 1e-3
    add_bias: bool = True

    name: ClassVar[str] = "lsq_moments"
    needs: ClassVar[frozenset[str]] = frozenset({"gram"})

    def __call__(self, task: Task) -> StepSums:
        with _constants(task, self.add_bias) as (ends, constants):
            changed = FromMoments(task, ends, constants).least_squares(self.ridge)
            return constants.tidy(), {"weights": changed}


@dataclass(frozen=True)
class LeastSquares:
    """Step "lsq": layer-by-layer least squares for every weight, on the inputs that it has in the cut model.

    The ridge penalty is chosen on held-out rows. Weights stay as they were if the outputs would be further from those
    of the dense model than before. `secateur.recover.layerwise` describes the method.

    Args:
        places: The number of positions that are sampled of each image or sequence.
        add_bias: Whether layers without a bias get one where no batch norm behind them can take the constant.

    Reference:
        He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, equation 4 and
        its extension to whole models and residual sums.
    """

    places: int = PLACES
    add_bias: bool = True

    name: ClassVar[str] = "lsq"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, task: Task) -> StepSums:
        plain = _outputs(task)
        with _constants(task, self.add_bias) as (ends, constants):
            before = {slot.name: slot.tensor.detach().clone() for slot in slots(task.model)}
            layers = Layerwise(task, ends, constants, places=self.places)
            dense, cut = layers.run()
            wanted = [_picked(task.graph, out) for out in dense]
            old, new = _error(plain, wanted), _error([_picked(task.graph, out) for out in cut], wanted)
            if not new < old:
                _put_back(task.model, before)
            figures = {"weights": len(layers.ridges) if new < old else 0, "error_before": old, "error_after": new}
            return constants.tidy(), figures


STEPS: Table[str, Callable[[], Step]] = Table("recovery steps named")
for _step in (Norms, MeanShift, LeastSquares, MomentLeastSquares):
    STEPS[_step.name] = _step
Recover: TypeAlias = "str | Step | Sequence[str | Step]"


def named_steps(recover: Recover) -> list[Step]:
    """Return the recovery steps of a `recover=` argument.

    Args:
        recover: The name of a step in `STEPS`, a step with options, or a list of these.

    Returns:
        The steps, in order.

    Raises:
        InputError: A name is unknown, or an entry is not a step.
    """
    if not isinstance(recover, (str, Step, list, tuple)):
        raise InputError(
            f"recover={recover!r} is not a recovery step\ngive one of {', '.join(STEPS)}, or a list of steps"
        )
    asked = [recover] if isinstance(recover, (str, Step)) else list(recover)
    found: list[Step] = []
    for one in asked:
        if isinstance(one, str) and one in STEPS:
            found.append(STEPS[one]())
        elif isinstance(one, Step) and not isinstance(one, type):
            found.append(one)
        else:
            near = nearest(str(one), STEPS) if isinstance(one, str) else ""
            raise InputError(f"unknown recovery step {one!r}{near}\nknown: {', '.join(STEPS)}")
    return found


def needs_of(recover: Recover) -> frozenset[str]:
    """Return the names of the statistics that calibration must collect for the steps of a `recover=` argument."""
    return frozenset().union(*(step.needs for step in named_steps(recover)))


@trainable
def recover_(
    model: nn.Module,
    graph: Graph,
    plan: Plan,
    data: Iterable[Any],
    recover: Recover = "lsq",
    *,
    statistics: Statistics | None = None,
    seed: int = 0,
) -> Plan:
    """Recover a cut model in place, step by step. If a step fails, the model is left as it was.

    Args:
        model: The model that `cut` made by `plan` from the model of `graph`.
        graph: The Graph of the dense model, which is only read.
        plan: The Plan of the cut.
        data: Calibration batches, as for `secateur.statistics.calibrate`. All of them are held in memory.
        recover: A name in `STEPS`, a step with options, or a list of these.
        statistics: Statistics of the dense model, for steps that need them.
        seed: The same seed gives the same weights.

    Returns:
        The plan, extended by the steps and the parameters that they added.

    Raises:
        InputError: A step is unknown, the data are empty, the statistics lack what a step needs, or a step would solve
            for a masked weight.

    Example:
        >>> import secateur
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> graph = secateur.trace(net, torch.zeros(1, 4))
        >>> plan = secateur.plan(graph, "channels=0.5")
        >>> small = secateur.cut(net, plan)
        >>> recover_(small, graph, plan, [torch.randn(64, 4)], "lsq").recovery[0].step
        'lsq'

    Reference:
        Each step names its paper; see `Norms`, `MeanShift`, `LeastSquares` and `MomentLeastSquares`.
    """
    steps = named_steps(recover)
    _check_needs(steps, statistics)
    _check_masks(steps, model)
    device = next((p.device for p in model.parameters()), None)
    with seeded(seed):
        held = list(batches(data, device))
    with opened(model, plan):  # steps follow weights by the names of the graph
        return _recovered(model, graph, plan, held, steps, statistics, seed)


def _recovered(
    model: nn.Module,
    graph: Graph,
    plan: Plan,
    held: list[Any],
    steps: Sequence[Step],
    statistics: Statistics | None,
    seed: int,
) -> Plan:
    before, plans = {slot.name: slot.tensor.detach().clone() for slot in slots(model)}, plans_of(model)
    try:
        for step in steps:
            task = Task(graph, model, plan, held, statistics, seed)
            with kept(graph.model), _evaluating(model, graph.model):
                added, figures = step(task)
            options = {**asdict(step), **figures, "examples": sum(b.examples for b in held), "seed": seed}  # type: ignore[call-overload]
            plan = recovered_(model, added, [Recovery(step.name, options)])
            tensors = dict(model.named_parameters())
            for new, values in added.items():
                tensors[new.name].data.copy_(values)
    except BaseException:
        _put_back(model, before)
        for new in plan.added:
            module, _, leaf = new.name.rpartition(".")
            if new.name not in before:
                model.get_submodule(module)._parameters[leaf] = None
        model.__dict__[PLANS] = plans
        raise
    return plan


@dataclass(frozen=True)
class Recovering:
    """`recover_` as a function of a cut model and its plan, which `search` and `sensitivity` take as `finish`.

    Args:
        graph: The Graph of the dense model.
        data: Calibration batches.
        recover: A name in `STEPS`, a step with options, or a list of these.
        statistics: Statistics of the dense model, for steps that need them.
        seed: As for `recover_`.

    Example:
        >>> import secateur
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> graph, x = secateur.trace(net, torch.zeros(1, 4)), torch.randn(64, 4)
        >>> wanted = net(x).detach()
        >>> finish = Recovering(graph, [x], "lsq")
        >>> found = secateur.sensitivity(graph, lambda m: (m(x) - wanted).square().mean(), ratios=[0.5], finish=finish)
        >>> len(found.curve("0").points)
        1
    """

    graph: Graph
    data: Iterable[Any]
    recover: Recover
    statistics: Statistics | None = None
    seed: int = 0

    def __call__(self, model: nn.Module, plan: Plan) -> None:
        """Recover a model that was cut by this plan, in place."""
        recover_(model, self.graph, plan, self.data, self.recover, statistics=self.statistics, seed=self.seed)


def _check_needs(steps: Sequence[Step], statistics: Statistics | None) -> None:
    have = frozenset() if statistics is None else statistics.needs
    for step in steps:
        lacking = step.needs - have
        if lacking:
            raise InputError(
                f"the recovery step {step.name!r} needs {', '.join(map(repr, sorted(lacking)))}\n"
                f"give statistics=secateur.statistics.calibrate(graph, batches, needs={sorted(step.needs)})"
            )


def _check_masks(steps: Sequence[Step], model: nn.Module) -> None:
    """Raise `InputError` for masked weights: a mask would zero a part of the solution."""
    masked, solving = next(iter(worn(model)), None), [step.name for step in steps if step.name != Norms.name]
    if masked is not None and solving:
        raise InputError(
            f"the recovery step {solving[0]!r} solves for whole weights, and {masked} has a mask\n"
            "recover first and mask afterwards; recover='norms' works with masks"
        )


@contextmanager
def _evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models into evaluation mode within the context."""
    before = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            set_modes(model, training=False)
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _constants(task: Task, add_bias: bool) -> Iterator[tuple[Any, Constants]]:
    """Yield where outputs go and where constants can be added; remove the new biases even after an error."""
    ends = rehearsed(task.graph, task.model, task.batches[0])
    constants = Constants(task.model, ends, ends.solvable, new=add_bias and not task.graph.run.source.uniform)
    try:
        yield ends, constants
    finally:
        constants.tidy()


def _outputs(task: Task) -> list[list[Tensor]]:
    with torch.no_grad():
        return [_picked(task.graph, batch.call.run(task.model)) for batch in task.batches]


def _picked(graph: Graph, output: Any) -> list[Tensor]:
    """Return the floating-point tensors of an output that the trace's `outputs=` selects."""
    picked = graph.run.source.outputs(output) if graph.run.source.outputs is not None else output
    return [tensor.detach() for tensor in tensors_in(picked) if tensor.is_floating_point()]


def _error(found: Sequence[Sequence[Tensor]], wanted: Sequence[Sequence[Tensor]]) -> float:
    """Return |found - wanted|² / |wanted|² over all outputs of all batches; infinity instead of NaN."""
    off = size = 0.0
    for a, b in zip(found, wanted, strict=True):
        for x, y in zip(a, b, strict=True):
            off += float((x.double() - y.double()).square().sum()) if x.shape == y.shape else float("inf")
            size += float(y.double().square().sum())
    error = off / size if size else off
    return error if error == error else float("inf")


def _put_back(model: nn.Module, before: dict[str, Tensor]) -> None:
    for slot in slots(model):
        if slot.name in before:
            slot.tensor.data.copy_(before[slot.name])
