"""Traces modules that no call reached, on the inputs of a sibling.

Which experts of a mixture run depends on the data, and a few examples seldom reach all of them. If some of the modules
of one type in a list were reached and some were not, they are treated as such alternatives: an unreached module is
called on the arguments of a sibling, and its output gets the same units as the sibling's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.base.nested import tensors_in
from secateur.trace.recorder import Recorder


@dataclass(frozen=True, slots=True)
class UnreachedModule:
    """A module that was not reached, and a `sibling` that was."""

    module: nn.Module
    sibling: nn.Module


@dataclass(frozen=True, slots=True)
class Seen:
    """The arguments and the output of one call of a module."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


def missed(model: nn.Module, unreached: Collection[str]) -> Iterator[UnreachedModule]:
    """Yield the members of a module list or dict without any reached parameter that have a fully reached sibling.

    >>> experts = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    >>> [m.module is experts[1] for m in missed(experts, {"1.weight", "1.bias"})]
    [True]
    """
    for path, container in model.named_modules():
        if isinstance(container, (nn.ModuleList, nn.ModuleDict)):
            prefix = f"{path}." if path else ""
            members = [(child, _names(prefix + name, child)) for name, child in container.named_children()]
            reached = [child for child, names in members if names and names.isdisjoint(unreached)]
            for child, names in members:
                sibling = next((other for other in reached if _alike(child, other)), None)
                if names and names <= set(unreached) and sibling is not None:
                    yield UnreachedModule(child, sibling)


def _names(path: str, module: nn.Module) -> set[str]:
    return {f"{path}.{name}" for name, _ in module.named_parameters()}


def _alike(x: nn.Module, y: nn.Module) -> bool:
    shapes = ([(name, p.shape) for name, p in module.named_parameters()] for module in (x, y))
    return type(x) is type(y) and next(shapes) == next(shapes)


def trace_missed(model: nn.Module, unreached: Collection[str], recorder: Recorder, run: Callable[[], None]) -> None:
    """Call the modules that no call reached. `run` calls the model, to record the arguments of their siblings."""
    found = list(missed(model, unreached))
    if not found:
        return
    seen = _watched({m.sibling for m in found}, run)
    for one in found:
        if one.sibling in seen:
            _call(one.module, seen[one.sibling], recorder)


def _watched(modules: Collection[nn.Module], run: Callable[[], None]) -> dict[nn.Module, Seen]:
    """Return the first call of each of these modules in a run."""
    seen: dict[nn.Module, Seen] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        seen.setdefault(module, Seen(args, kwargs, output))

    with ExitStack() as hooks:
        for module in modules:
            hooks.enter_context(module.register_forward_hook(note, with_kwargs=True))
        run()
    return seen


def _call(module: nn.Module, seen: Seen, recorder: Recorder) -> None:
    try:
        with recorder.running():
            output = module(*seen.args, **seen.kwargs)
    except Exception as error:  # noqa: BLE001 - an unreached module stays frozen, which is reported
        recorder.unknown[f"a module that no call reached ({type(error).__name__})"] += 1
        return
    for mine, other in zip(tensors_in(output), tensors_in(seen.output), strict=False):
        if mine.shape == other.shape:
            for x, y in zip(recorder.typed(mine).found(), recorder.typed(other).found(), strict=True):
                recorder.unify(x, y)
