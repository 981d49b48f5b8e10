"""Torch functions that take or return sizes, and what each states about the integers that it receives.

`after(recorder, func, args, kwargs, out)` runs after every torch function of the user's code. A function in `SIZED`
turns its size arguments into equations with the terms of its result; a literal size freezes the term, because a pruned
model could not satisfy it. Any other function that receives a `Num` lets it escape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from secateur.graph.sizes import Arithmetic, Dim, SizeEquation
from secateur.terms import ONE, Axis, Term, collapse, factor, find, freeze, grain, mark_inexact, product, same
from secateur.trace.indexing import index_items
from secateur.trace.notes import Notes
from secateur.trace.size_demands import (
    SIZED,
    Args,
    argument,
    demand,
    demand_shape,
    demand_span,
    let_escape,
    shape_args,
    sized,
)
from secateur.trace.tracked_ints import Num, escape, expression, plain
from secateur.trace.typed import Typed, drop, get, is_blank, mark_blank, put


def after(recorder: Notes, func: Any, args: Args, kwargs: dict[str, Any], out: Any) -> Any:
    """Record in the ledger what `func` did with the sizes it received; return its result, with sizes as Nums."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return recorder.numbers(args[0]) if getattr(func, "__self__", None) is torch.Tensor.shape else out
    if name == "__set__" and getattr(func, "__self__", None) is torch.Tensor.data:
        drop(args[0])  # its memory is another one now
        recorder.typed(args[0])
    if name == "__reduce_ex__":
        recorder.memory.reduced.append(recorder.typed(args[0]))
    if "input" in kwargs:
        args = (kwargs["input"], *args)
    handler = SIZED.get(name)
    if handler is not None:
        changed = handler(recorder, args, kwargs, out)
        return out if changed is None else changed
    let_escape(args, name)
    if kwargs:
        let_escape(tuple(kwargs.values()), name)
    return out


