"""The interface of rules: one recorded call, its arguments by name, and what a rule can state about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from secateur.graph.sizes import Dim, SizeEquation
from secateur.terms import ONE, Axis, Reason, Term, cut, factor, find, freeze, mark_inexact, settle, unify
from secateur.trace.memory import has_storage
from secateur.trace.notes import Notes
from secateur.trace.typed import Origin, Origins, Place, Typed, fresh, get, put

ROLES = ("output", "input", "scale", "statistic", "shift")  # the first one counts if a dimension has several

ALONE, APART = "one unit is taken by itself", "split into single units"


def bare(name: str) -> str:
    """Return the name of an op without namespace and underscore: `aten::add_` -> `add`."""
    return name.rpartition("::")[2].rstrip("_")


def _by(name: str, reason: str) -> str:
    """Return the reason of units that were split apart and joined by an op of this name."""
    end = f", joined by {name}"
    return reason if reason.endswith(end) else reason.replace(ALONE, APART) + end


class Op:
    """One recorded call: its arguments by name, its result, and methods by which a rule states what it does."""

    __slots__ = ("along", "arguments", "at", "counted", "name", "out", "recorder")

    def __init__(self, recorder: Notes, name: str, arguments: dict[str, Any], out: Any):
        self.recorder = recorder
        self.name = name
        self.arguments = arguments
        self.out = out
        self.at = recorder.at
        self.along: Sequence[torch.Tensor | None] = ()  # the arguments to which the result is proportional
        self.counted: Sequence[torch.Tensor] = ()  # the arguments that hold indices of units, and were read as such

    def __getitem__(self, argument: str) -> Any:
        return self.arguments.get(argument)

    def get(self, argument: str, default: Any) -> Any:
        value = self.arguments.get(argument)
        return default if value is None else value

    def typed(self, tensor: torch.Tensor) -> Typed:
        return self.recorder.typed(tensor)

    def dims(self, tensor: torch.Tensor) -> list[Term]:
        """Return the terms of a tensor's dimensions, as a new list."""
        return list(self.recorder.typed(tensor).found())

    def zero(self, tensor: torch.Tensor) -> list[bool]:
        """Return, per dimension, whether silenced units are zero: False once others were written to the storage."""
        if self.recorder.written and has_storage(tensor) and tensor.untyped_storage()._cdata in self.recorder.written:
            return [False] * tensor.dim()
        return list(self.recorder.typed(tensor).zero)

    def origins(self, tensor: torch.Tensor) -> Origins:
        """Return what a tensor is computed from; for a parameter with one dimension, the parameter itself."""
        typed = self.recorder.typed(tensor)
        at = typed.at
        if typed.origins or at is None or len(at) != 1 or at[0] is None:
            return typed.origins
        return (Origin(tuple(tensor.shape), 0, (at[0],)),) if isinstance(tensor, torch.nn.Parameter) else ()

    @property
    def outs(self) -> list[torch.Tensor]:
        """The tensors among the results."""
        out = self.out
        if isinstance(out, torch.Tensor):
            return [out]
        return [o for o in out if isinstance(o, torch.Tensor)] if isinstance(out, (tuple, list)) else []

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors among the arguments."""
        found: list[torch.Tensor] = []
        for value in self.arguments.values():
            if isinstance(value, torch.Tensor):
                found.append(value)
            elif isinstance(value, (tuple, list)):
                found += [v for v in value if isinstance(v, torch.Tensor)]
        return found

    def why(self, text: str) -> Reason:
        """Return a reason with this op's name, source line and module path, which is formatted only if it is needed."""
        return lambda: f"{text}{self.recorder.mend()} ({self.name}, {self.recorder.where()})"

    def unify(self, x: Term, y: Term) -> None:
        unify(x, y, self.why("the operands split this dimension in incompatible ways"))

    def same_size(self, x: Term, y: Term) -> None:
        """Require that two terms keep the same number of units, each its own ones."""
        self.recorder.ledger.equations.append(SizeEquation(Dim(x), Dim(y), f"{self.name} at {self.recorder.where()}"))

    def freeze(self, term: Term, text: str) -> None:
        freeze(term, self.why(text))

    def inexact(self, term: Term, text: str, *, unsafe: bool = False) -> None:
        mark_inexact(term, self.why(text), unsafe=unsafe)

    def factor(self, term: Term, sizes: Sequence[int], text: str = "") -> list[Term] | None:
        """Write a term as a product, outermost first; `text` says why it stays where the sizes do not fit its parts."""
        return factor(term, sizes, self.why(text or f"does not factor as {list(sizes)}"))

    def cut(self, term: Term, offsets: Sequence[int]) -> list[Term] | None:
        pieces = cut(term, offsets, self.why(f"cannot be split at {list(offsets)}"))
        alone = [piece for piece in pieces or () if piece.n == 1 and isinstance(piece, Axis) and piece.frozen is None]
        if alone:  # a single unit, which the code refers to
            said = self.recorder.reason(self.why(APART if len(alone) > 1 else ALONE))
            for piece in alone:
                piece.frozen = said
        return pieces

    def joined(self, terms: Sequence[Term]) -> list[Term]:
        """Return the terms of a concatenation; record in the reasons of single units which op joined them."""
        if sum(term.n == 1 for term in terms) < 2:
            return list(terms)
        said = self.recorder.reason(self.why("joined one by one"))
        for term in terms:
            if isinstance(term, Axis) and term.n == 1 and (term.frozen or "").startswith((ALONE, APART)):
                term.frozen = _by(bare(self.name), term.frozen or "")
        return [Axis(1, said) if term is ONE else term for term in terms]

    def role(self, tensor: torch.Tensor | None, dim: int, role: str) -> None:
        """Set the role of a dimension of a parameter: one of `ROLES`."""
        if tensor is None:
            return
        at = self.typed(tensor).at
        place = at[dim] if at is not None else None
        if place is not None:
            roles = self.recorder.roles
            where = (place.name, place.dim)
            roles[where] = min(role, roles.get(where, role), key=ROLES.index)

    def fresh(self, shape: Sequence[int], frozen: str | None) -> list[Term]:
        return fresh(shape, frozen)

    def macs(self, *terms: Term) -> None:
        """Count one multiply-add for every element of the product of these terms."""
        weight = self["weight"]
        self.recorder.add_macs(self.name, weight if isinstance(weight, torch.Tensor) else None, terms)

    def reads(self, argument: str, dim: int, *, out: int | None = None) -> None:
        """Record a reduction over `dim` of an argument, which must read kept units only; `out`: the result's dim."""
        self.recorder.note_read(argument, self[argument], dim, out)

    def mixes(self, argument: str, dim: int, weight: str, along: int, groups: int = 1) -> None:
        """Record that a weight sums over channels: dimension `dim` of an argument, and `along` of the weight."""
        bias = self["bias"] if "bias" in self.arguments else self["self"] if self.name == "aten::addmm" else None
        channels = self.typed(self[argument]).found()[dim]
        held = bias if isinstance(bias, torch.Tensor) else None
        self.recorder.note_reader(channels, (self[weight], along), held, groups)

    def resizes(self, argument: str, *terms: Term) -> None:
        """Record that a size argument is the size of these terms, and shrinks if only kept units are read."""
        self.recorder.note_resized(argument, *terms)

    def _note_write(self, tensor: torch.Tensor, zero: Sequence[bool] | None) -> None:
        """Record an in-place op that overwrites zeros. The weak reference prevents reuse of the id of the storage."""
        before = get(tensor) if self.name.endswith("_") and zero is not None else None
        if (
            before is not None
            and has_storage(tensor)
            and any(was and not now for was, now in zip(before.zero, zero or (), strict=False))
        ):
            storage = tensor.untyped_storage()
            self.recorder.written[storage._cdata] = StorageWeakRef(storage)

    def opaque(self, text: str) -> None:
        """Freeze everything this op touches."""
        for tensor in self.tensors():
            for dim in self.dims(tensor):
                self.freeze(dim, text)
        for out in self.outs:
            if get(out) is None:
                put(out, Typed(fresh(out.shape, self.recorder.reason(self.why(text)))))

    def result(
        self,
        dims: Sequence[Term],
        zero: Sequence[bool] | None = None,
        *,
        out: torch.Tensor | None = None,
        at: Sequence[Place | None] | None = None,
        origins: Origins = (),
    ) -> None:
        """Set the terms of the result (of its first tensor, unless `out` names another)."""
        tensor = self.outs[0] if out is None else out
        terms = [find(dim) for dim in dims]
        assert [term.n for term in terms] == list(tensor.shape), (self.name, terms, tensor.shape)
        assert zero is None or len(zero) == len(terms), (self.name, zero)
        settle(terms)
        self._note_write(tensor, zero)
        put(tensor, Typed(terms, zero, at, origins))
