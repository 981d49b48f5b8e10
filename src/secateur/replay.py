"""Run a model in float64, reading kept units only wherever a traced run found a reduction over units.

Casts and factories of a lower precision are lifted to float64. Within a module a replay sees the same calls in the same
order as the trace whose readings it follows, so a reading is found by the number of its call there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .apply.surgery import check_copies, computed
from .caches import Cache, forget, left_out
from .calls import Call, tensors_in
from .errors import InputError
from .slots import slots
from .terms import Kept, Term, axes, kept_size, positions
from .trace.keeping import kept, set_modes
from .trace.recorder import At, Interceptor, Reading
from .trace.registry import FUNCTIONS


def in_float64(model: nn.Module, caches: Iterable[Cache] = ()) -> nn.Module:
    """A float64 copy, its caches empty. Raises `InputError` where the model cannot be copied."""
    check_copies(model)
    caches = tuple(caches)
    try:
        memo = {**computed(slot.tensor for slot in slots(model)), **left_out(model, caches)}
        with torch.no_grad():  # else copies of a script's parameters are no leaves
            copied = copy.deepcopy(model, memo).double()
    except Exception as error:
        raise InputError(f"the model cannot be copied, so it cannot be verified: {error}") from error
    forget(copied, caches)
    return copied


class Replay(Interceptor):
    """Runs every op as it is, but those with a reading on kept units only."""

    def __init__(self, model: nn.Module, readings: Mapping[At, Reading], keep: Kept):
        super().__init__({id(m): name for name, m in model.named_modules()}, None, lift=True)
        self.readings = readings
        self.keep = keep

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.advance()
        with self.silence():
            return self._run(self.form(func), FUNCTIONS[func][1], args, kwargs)

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.silence():
            return func(*args, **kwargs)

    def on_op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.readings:
            return func(*args, **kwargs)
        self.advance()
        if self.at not in self.readings:
            return func(*args, **kwargs)
        return self._run(func, [a.name for a in func._schema.arguments], args, kwargs)

    def _run(self, func: Any, names: Sequence[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        reading = self.readings.get(self.at)
        reads = [read for read in reading.reads if self._shrinks(read[3])] if reading is not None else []
        if reading is None or not (reads or self._resizes(reading)):
            out = func(*args, **kwargs)
            return self._masked(out, reading.masked) if reading is not None else out
        arguments: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        full = {name: arguments[name].shape for name, *_ in reads}
        for name, dim, _, term in reads:
            arguments[name] = arguments[name].index_select(dim, self._kept(term))
        for name, terms in reading.resized.items():
            arguments[name] = self._resized(arguments[name], terms)
        given = [arguments.pop(name) for name in names[: len(args)]]
        out = func(*given, **arguments)
        for place, term in reading.numbered.items():
            out = self._renumbered(out, place, term)
        for name, _, place, term in reads:
            if place is not None and isinstance(out, torch.Tensor):
                out = self._spread(out, place, term, full[name])
            elif place is not None:
                out = (self._spread(out[0], place, term, full[name]), *out[1:])
        return out

    def _shrinks(self, term: Term) -> bool:
        return any(axis in self.keep for axis in axes(term))

    def _resizes(self, reading: Reading) -> bool:
        """Whether sizes shrink by themselves, as in a sum over units that is divided by their number."""
        return not reading.reads and any(self._shrinks(term) for terms in reading.resized.values() for term in terms)

    def _kept(self, term: Term) -> torch.Tensor:
        return torch.tensor(positions(term, self.keep))

    def _resized(self, old: Any, terms: Sequence[Term]) -> Any:
        sizes = [kept_size(term, self.keep) for term in terms]
        return sizes[0] if isinstance(old, int) else sizes

    def _renumbered(self, out: Any, place: int, term: Term) -> Any:
        """Numbers among the kept units as numbers among all."""
        if isinstance(out, torch.Tensor):
            return self._kept(term)[out]
        return (*out[:place], self._kept(term)[out[place]], *out[place + 1 :])

    def _masked(self, out: Any, terms: Sequence[Term]) -> Any:
        """A result without the units that are dropped."""
        for dim, term in enumerate(terms):
            if self._shrinks(term):
                mask = out.new_zeros(out.shape[dim]).index_fill(0, self._kept(term).to(out.device), 1)
                out = out * mask.view([-1 if d == dim else 1 for d in range(out.dim())])
        return out

    def _spread(self, out: torch.Tensor, dim: int, term: Term, shape: torch.Size) -> torch.Tensor:
        """Put what was computed on kept units back in their places; silenced units are zero."""
        wide = list(out.shape)
        wide[dim] = shape[dim]
        return out.new_zeros(wide).index_copy(dim, self._kept(term), out)


def run(
    model: nn.Module,
    calls: Sequence[Call],
    readings: Mapping[At, Reading] | None = None,
    keep: Kept | None = None,
    *,
    outputs: Callable[[Any], Any] | None = None,
) -> list[torch.Tensor]:
    """The output tensors of all calls, one after another, without gradients; `outputs` picks them."""
    replay = Replay(model, readings or {}, keep or {})
    found: list[torch.Tensor] = []
    with torch.no_grad(), default_float64(), kept(model):
        for call in calls:
            torch.manual_seed(0)
            set_modes(model, call.training)
            with replay.running():
                result = call.run(model)
            found += tensors_in(outputs(result) if outputs is not None else result)
    return found


@contextmanager
def default_float64() -> Iterator[None]:
    """Within, new float tensors are float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