@sized("size")
def _size(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> Any:
    numbers = recorder.numbers(args[0])
    dim = argument(args, kwargs, 1, "dim")
    return numbers if dim is None else numbers[dim]


@sized("numel", "nelement")
def _numel(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> Any:
    total: Any = 1
    for number in recorder.numbers(args[0]):
        total = number * total
    return total


@sized("stride", "nbytes", "__array_interface__")
def _layout(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    for number in recorder.numbers(args[0]):
        escape(number, "its memory layout was read")


@sized("tolist", "numpy", "__array__", "__dlpack__", "storage", "untyped_storage")
def _values(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    """Freeze all dimensions: values that leave as Python or NumPy data may come back as constants of the old size."""
    for term in recorder.typed(args[0]).found():
        freeze(term, lambda: f"its values left PyTorch at {recorder.where()}")


@sized("__len__")
def _len(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> Any:
    if args[0].dim():
        escape(recorder.numbers(args[0])[0], "len() was called")


@sized("einsum")
def _einsum(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    """Keep two units of what is summed: over a single one, PyTorch multiplies elementwise, which is another op."""
    operands = [a for part in args for a in (part if isinstance(part, (tuple, list)) else [part])]
    tensors = [operand for operand in operands if isinstance(operand, torch.Tensor)]
    inputs, arrow, output = args[0].replace(" ", "").partition("->") if isinstance(args[0], str) else ("", "", "")
    plain_letters = arrow and "." not in inputs  # otherwise any dimension may be summed
    named = inputs.split(",") if plain_letters else [" " * tensor.dim() for tensor in tensors]
    for letters, tensor in zip(named, tensors, strict=True):
        for letter, term in zip(letters, recorder.typed(tensor).found(), strict=True):
            if letter not in output:
                recorder.keep_two(term)


@sized("view", "reshape", "broadcast_to")
def _view(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    if (len(args) > 1 and isinstance(args[1], torch.dtype)) or "dtype" in kwargs:
        return
    demand_shape(recorder, shape_args(args[1:], kwargs), out, "reshape")


@sized("unflatten")
def _unflatten(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    dim = argument(args, kwargs, 1, "dim") % args[0].dim()
    sizes = argument(args, kwargs, 2, "sizes")
    rest = args[0].dim() - dim - 1
    demand_shape(recorder, [-1] * dim + list(sizes) + [-1] * rest, out, "unflatten")


@sized("expand")
def _expand(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    shape = list(shape_args(args[1:], kwargs))
    typed = recorder.typed(out)
    added = out.dim() - args[0].dim()
    for i, wanted in enumerate(shape):
        widened = i < added or args[0].shape[i - added] != out.shape[i]
        if widened and isinstance(wanted, Num):
            typed.dims[i] = Axis(plain(wanted)) if plain(wanted) != 1 else ONE
            typed.zero[i] = False  # all copies hold the same values, whichever unit they stand for
        demand(recorder, wanted, typed.dims[i], "expand")


@sized("expand_as", "view_as", "reshape_as")
def _as(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    source, target = recorder.typed(out), recorder.typed(args[1])
    for i, (x, y) in enumerate(zip(source.found(), target.found(), strict=False)):
        if x.n == y.n and out.shape == args[1].shape:
            if _is_expanded(args[0], out, i):
                source.dims[i], source.zero[i] = y, False  # all copies hold the same values, whichever unit they are of
            else:
                recorder.unify(x, y)


def _is_expanded(x: torch.Tensor, out: torch.Tensor, dim: int) -> bool:
    """Return whether a dimension of a result holds copies of a dimension that had size one or did not exist."""
    before = dim - (out.dim() - x.dim())
    return out.numel() != x.numel() and (before < 0 or x.shape[before] != out.shape[dim])


@sized("repeat", "tile")
def _repeat(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    repeats = list(shape_args(args[1:], kwargs)) or list(kwargs.get("repeats", ()))
    repeats = [1] * (out.dim() - len(repeats)) + repeats
    source = recorder.typed(args[0]).found()
    inner = [ONE] * (out.dim() - len(source)) + source
    typed = recorder.typed(out)
    for i, wanted in enumerate(repeats):
        if isinstance(wanted, Num) and plain(wanted) > 1:
            copies = Axis(plain(wanted))
            typed.dims[i] = product([copies, inner[i]])
            typed.zero[i] = False  # as in an expansion
            demand(recorder, wanted, copies, "repeat")


@sized("repeat_interleave")
def _repeat_interleave(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    wanted = argument(args, kwargs, 1, "repeats")
    if isinstance(wanted, Num):
        escape(wanted, "used in repeat_interleave")


@sized("zeros", "ones", "empty", "rand", "randn")
def _factory(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    _made(recorder, shape_args(args, kwargs), out)


@sized("full")
def _full(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    escape(argument(args, kwargs, 1, "fill_value"), "used in full")
    _made(recorder, argument(args, kwargs, 0, "size"), out)


@sized("normal")
def _normal(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    for place, name in enumerate(("mean", "std")):
        escape(argument(args, kwargs, place, name), "used in normal")
    _made(recorder, argument(args, kwargs, 2, "size", ()), out)


@sized("randint")
def _randint(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    """Handle `randint(high, size)` and `randint(low, high, size)`."""
    for value in (*args, kwargs.get("low"), kwargs.get("high")):
        escape(value, "used in randint")
    _made(recorder, kwargs.get("size") or args[-1], out)


@sized("new_zeros", "new_ones", "new_empty")
def _new(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    _made(recorder, shape_args(args[1:], kwargs), out)


@sized("new_full")
def _new_full(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    escape(argument(args, kwargs, 2, "fill_value"), "used in new_full")
    _made(recorder, argument(args, kwargs, 1, "size"), out)


def _made(recorder: Notes, shape: Sequence[Any], out: torch.Tensor) -> None:
    """Set the type of a newly created tensor: dimensions whose size has a history are free, the others are frozen."""
    if len(shape) != out.dim() or not any(isinstance(n, Num) for n in shape):
        return
    literal = f"created with a literal size at {recorder.where()}"
    dims: list[Term] = [
        ONE if plain(n) == 1 else Axis(plain(n), None if isinstance(n, Num) else literal) for n in shape
    ]
    blank = is_blank(out)
    put(out, Typed(dims, recorder.typed(out).zero))
    recorder.retyped(out)
    recorder.memory.note(out)
    if blank:
        mark_blank(out)
    demand_shape(recorder, shape, out, "a factory")


@sized("arange")
def _arange(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    for wanted in (*args, *kwargs.values()):
        escape(wanted, "used in arange")


@sized("one_hot")
def _one_hot(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    _bins(recorder, argument(args, kwargs, 1, "num_classes", -1), out, "one_hot")


@sized("bincount")
def _bincount(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    _bins(recorder, argument(args, kwargs, 2, "minlength", 0), out, "bincount")


@sized("histc")
def _histc(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    """Handle bins from 0 to n - 1, which count integers; other bounds are values."""
    bins = argument(args, kwargs, 1, "bins", 100)
    low, high = argument(args, kwargs, 2, "min", 0), argument(args, kwargs, 3, "max", 0)
    _bins(recorder, bins, out, "histc")
    if isinstance(high, Num) and plain(high) == plain(bins) - 1 and not low:
        recorder.ledger.equations.append(
            SizeEquation(high.expr, Arithmetic("-", Dim(_last(recorder, out)), 1), "histc")
        )
    else:
        for bound in (low, high):
            escape(bound, "used in histc")
        freeze(_last(recorder, out), lambda: f"the bounds of a histogram are literals at {recorder.where()}")


def _bins(recorder: Notes, count: Any, out: torch.Tensor, name: str) -> None:
    """Require a number of bins; a literal one freezes them."""
    if count in (-1, 0):
        freeze(_last(recorder, out), lambda: f"{name} takes its size from data at {recorder.where()}")
    else:
        demand(recorder, count, _last(recorder, out), name)


def _last(recorder: Notes, tensor: torch.Tensor) -> Term:
    return recorder.typed(tensor).found()[-1]


@sized("split", "split_with_sizes")
def _split(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    wanted = argument(args, kwargs, 1, "split_size_or_sections")
    wanted = kwargs.get("split_size", kwargs.get("split_sizes")) if wanted is None else wanted
    dim = argument(args, kwargs, 2, "dim", 0)
    sizes: list[Any] = list(wanted) if isinstance(wanted, (tuple, list)) else [wanted] * len(out)
    for size, piece in zip(sizes, out, strict=True):
        whole = piece.shape[dim] == plain(size)
        demand(recorder, size if whole else piece.shape[dim], recorder.typed(piece).found()[dim], "split")


@sized("chunk", "tensor_split", "hsplit", "vsplit", "dsplit")
def _chunk(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    """Require that equal pieces of a chunk stay equal; pieces of unequal length are frozen."""
    count = argument(args, kwargs, 1, "chunks", kwargs.get("indices_or_sections"))
    dim = argument(args, kwargs, 2, "dim", 0)
    escape(count, "used in chunk")
    first = recorder.typed(out[0]).found()[dim]
    for piece in out[1:]:
        term = recorder.typed(piece).found()[dim]
        if isinstance(count, int) and term.n == first.n:
            equation = SizeEquation(Dim(term), Dim(first), f"chunk at {recorder.where()}")
            recorder.ledger.equations.append(equation)
        else:
            for uneven in (first, term):
                freeze(uneven, lambda: f"pieces of unequal length at {recorder.where()}")


@sized("narrow")
def _narrow(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    """Handle a slice whose end must exist: the length must be that of the piece."""
    dim, start, length = (argument(args, kwargs, i, n) for i, n in ((1, "dim"), (2, "start"), (3, "length")))
    demand_span(recorder, args[0], dim, start, None)
    demand(recorder, length, recorder.typed(out).counted()[dim], "narrow")


@sized("__getitem__", "__setitem__")
def _getitem(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    index = index_items(args[1])
    taken = sum(_taken(item) for item in index)
    dim = 0
    for item in index:
        if item is Ellipsis:
            dim += args[0].dim() - taken
        elif item is None or isinstance(item, bool):
            continue
        else:
            if isinstance(item, slice):
                _slice(recorder, args[0], dim, item)
            elif isinstance(item, Num):
                escape(item, "used as an index")
            dim += _taken(item)


def _taken(item: Any) -> int:
    """Return the number of dimensions that one item of an index covers."""
    if item is Ellipsis or item is None or isinstance(item, bool):
        return 0
    return item.dim() if isinstance(item, torch.Tensor) and item.dtype in (torch.bool, torch.uint8) else 1


def _slice(recorder: Notes, source: torch.Tensor, dim: int, item: slice) -> None:
    if item.step not in (None, 1):
        for bound in (item.start, item.stop, item.step):
            escape(bound, "used in a strided slice")
    elif item.start is not None or item.stop is not None:
        demand_span(recorder, source, dim, item.start, item.stop)


@sized("div", "true_divide")
def _divide(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    """Recognise a sum over units divided by their number as a mean; any other size that divides escapes."""
    size = argument(args, kwargs, 1, "other")
    typed = get(args[0]) if isinstance(args[0], torch.Tensor) else None
    summed = typed.summed if typed is not None else None
    if not isinstance(size, Num) or not _counts(size, summed) or "rounding_mode" in kwargs:
        return let_escape((args[0], size), "div")
    assert summed is not None
    collapse(summed)
    mark_inexact(summed, lambda: f"a mean is taken over it at {recorder.where()}", unsafe=False)
    recorder.note_resized("other", summed)


def _counts(size: Num, term: Term | None) -> bool:
    return term is not None and isinstance(size.expr, Dim) and same(size.expr.term, term)


@sized("conv1d", "conv2d", "conv3d")
def _conv(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    _groups(recorder, args, kwargs, argument(args, kwargs, 6, "groups", 1))


@sized("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    _groups(recorder, args, kwargs, argument(args, kwargs, 6, "groups", 1))


def _groups(recorder: Notes, args: Args, kwargs: dict[str, Any], wanted: Any) -> None:
    groups = recorder.group_term(argument(args, kwargs, 1, "weight"))
    if groups is not None:
        demand(recorder, wanted, groups, "groups")


@sized("group_norm")
def _group_norm(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    wanted = argument(args, kwargs, 1, "num_groups")
    channels, count = recorder.typed(args[0]).found()[1], plain(wanted)
    if grain(channels, channels.n // count) < channels.n // count:  # no group can be removed
        recorder.ledger.equations.append(SizeEquation(expression(wanted), count, f"num_groups at {recorder.where()}"))
        return
    parts = factor(channels, [count, channels.n // count]) if count > 1 else None
    if parts is not None:
        demand(recorder, wanted, parts[0], "num_groups")


@sized("layer_norm", "rms_norm")
def _layer_norm(recorder: Notes, args: Args, kwargs: dict[str, Any], out: Any) -> None:
    shape = argument(args, kwargs, 1, "normalized_shape")
    for wanted, term in zip(shape, recorder.typed(args[0]).found()[-len(shape) :], strict=True):
        demand(recorder, wanted, find(term), "normalized_shape")
