"""Replays of a traced run, in float64, in which reductions over units read only the kept units.

Casts and factories of a lower precision are lifted to float64. Within a module a replay runs the same calls in the same
order as the trace that recorded the readings, so a reading is found by the index of its call. Random numbers are drawn
for all units of the original, in its order, so that a unit gets the same noise in every run.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.caches import forget
from secateur.anatomy.calls import Call
from secateur.anatomy.keeping import kept, set_modes
from secateur.apply.copying import copied
from secateur.base.nested import tensors_in
from secateur.base.precision import narrow, wide
from secateur.graph.parts import At, Reading
from secateur.plan.parts import Cache
from secateur.proof.lifted import copy, share, swapped
from secateur.proof.noise import NotDrawn, drawn
from secateur.proof.ondemand import Fill, UnfilledRead
from secateur.proof.units import Units
from secateur.terms import Kept, Term
from secateur.trace.interceptor import Interceptor
from secateur.trace.lending import Lent
from secateur.trace.registry import FUNCTIONS


class Misaligned(Exception):
    """Raised where a run makes other calls than the traced one, so that its readings do not apply."""


def in_float64(model: nn.Module) -> nn.Module:
    """Return a float64 copy. Raises `InputError` where the model cannot be copied."""
    return copied(model, {}).double()


class Replay(Interceptor):
    """An interceptor that runs ops with a reading on kept units only, and other ops unchanged.

    `clean`: the result of a division by zero is zero, since a silenced unit may cause one.
    Raises `Misaligned` and `NotDrawn`.
    """

    def __init__(
        self,
        model: nn.Module,
        readings: Mapping[At, Reading],
        units: Units,
        *,
        lift: bool = True,
        clean: bool = False,
    ):
        super().__init__({id(m): name for name, m in model.named_modules()}, None, lift=lift)
        self.readings = readings
        self.units = units
        self.clean = clean

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.readings:
            self.advance()
        if self.lift:
            args, kwargs = self.lifted(args), {key: self.lifted(value) for key, value in kwargs.items()}
        if kwargs.get("dropout_p"):
            kwargs = {**kwargs, "dropout_p": 0.0}  # its noise cannot be intercepted
        with self.silence():
            out = self._run(func.__name__, self.form(func), FUNCTIONS[func][1], args, kwargs)
            return cleaned(func.__name__, out) if self.clean else out

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.silence():
            return func(*args, **kwargs)

    def on_op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = self._op(func, args, kwargs)
        return cleaned(func._schema.name, out) if self.clean else out

    def _op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not self.readings:
            return func(*args, **kwargs)
        self.advance()
        if self.at not in self.readings:
            return func(*args, **kwargs)
        return self._run(func._schema.name, func, [a.name for a in func._schema.arguments], args, kwargs)

    def _run(self, name: str, func: Any, names: Sequence[str], args: Any, kwargs: dict[str, Any]) -> Any:
        reading = self.readings.get(self.at) if self.readings else None
        if reading is None:
            return func(*args, **kwargs)
        if name != reading.name:
            raise Misaligned(f"call {self.at} is {name}, was {reading.name}")
        if reading.drawn is not None:
            return drawn(func, args, kwargs, reading.drawn, self.units, self.at)
        if self.units.gone:
            return func(*args, **kwargs)
        return self._read(reading, func, names, args, kwargs)

    def _read(self, reading: Reading, func: Any, names: Sequence[str], args: Any, kwargs: dict[str, Any]) -> Any:
        reads = [read for read in reading.reads if self.units.loses(read[3])]
        if not (reads or self._resizes(reading)):
            return self._masked(func(*args, **kwargs), reading.masked)
        arguments: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        full = {name: arguments[name].shape for name, *_ in reads}
        for name, dim, _, term in reads:
            arguments[name] = arguments[name].index_select(dim, self._kept(term, arguments[name].device))
        for name, terms in reading.resized.items():
            arguments[name] = self._resized(arguments[name], terms)
        given = [arguments.pop(name) for name in names[: len(args)]]
        out = func(*given, **arguments)
        for place, term in reading.numbered.items():
            out = self._renumbered(out, place, term)
        for name, _, place, term in reads:
            if place is not None and isinstance(out, Tensor):
                out = self._spread(out, place, term, full[name])
            elif place is not None:
                out = (self._spread(out[0], place, term, full[name]), *out[1:])
        return out

    def _resizes(self, reading: Reading) -> bool:
        """Return whether only sizes change, as in a sum over units that is divided by their number."""
        return not reading.reads and any(self.units.loses(term) for terms in reading.resized.values() for term in terms)

    def _kept(self, term: Term, device: torch.device) -> Tensor:
        return torch.tensor(self.units.staying(term), device=device)

    def _resized(self, old: Any, terms: Sequence[Term]) -> Any:
        sizes = [self.units.size(term) for term in terms]
        return sizes[0] if isinstance(old, int) else sizes

    def _renumbered(self, out: Any, place: int, term: Term) -> Any:
        """Return indices of kept units as indices of all units."""
        if isinstance(out, Tensor):
            return self._kept(term, out.device)[out]
        return (*out[:place], self._kept(term, out[place].device)[out[place]], *out[place + 1 :])

    def _masked(self, out: Any, terms: Sequence[Term]) -> Any:
        """Return a result with dropped units set to zero."""
        for dim, term in enumerate(terms):
            if self.units.loses(term):
                mask = out.new_zeros(out.shape[dim]).index_fill(0, self._kept(term, out.device), 1)
                out = out * mask.view([-1 if d == dim else 1 for d in range(out.dim())])
        return out

    def _spread(self, out: Tensor, dim: int, term: Term, shape: torch.Size) -> Tensor:
        """Return a result on kept units at the positions of all units; silenced units are zero."""
        wider = list(out.shape)
        wider[dim] = shape[dim]
        return out.new_zeros(wider).index_copy(dim, self._kept(term, out.device), out)


# Ops whose results are infinite where an operand is zero; from others an infinity is intended, as in attention masks.
DIVIDING = frozenset("div true_divide reciprocal rsqrt log log2 log10 pow digamma lgamma".split())


def cleaned(name: str, out: Any) -> Any:
    """Replace, in place, the results of divisions by zero with zeros."""
    wrong = torch.isfinite if name.rpartition("::")[2].rstrip("_") in DIVIDING else None
    for tensor in tensors_in(out):
        if tensor.is_floating_point() or tensor.is_complex():
            bad = torch.isnan(tensor) if wrong is None else ~wrong(tensor)
            if bool(bad.any()):
                tensor.masked_fill_(bad, 0)
    return out


@dataclass(frozen=True)
class ReplayJob:
    """What a run needs: the calls, what counts as output, the caches to be filled again, and whether in float64."""

    calls: Sequence[Call]
    outputs: Callable[[Any], Any] | None = None
    caches: Sequence[Cache] = ()
    lift: bool = True

    def run(
        self,
        model: nn.Module,
        fill: Fill | None = None,
        readings: Mapping[At, Reading] | None = None,
        units: Units | None = None,
        *,
        around: Callable[[], object] | None = None,
        clean: bool = False,
    ) -> Ran:
        """Return the output tensors of all calls in sequence, without gradients; the model does not change.

        `fill` writes the tensors to run with (None: the model's own). `around` is called before the first call, and may
        add hooks. `clean`: see `Replay`.
        """
        replay = partial(Replay, model, readings or {}, units or Units(), lift=self.lift, clean=clean)
        try:
            return self._run(model, fill, replay(), around)
        except UnfilledRead:
            return self._run(model, fill, replay(), around, at_once=True)

    def _run(
        self,
        model: nn.Module,
        fill: Fill | None,
        replay: Replay,
        around: Callable[[], object] | None,
        *,
        at_once: bool = False,
    ) -> Ran:
        lift = wide if self.lift else narrow
        found: list[Tensor] = []
        precision = default_float64() if self.lift else nullcontext()
        replay.lent = Lent.of(model)
        with torch.no_grad(), precision, kept(model), replay.lent.lending(), self._holding(model, fill, at_once):
            forget(model, self.caches)
            if around is not None:
                around()
            for call in self.calls:
                found += self._outputs(model, call.map(lift), replay)
        return Ran(found, replay.steps)

    def _holding(self, model: nn.Module, fill: Fill | None, at_once: bool) -> AbstractContextManager[None]:
        """Put the values to run with into the model; its own if it runs in its own precision without `fill`."""
        if fill is not None or self.lift:
            return swapped(model, fill or copy, lift=self.lift, at_once=at_once)
        share(model)
        return nullcontext()

    def _outputs(self, model: nn.Module, call: Call, replay: Replay) -> list[Tensor]:
        torch.manual_seed(0)
        set_modes(model, call.training)
        with warnings.catch_warnings(), replay.running():
            warnings.simplefilter("ignore")
            result = call.run(model)
        result = tensors_in(self.outputs(result) if self.outputs is not None else result)
        lent = replay.lent
        if len(self.calls) == 1 and not any(isinstance(t, nn.Parameter) or (lent and lent.lends(t)) for t in result):
            return result
        return [tensor.clone() for tensor in result]  # so that later writes do not change them


@dataclass(frozen=True)
class Ran:
    """The outputs, and the number of calls that the code of each module made (empty without readings)."""

    tensors: list[Tensor]
    steps: Mapping[str, int]


def run(
    model: nn.Module,
    calls: Sequence[Call],
    readings: Mapping[At, Reading] | None = None,
    keep: Kept | None = None,
    *,
    outputs: Callable[[Any], Any] | None = None,
) -> list[Tensor]:
    """Return the output tensors of all calls in float64, without gradients; `outputs` selects them."""
    return ReplayJob(calls, outputs).run(model, None, readings, Units(keep or {})).tensors


@contextmanager
def default_float64() -> Iterator[None]:
    """Make float64 the default dtype within this context."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


__all__ = ["Misaligned", "NotDrawn", "ReplayJob", "default_float64", "in_float64", "run"]
