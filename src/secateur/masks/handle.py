"""`mask`: weights of a model become zero and stay so through training; `Masks` is the handle on what was masked."""

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
    so an optimizer that holds them goes on, and `Masks.remove` gives the model back as it was.

    sparsity: the share of the masked weights that is ZERO, by default 0.9, or what the pattern says. scope: whether the
    weights of the whole network compete ("global"), those of each layer ("layer"), or those of each output ("output").
    criterion: "magnitude", "taylor", "snip", "wanda" or "random", of which three read `data` (batches of (inputs,
    targets)) and two of these a `loss`; or a function (name, weight) -> scores. pattern: "unstructured"; "2:4", two of
    four consecutive inputs stay; "4x1", blocks of four consecutive outputs at one input position.
    protect, only: modules or parameters, names or globs. By default all parameters of linear, convolutional, attention
    and recurrent layers of two dimensions and more wear a mask, and whatever else has two dimensions; vectors, norms,
    embeddings and what is called an embedding or a bias do only where `only` has their own name.

    Raises `InputError` for unknown words, for weights that are computed from other parameters already, and for a weight
    that is named in `only` and does not divide into the pattern; others that do not are in `Masks.left_out`.

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
        values = torch.empty_like(weight.parameter.detach())  # in its memory format, else the product is slow
        made = Mask(values.copy_(weight.layout.upright(kept[weight.name])), pattern)
        for module, leaf in weight.places:
            put_on(module, leaf, made)
    guard(model)
    return Masks(model, tuple(kept), measure, rules, left_out)


def masks_of(model: nn.Module, *, scope: str = "global", criterion: str | Scoring = "magnitude", **more: Any) -> Masks:
    """The handle on the masks that a model wears: after `secateur.load`, a deep copy or a cut.

    scope, criterion and more (data, loss, seed) are what `Masks.update` goes by. Raises `InputError` where the model
    wears none.

    >>> import copy
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> _ = mask(net, 0.5)
    >>> masks_of(copy.deepcopy(net)).sparsity
    0.5
    """
    check_alone(model)
    found = worn(model)
    if not found:
        raise InputError(f"this {type(model).__name__} wears no masks; put some on with secateur.mask(model, sparsity)")
    patterns = {one.mask.pattern for one in found.values()}
    pattern = patterns.pop() if len(patterns) == 1 else "unstructured"
    return Masks(model, tuple(found), Measure(criterion, **more), Rules(scope, pattern))


@dataclass(frozen=True)
class Masks:
    """The masks of a model. `print(masks)` shows what is left of each layer.

    names: the weights, as they were called without masks. left_out: weights that do not divide into the pattern, and
    why.
    """

    model: nn.Module = field(repr=False)
    names: tuple[str, ...]
    measure: Measure = field(repr=False)
    rules: Rules
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def worn(self) -> dict[str, Worn]:
        """What still wears its mask: a block may have been cut since. Raises `InputError` where a mask is not alone."""
        check_alone(self.model)
        found = worn(self.model)
        return {name: found[name] for name in self.names if name in found}

    @property
    def masks(self) -> dict[str, Tensor]:
        """Which weights stay, as bools, by name. Raises `InputError` where the masks have no values."""
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
        """Mask more, by the scores of the weights as they are now; the mask of each weight changes in place.

        regrow: whether weights may come back, by the scores of what lies behind the masks. Raises `InputError` where
        the masks are sparser already, and weights must come back for it.

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
        """Set masks to some of your own, such as those of another run: name -> what stays, 0 and 1 or bools.

        What is not named keeps its mask. Raises `InputError`, and changes nothing, for a name that wears none, another
        shape, and zeros that do not lie in the pattern.

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
        """Something whose `step()` masks more as a schedule says: from a step to the share of weights that REMAINS.

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
        """Make the zeros permanent and take the masks off: the model is a plain one. Training lets zeros change again.

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
        """Take the masks off: the weights are what lies behind them, and all as before where nothing was trained.

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
        """Units that can be dropped without a change of the function, by axis: `secateur.plan(graph, drop=...)`.

        graph: a trace of this model. See `secateur.masks.dead`.
        """
        return dead(graph)

    @trainable
    def plan(self, example_inputs: Any, **options: Any) -> Plan:
        """The plan that drops what masks made entirely zero: `secateur.cut(model, plan)` computes the same.

        options: those of `secateur.trace`. Nothing is dropped where no unit is entirely zero.
        """
        return plan_of_dead(self.model, example_inputs, **options)

    def __str__(self) -> str:
        return table(self)

    def _found(self) -> dict[str, Worn]:
        found = self.worn
        if not found:
            raise InputError("these masks were taken off; put on new ones with secateur.mask(model, sparsity)")
        return found


def _with_values(found: dict[str, Worn]) -> dict[str, Worn]:
    """The same. Raises `InputError` where masks have no values."""
    for name, one in found.items():
        if one.mask.mask.is_meta:
            raise InputError(
                f"the mask of {name} is on the meta device and has no values\n"
                "masks come with the weights: secateur.load(model, path), into a freshly built model"
            )
    return found


def _fitting(weights: Sequence[Weight], pattern: str, only: str | Sequence[str]) -> tuple[list[Weight], dict[str, str]]:
    """The weights that divide into the pattern, and why the others do not."""
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
    """Why a weight cannot have a pattern; None where it can."""
    if not weight.directed and pattern != "unstructured":
        return "of its three dimensions it is not known which are inputs and which outputs"
    return named_pattern(pattern).lack(tuple(weight.layout.upright(weight.parameter).shape), weight.layout.groups)


def _check_pattern(found: Mapping[str, Worn], pattern: str) -> None:
    """A cut may leave sizes that the pattern does not divide; layers may wear masks of several patterns."""
    for name, one in found.items():
        if one.mask.pattern != pattern:
            raise InputError(
                f"{name} has the pattern {one.mask.pattern}, and others have {pattern}\n"
                "set the masks of each by assign, or take them off, masks.remove(), and mask anew layer by layer"
            )
        lack = named_pattern(pattern).lack(tuple(one.layout.upright(one.mask.mask).shape), one.layout.groups)
        if lack:
            raise InputError(
                f"{name} cannot have the pattern {pattern} any more: {lack}\n"
                "harden what it has, masks.harden(), or cut in multiples of it: select='*: align=4'"
            )


def _scores(scoring: Scoring, weights: dict[str, tuple[Tensor, MaskedLayout]]) -> dict[str, Tensor]:
    """Scores by name, outputs first. weights: values, and how they lie."""
    with torch.no_grad():
        return {
            name: layout.upright(checked(name, scoring(name, weight), weight))
            for name, (weight, layout) in weights.items()
        }


def _bare(model: nn.Module) -> nn.Module:
    """The model, or a copy with its zeros made permanent where it wears masks: what reads a masked weight is not heard.

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
