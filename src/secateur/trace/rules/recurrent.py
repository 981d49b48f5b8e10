"""Recurrent layers and cells as single ops: the loop over steps is not traced, but the gates share their units.

    LSTM   i, f, o = sigmoid(.), g = tanh(.)     c' = f * c + i * g,  h' = o * tanh(c')   or  W_hr (o * tanh(c'))
    GRU    r, z = sigmoid(.), n = tanh(.)        h' = (1 - z) * n + z * h
    RNN    h' = tanh(.) or relu(.)

with (.) = W_ih x + b_ih + W_hh h + b_hh. If all gates of a unit are zero, g and n are zero: the unit stays zero if
it was zero at first. Letters: t steps, n sequences, i inputs, g gates, h units, p projected units (else h).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from secateur.graph.sizes import Dim, SizeEquation
from secateur.terms import ONE, Axis, Term, axes, cat, collapse, keep_at_least, loose, mingle, product
from secateur.trace.op import Op
from secateur.trace.registry import function_rule, rule
from secateur.trace.stacked import stack
from secateur.trace.typed import Rows, is_blank

STATES = "one state for each layer and direction"
GATES = {"lstm": 4, "gru": 3}
# The states that must start at zero for a silenced unit to stay zero; other states are overwritten.
REMEMBERS = {"lstm": 1, "gru": 0}


@dataclass(frozen=True, slots=True)
class _Cell:
    """The weights of one layer and direction."""

    w_ih: torch.Tensor
    w_hh: torch.Tensor
    b_ih: torch.Tensor | None = None
    b_hh: torch.Tensor | None = None
    w_hr: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Run:
    """One call of `torch.lstm` and the like. `packed`: the batch sizes of a packed sequence, which has no batch."""

    source: torch.Tensor
    packed: torch.Tensor | None
    states: tuple[torch.Tensor, ...]
    cells: tuple[_Cell, ...]
    directions: int
    batch_first: bool

    @property
    def steps(self) -> int:
        """The dimension of the input that is read in order."""
        return int(self.batch_first and self.packed is None)

    @staticmethod
    def of(values: Sequence[Any]) -> _Run:
        """(input, states, weights, biased, layers, dropout, train, bidirectional, batch_first), or packed:
        (data, batch sizes, states, weights, biased, layers, dropout, train, bidirectional)."""
        packed = isinstance(values[3], (tuple, list))
        source, sizes = values[0], values[1] if packed else None
        states, weights, biased, layers, _, _, bidirectional = values[2:9] if packed else values[1:8]
        states = tuple(states) if isinstance(states, (tuple, list)) else (states,)
        directions = 2 if bidirectional else 1
        cells = tuple(_cells(list(weights), bool(biased), int.__index__(layers) * directions))
        return _Run(source, sizes, states, cells, directions, not packed and bool(values[8]))


def _cells(weights: Sequence[torch.Tensor], biased: bool, count: int) -> Iterator[_Cell]:
    """Yield the cells of a list of weights: w_ih, w_hh, b_ih, b_hh (if biased), w_hr (if projected) of each."""
    each = len(weights) // count
    for i in range(0, len(weights), each):
        w_ih, w_hh, *rest = weights[i : i + each]
        b_ih, b_hh = rest[:2] if biased else (None, None)
        yield _Cell(w_ih, w_hh, b_ih, b_hh, rest[-1] if len(rest) % 2 else None)


def _gates(op: Op, cell: _Cell, count: int) -> Term:
    """Return the units of a cell: the rows of its weights and biases are `count` gates of the same units."""
    units: Term = Axis(cell.w_ih.shape[0] // count)
    gates = Axis(count, "the gates of a recurrent cell") if count > 1 else ONE
    for tensor in (cell.w_ih, cell.w_hh, cell.b_ih, cell.b_hh):
        if tensor is not None:
            op.unify(op.dims(tensor)[0], product([gates, units]))
            op.role(tensor, 0, "output")
    return units


def _consume(op: Op, term: Term, weight: torch.Tensor) -> None:
    """Unify the columns of a weight with these units."""
    for axis in loose([term]):
        if axis in set(axes(term)):
            collapse(axis)
    op.unify(term, op.dims(weight)[1])
    op.role(weight, 1, "input")
    if not op.zero(weight)[1]:
        op.freeze(term, "the weight that reads it is not zero where its units are")


def _cell(op: Op, cell: _Cell, source: Term, count: int) -> tuple[Term, Term]:
    """w_ih: [g*h, i], w_hh: [g*h, p], biases: [g*h], w_hr: [p, h]; returns p and h."""
    units = _gates(op, cell, count)
    _consume(op, source, cell.w_ih)
    put_out = units
    if cell.w_hr is not None:
        _consume(op, units, cell.w_hr)
        op.role(cell.w_hr, 0, "output")
        put_out = op.dims(cell.w_hr)[0]
        keep_at_least(
            units, put_out.n + 1
        )  # with as many projected units, torch treats the layer as one without projection
    _consume(op, put_out, cell.w_hh)
    return put_out, units


def _count(op: Op, places: Sequence[Term], cell: _Cell) -> None:
    """Count each weight once for every step of every sequence."""
    for weight in (cell.w_ih, cell.w_hh, cell.w_hr):
        if weight is not None:
            op.macs(*places, *op.dims(weight))


@function_rule(torch.lstm, "0 1 2 3 4 5 6 7 8")
@function_rule(torch.gru, "0 1 2 3 4 5 6 7 8")
@function_rule(torch.rnn_tanh, "0 1 2 3 4 5 6 7 8")
@function_rule(torch.rnn_relu, "0 1 2 3 4 5 6 7 8")
def layers(op: Op) -> None:
    """x: [t, n, i], states: [cells, n, h], w_ih: [g*h, i], w_hh: [g*h, h] -> [t, n, h] or [t, n, h + h']"""
    run = _Run.of([op[str(i)] for i in range(9)])
    dims = op.dims(run.source)
    op.freeze(dims[run.steps], "a sequence is read in order")
    mingle(dims, len(dims) - 1)
    made, term = [], dims[-1]
    for i in range(0, len(run.cells), run.directions):
        layer = [_cell(op, cell, term, GATES.get(op.name, 1)) for cell in run.cells[i : i + run.directions]]
        for cell in run.cells[i : i + run.directions]:
            _count(op, dims[:-1], cell)
        term = cat(put_out for put_out, _ in layer)
        made += layer
    _tie(op, made)
    kinds = list(zip(*made, strict=True))[: len(run.states)]  # (p, p, ...) and, for an LSTM, (h, h, ...)
    zeros = [_begin(op, run, state, terms) for state, terms in zip(run.states, kinds, strict=True)]
    zero = _stays_zero(op, zeros) or run.cells[0].w_hr is not None
    op.result([*dims[:-1], term], [False] * (len(dims) - 1) + [zero])
    for out, terms, at_first in zip(op.outs[1:], kinds, (zero, *zeros[1:]), strict=True):
        _end(op, run, out, terms, at_first)


def _stays_zero(op: Op, zeros: Sequence[bool]) -> bool:
    """Return whether a silenced unit outputs zeros, given the initial states."""
    name = op.name.removesuffix("_cell")
    return name not in REMEMBERS or zeros[REMEMBERS[name]]


def _tie(op: Op, made: Sequence[tuple[Term, Term]]) -> None:
    """Require one `hidden_size` (and one `proj_size`) for all layers and directions."""
    for cell in made[1:]:
        for term, first in zip(cell, made[0], strict=True):
            equation = SizeEquation(Dim(term), Dim(first), f"one size for all of {op.name} at {op.recorder.where()}")
            op.recorder.ledger.equations.append(equation)


def _begin(op: Op, run: _Run, state: torch.Tensor, terms: Sequence[Term]) -> bool:
    """Unify an initial state, [cells, n, h], with the units of each cell; of zeros, only the size matters."""
    rows: Sequence[Rows] = op.typed(state).rows or []
    if len(rows) == len(terms):
        for row, term in zip(rows, terms, strict=True):
            assert not isinstance(row, list)
            op.unify(row, term)
        places = op.typed(state).counted()
    else:
        places = op.dims(state)
        for term in terms[:1] if is_blank(state) else terms:
            op.unify(op.dims(state)[-1], term)
    op.freeze(places[0], STATES)
    _sequences(op, run, places[1])
    return op.zero(state)[-1]


def _sequences(op: Op, run: _Run, term: Term) -> None:
    if run.packed is None:
        op.unify(term, op.dims(run.source)[1 - run.steps])
    else:
        op.freeze(term, "a packed sequence")


def _end(op: Op, run: _Run, out: torch.Tensor, terms: Sequence[Term], zero: bool) -> None:
    """Set the type of the last states, [cells, n, h], whose rows have different units until they are read as one."""
    batch = (
        op.dims(run.source)[1 - run.steps] if run.packed is None else op.fresh([out.shape[1]], "a packed sequence")[0]
    )
    first = op.fresh([len(terms)], "one state for each layer and direction")[0]
    op.result([first, batch, terms[0]], [False, False, zero], out=out)
    if len(terms) > 1:
        stack(out, list(terms))


@function_rule(torch.lstm_cell, "input hx w_ih w_hh b_ih b_hh")
@function_rule(torch.gru_cell, "input hx w_ih w_hh b_ih b_hh")
@function_rule(torch.rnn_tanh_cell, "input hx w_ih w_hh b_ih b_hh")
@function_rule(torch.rnn_relu_cell, "input hx w_ih w_hh b_ih b_hh")
def cell(op: Op) -> None:
    """x: [n, i], states: [n, h], w_ih: [g*h, i], w_hh: [g*h, h] -> [n, h]"""
    cell = _Cell(op["w_ih"], op["w_hh"], op["b_ih"], op["b_hh"])
    states = op["hx"] if isinstance(op["hx"], (tuple, list)) else (op["hx"],)
    dims = op.dims(op["input"])
    mingle(dims, len(dims) - 1)
    _, units = _cell(op, cell, dims[-1], GATES.get(op.name.removesuffix("_cell"), 1))
    for state in states:
        op.unify(op.dims(state)[-1], units)
        op.unify(op.dims(state)[0], dims[0])
    _count(op, dims[:-1], cell)
    zeros = [op.zero(state)[-1] for state in states]
    zero = _stays_zero(op, zeros)
    for out, at_first in zip(op.outs, (zero, *zeros[1:]), strict=True):
        op.result([*op.dims(op["input"])[:-1], units], [False] * (len(dims) - 1) + [at_first], out=out)


@function_rule(torch._VF._pack_padded_sequence, "input lengths batch_first")
def pack(op: Op) -> None:
    """x: [t, n, c] -> [k, c], the steps of all sequences without padding, and the number of sequences at each step"""
    dims, zero = op.dims(op["input"]), op.zero(op["input"])
    for dim in dims[:2]:
        op.freeze(dim, "a packed sequence")
    op.result([*op.fresh(op.outs[0].shape[:1], "a packed sequence"), *dims[2:]], [False, *zero[2:]])
    op.result(op.fresh(op.outs[1].shape, "a packed sequence"), [False], out=op.outs[1])


@function_rule(torch._VF._pad_packed_sequence, "input batch_sizes batch_first padding_value total_length")
def pad(op: Op) -> None:
    """x: [k, c] -> [t, n, c], padded, and the lengths"""
    dims, zero = op.dims(op["input"]), op.zero(op["input"])
    padded = [z and not op["padding_value"] for z in zero[1:]]
    op.result([*op.fresh(op.outs[0].shape[:2], "a packed sequence"), *dims[1:]], [False, False, *padded])
    op.result(op.fresh(op.outs[1].shape, "a packed sequence"), [False], out=op.outs[1])


@rule("aten::mkldnn_rnn_layer", "aten::_cudnn_rnn", "aten::miopen_rnn", "aten::lstm_mps")
def unseen(op: Op) -> None:
    """A layer in a backend library, with its own order of weights"""
    op.opaque("a recurrent layer in code that cannot be traced, such as TorchScript")
