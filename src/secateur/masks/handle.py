"""`mask` makes weights zero and keeps them zero through training; `Masks` is the handle on what was masked."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.checks import check_model
from secateur.anatomy.guard import guard, unguard
from secateur.anatomy.masked import Mask, Worn, check_alone, put_on, take_off, worn
from secateur.anatomy.masked_layout import MaskedLayout
from secateur.anatomy.masked_names import plain
from secateur.apply.ready import PLANS, plans_of
from secateur.base.process import trainable
from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.masks.criteria import Measure, Scoring, checked
from secateur.masks.dead import dead, plan_of_dead
from secateur.masks.following import Following
from secateur.masks.patterns import named_pattern, sparsity_of
from secateur.masks.sparsify import Rules
from secateur.masks.table import table
from secateur.masks.user_masks import checked_mask
from secateur.masks.weights import Weight, chosen
from secateur.plan.plan import Plan
from secateur.statistics.sums import Loss


@trainable
def mask(
    model: nn.Module,
    sparsity: float | None = None,
    *,
    scope: str = "global",
    criterion: str | Scoring = "magnitude",
    pattern: str = "unstructured",
    protect: str | Sequence[str] = (),
    only: str | Sequence[str] = (),
    data: Iterable[Any] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> Masks:
    """Make the least important weights of `model` zero, in place, and keep them zero whatever an optimizer does.

    Each weight w becomes w * mask when it is read (`torch.nn.utils.parametrize`); the parameters stay the same objects,
    so an optimizer that holds them still works, and `Masks.remove` restores the model as it was.

    By default every parameter of two or more dimensions in linear, convolutional, attention and recurrent layers is
    masked, and every other parameter of two dimensions. Vectors, norms, embeddings and parameters called an embedding
    or a bias are masked only where `only` has their own name.

    Args:
        model: The model. It is changed in place.
        sparsity: The share of the masked weights that is ZERO. Default: 0.9, or the share that the pattern dictates.
        scope: Which weights compete: those of the whole network ("global"), of each "layer", or of each "output".
        criterion: "magnitude", "random", "wanda" (reads `data`), "taylor" or "snip" (read `data` and `loss`), or a
            function (name, weight) -> scores of the weight's shape. The lowest scores become zero.
        pattern: "unstructured"; "2:4", two of four consecutive inputs stay; "4x1", blocks of four outputs of one input.
        protect: Modules or parameters to leave unmasked, as names or globs.
        only: Modules or parameters to mask, as names or globs. Default: all.
        data, loss: Calibration data, batches of (inputs, targets), and a function (output, targets) -> scalar.
        seed: Seed of "random" and of the calibration run.

    Returns:
        The handle on the masks. Weights that do not divide into the pattern are in its `left_out`.

    Raises:
        InputError: A word or name is unknown, or a weight is computed from others or does not divide into the pattern.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> masks = mask(net, 0.75, scope="layer")
        >>> int((net[0].weight == 0).sum()), masks.sparsity
        (24, 0.75)
    """
    check_model(model)
    measure, rules = Measure(criterion, data, loss, seed), Rules(scope, pattern)
    asked = sparsity_of(sparsity, pattern)
    weights, left_out = _fitting(chosen(model, protect, only), pattern, only)
    scores = _scores(measure.on(lambda: _bare(model)), {w.name: (w.parameter.detach(), w.layout) for w in weights})
    kept = rules.masks(scores, asked)
    for weight in weights:
        values = torch.empty_like(
            weight.parameter.detach()
        )  # in the memory format of the weight, so that the product is fast
        made = Mask(values.copy_(weight.layout.upright(kept[weight.name])), pattern)
        for module, leaf in weight.places:
            put_on(module, leaf, made)
    guard(model)
    return Masks(model, tuple(kept), measure, rules, left_out)


def masks_of(model: nn.Module, *, scope: str = "global", criterion: str | Scoring = "magnitude", **more: Any) -> Masks:
    """Return the handle on the masks that a model has, such as after `secateur.load`, a deep copy or a cut.

    Args:
        model: The masked model.
        scope: The scope that `Masks.update` uses, as in `mask`.
        criterion: The criterion that `Masks.update` uses, as in `mask`.
        **more: `data`, `loss` and `seed` of `Masks.update`, as in `mask`.

    Returns:
        The handle on all masks of the model.

    Raises:
        InputError: The model has no masks, or a masked weight has another parametrization as well.

    Example:
        >>> import copy
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> _ = mask(net, 0.5)
        >>> masks_of(copy.deepcopy(net)).sparsity
        0.5
    """
    check_alone(model)
    found = worn(model)
    if not found:
        raise InputError(f"this {type(model).__name__} has no masks\nadd some with secateur.mask(model, sparsity)")
    patterns = {one.mask.pattern for one in found.values()}
    pattern = patterns.pop() if len(patterns) == 1 else "unstructured"
    return Masks(model, tuple(found), Measure(criterion, **more), Rules(scope, pattern))


@dataclass(frozen=True)
class Masks:
    """The masks of a model. `print(masks)` shows what is left of each layer.

    Attributes:
        model: The masked model.
        names: The names of the masked weights, as they are called without masks.
        measure: The criterion and the data that `update` uses.
        rules: The scope and the pattern that `update` uses.
        left_out: The weights that do not divide into the pattern, by name, and why.
    """

    model: nn.Module = field(repr=False)
    names: tuple[str, ...]
    measure: Measure = field(repr=False)
    rules: Rules
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def worn(self) -> dict[str, Worn]:
        """The weights that still have a mask, by name; a block may have been removed since.

        Raises:
            InputError: A masked weight has another parametrization as well.
        """
        check_alone(self.model)
        found = worn(self.model)
        return {name: found[name] for name in self.names if name in found}

    @property
    def masks(self) -> dict[str, Tensor]:
        """The masks by the name of the weight: bools of its shape, True where a value stays.

        Raises:
            InputError: The masks have no values, because they are on the meta device.
        """
        return {name: one.mask.mask != 0 for name, one in _with_values(self.worn).items()}

    @property
    def sparsity(self) -> float:
        """The share of the masked weights that is zero."""
        kept = self.masks.values()
        total = sum(mask.numel() for mask in kept)
        return 1 - sum(int(mask.count_nonzero()) for mask in kept) / total if total else 0.0

    @property
    def density(self) -> dict[str, float]:
        """The share of each weight that stays, by name."""
        return {name: int(mask.count_nonzero()) / mask.numel() for name, mask in self.masks.items()}

    @trainable
    def update(self, sparsity: float, *, regrow: bool = False) -> None:
        """Change the masks in place to a higher sparsity, by the scores that the weights have now.

        Args:
            sparsity: The share of the masked weights that is ZERO afterwards.
            regrow: Whether weights may come back, by the scores of the values behind the masks.

        Raises:
            InputError: The masks are already sparser and `regrow` is not set, or a weight no longer fits the pattern.

        Example:
            >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
            >>> masks = mask(net, 0.5)
            >>> masks.update(0.75)
            >>> masks.sparsity
            0.75
        """
        pattern = self.rules.pattern
        fixed = named_pattern(pattern).fixed is not None
        asked = sparsity_of(sparsity, pattern)
        found = _with_values(self._found())
        _check_pattern(found, pattern)
        held = {name: one.layout.upright(one.mask.mask) for name, one in found.items()}
        weights = {
            name: (one.parameter.detach() if regrow else one.weight(), one.layout) for name, one in found.items()
        }
        scores = _scores(self.measure.on(lambda: _bare(self.model)), weights)
        kept = self.rules.masks(scores, asked, None if regrow or fixed else held)
        for name, one in found.items():
            one.mask.mask.copy_(one.layout.upright(kept[name]))

    @trainable
    def assign(self, kept: Mapping[str, Tensor]) -> None:
        """Set masks to given ones, such as those of another run.

        Args:
            kept: Masks by the name of the weight, of its shape: 0 and 1, or bools. Other weights keep their masks.

        Raises:
            InputError: A name has no mask, or a mask has another shape, other values or another pattern. Nothing is
                changed then.

        Example:
            >>> net = nn.Linear(2, 2)
            >>> masks = mask(net, 0.0)
            >>> masks.assign({"weight": torch.eye(2)})
            >>> masks.sparsity
            0.5
        """
        found = _with_values(self._found())
        fitting = {name: checked_mask(name, one, found) for name, one in kept.items()}
        for name, one in fitting.items():
            found[name].mask.mask.copy_(one)

    def follow(self, schedule: Callable[[int], float], *, regrow: bool = False) -> Following:
        """Return an object whose `step()` raises the sparsity along a schedule.

        Args:
            schedule: A function from the number of a step to the share of weights that REMAINS.
            regrow: Whether weights may come back, as in `update`.

        Returns:
            The object. Call its `step()` after each step of the optimizer.

        Example:
            >>> from secateur.train.schedules import cubic
            >>> masks = mask(nn.Linear(10, 10), 0.0)
            >>> pruner = masks.follow(cubic(0.2, steps=2))
            >>> for _ in range(2):  # after each step of the optimizer
            ...     pruner.step()
            >>> masks.sparsity
            0.8
        """
        return Following(self.update, schedule, regrow)

    @trainable
    def harden(self) -> None:
        """Make the zeros permanent and remove the masks. Later training can change the zeros again.

        Raises:
            InputError: The masks were already removed, or have no values.

        Example:
            >>> net = nn.Linear(4, 8)
            >>> mask(net, 0.5).harden()
            >>> int((net.weight == 0).sum()), type(net).__name__
            (16, 'Linear')
        """
        for one in _with_values(self._found()).values():
            with torch.no_grad():
                one.parameter.copy_(torch.where(one.mask.mask == 0, 0, one.parameter * one.mask.mask))
        self.remove()

    @trainable
    def remove(self) -> None:
        """Remove the masks, and restore the values behind them. Without training the weights are the same as before.

        Raises:
            InputError: The masks were already removed.

        Example:
            >>> net = nn.Linear(4, 8)
            >>> before = net.weight.clone()
            >>> mask(net, 0.5).remove()
            >>> torch.equal(net.weight, before)
            True
        """
        found = self._found()
        for one in found.values():
            for module, leaf in one.places:
                take_off(module, leaf)
        if not plans_of(self.model):
            unguard(self.model)
        else:
            self.model.__dict__[PLANS] = tuple(plain(plan, found) for plan in plans_of(self.model))

    def dead(self, graph: Graph) -> dict[str, list[int]]:
        """Return the units that can be dropped without a change of the output.

        Args:
            graph: A trace of this model.

        Returns:
            The dead units by the name of their axis, for `secateur.plan(graph, drop=...)`.
        """
        return dead(graph)

    @trainable
    def plan(self, example_inputs: Any, **options: Any) -> Plan:
        """Return the plan that drops the units that masks made entirely zero; the cut model computes the same.

        Args:
            example_inputs: What the model is called with, as in `secateur.trace`.
            **options: Options of `secateur.trace`.

        Returns:
            The plan, empty where no unit is entirely zero. Apply it with `secateur.cut(model, plan)`.
        """
        return plan_of_dead(self.model, example_inputs, **options)

    def __str__(self) -> str:
        return table(self)

    def _found(self) -> dict[str, Worn]:
        found = self.worn
        if not found:
            raise InputError("these masks were removed\nadd new ones with secateur.mask(model, sparsity)")
        return found


def _with_values(found: dict[str, Worn]) -> dict[str, Worn]:
    """Return the argument. Raises `InputError` where masks have no values."""
    for name, one in found.items():
        if one.mask.mask.is_meta:
            raise InputError(
                f"the mask of {name} is on the meta device and has no values\n"
                "masks are loaded with the weights: secateur.load(model, path), into a freshly built model"
            )
    return found


def _fitting(weights: Sequence[Weight], pattern: str, only: str | Sequence[str]) -> tuple[list[Weight], dict[str, str]]:
    """Return the weights that divide into the pattern, and why the others do not."""
    reasons = {weight.name: why for weight in weights if (why := _lack(weight, pattern)) is not None}
    named = {only} if isinstance(only, str) else set(only)
    for weight in weights:
        if weight.name in reasons and named & {*weight.names, *(name.rpartition(".")[0] for name in weight.names)}:
            raise InputError(
                f"{weight.name} {tuple(weight.parameter.shape)} cannot be masked {pattern}: {reasons[weight.name]}"
            )
    fitting = [weight for weight in weights if weight.name not in reasons]
    if not fitting:
        name, why = next(iter(reasons.items()))
        raise InputError(f"no weight can be masked {pattern}; the first, {name}: {why}")
    return fitting, reasons


def _lack(weight: Weight, pattern: str) -> str | None:
    """Return why a weight cannot have a pattern; None where it can."""
    if not weight.directed and pattern != "unstructured":
        return "it has three dimensions, and it is not known which are inputs and which are outputs"
    return named_pattern(pattern).lack(tuple(weight.layout.upright(weight.parameter).shape), weight.layout.groups)


def _check_pattern(found: Mapping[str, Worn], pattern: str) -> None:
    """Raise `InputError` for a mask of another pattern, and for sizes after a cut that the pattern does not divide."""
    for name, one in found.items():
        if one.mask.pattern != pattern:
            raise InputError(
                f"{name} has the pattern {one.mask.pattern}, and other weights have {pattern}\n"
                "set them with masks.assign, or remove them with masks.remove() and mask again layer by layer"
            )
        lack = named_pattern(pattern).lack(tuple(one.layout.upright(one.mask.mask).shape), one.layout.groups)
        if lack:
            raise InputError(
                f"{name} cannot have the pattern {pattern} any more: {lack}\n"
                "make its zeros permanent with masks.harden(), or cut in multiples: select='*: align=4'"
            )


def _scores(scoring: Scoring, weights: dict[str, tuple[Tensor, MaskedLayout]]) -> dict[str, Tensor]:
    """Return scores by name, outputs first. weights: the values, and their layout."""
    with torch.no_grad():
        return {
            name: layout.upright(checked(name, scoring(name, weight), weight))
            for name, (weight, layout) in weights.items()
        }


def _bare(model: nn.Module) -> nn.Module:
    """Return the model, or, where it has masks, a copy with permanent zeros, since calibration needs plain weights.

    Raises `InputError` where it cannot be copied.
    """
    if not worn(model):
        return model
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise InputError(
            f"the model cannot be copied, so the criterion cannot be measured: {type(error).__name__}: {error}"
        ) from error
    masks_of(copied).harden()
    return copied


__all__ = ["Masks", "mask", "masks_of"]
