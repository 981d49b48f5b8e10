"""Counts the parameters and multiply-adds of a model as it runs, layer by layer, independently of a trace.

The model runs once under PyTorch's FLOP formulas (`torch.utils.flop_counter`), on the meta device where the model
allows it; two FLOPs are one multiply-add. The formulas below cover ops that PyTorch's formulas leave out on some
devices. What counts is defined in `secateur.cost.cost`: convolutions, linear layers, matrix products, attention and
recurrent layers, but not element-wise ops. A convolution takes one multiply-add per output element (per input element
if transposed), channel of its group and kernel element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from secateur.anatomy.calls import Call, called, refusal
from secateur.anatomy.checks import check_model
from secateur.anatomy.keeping import kept
from secateur.base import meta
from secateur.base.modes import UncompiledMode
from secateur.base.nested import tensors_in
from secateur.base.process import every_module_hooked, trainable
from secateur.base.table import Table
from secateur.base.text import counted, paged
from secateur.errors import InputError

ShapeTuple: TypeAlias = "tuple[int, ...]"

# Ops that PyTorch has no formula for. Each function of shapes returns FLOPs: two for one multiply-add.

FORMULAS: Table[str, Callable[..., int]] = Table("formulas for")


def formula(*names: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a function from the shapes of the arguments of these ops to their FLOPs."""

    def register(function: Callable[..., int]) -> Callable[..., int]:
        def of_tensors(*args: Any, **kwargs: Any) -> int:
            args, kwargs = pytree.tree_map_only(torch.Tensor, lambda tensor: tuple(tensor.shape), (args, kwargs))
            return function(*args, **kwargs)

        FORMULAS.register(*names)(of_tensors)
        return function

    return register


@FORMULAS.register("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_sparse_addmm")
def _matrices(*operands: Any, out_val: Any = None, **kwargs: Any) -> int:
    """x: (*n, a, i), y: (*n, i, b): of a sparse operand, only the entries that it holds are multiplied."""
    x, y = [operand for operand in operands if isinstance(operand, torch.Tensor)][-2:]
    if x.layout is torch.strided and y.layout is not torch.strided:
        return 2 * x.shape[:-1].numel() * _entries(y)
    return 2 * _entries(x) * y.shape[-1]


@FORMULAS.register("aten::_sparse_mm_reduce_impl")
def _reduced(x: torch.Tensor, y: torch.Tensor, reduce: str, out_val: Any = None) -> int:
    """x: (a, i), sparse, y: (i, b): as their product, whatever takes the place of the sum"""
    return 2 * _entries(x) * y.shape[-1]


def _entries(tensor: torch.Tensor) -> int:
    if tensor.layout is torch.strided:
        return tensor.numel()
    if tensor.is_meta:
        raise InputError("without values, a sparse tensor does not show how many entries it holds")
    return tensor._nnz()


@formula("aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_fused_attention_overrideable")
def _attention(q: ShapeTuple, k: ShapeTuple, v: ShapeTuple, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """q: (*b, n, d), k: (*b, m, d), v: (*b, m, e): the product of q and k, and of the result and v, per query head."""
    return 2 * math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


@formula("aten::mv", "aten::addmv")
def _matrix_vector(*shapes: Any, out_val: Any = None, **kwargs: Any) -> int:
    """x: (a, i), y: (i)"""
    return 2 * math.prod(next(shape for shape in shapes if len(shape) == 2))


@formula("aten::_grouped_mm", "transformers::grouped_mm_fallback")
def _grouped(x: ShapeTuple, w: ShapeTuple, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """x: (t, i), w: (e, i, o): every row is multiplied by the weight of its group"""
    return 2 * math.prod(x) * w[-1]


@formula("aten::addbmm")
def _add_batches(c: ShapeTuple, x: ShapeTuple, y: ShapeTuple, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """x: (n, a, i), y: (n, i, b), summed over n"""
    return 2 * math.prod(x) * y[-1]


@formula("torchvision::deform_conv2d")
def _deformable(x: ShapeTuple, w: ShapeTuple, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """w: (o, i, *k): as a convolution; the sampling positions do not matter"""
    return 2 * math.prod(out_val) * math.prod(w[1:])


@formula("aten::_trilinear")
def _bilinear(x: ShapeTuple, w: ShapeTuple, y: ShapeTuple, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """x: (n, i), w: (o, i, j), y: (n, j): w is multiplied by every pair of inputs"""
    return 2 * math.prod(x[:-1]) * math.prod(w)


@formula("aten::mkldnn_rnn_layer")
def _recurrent(x: ShapeTuple, w: ShapeTuple, u: ShapeTuple, *args: Any, out_val: Any = None, **kwargs: Any) -> int:
    """x: (t, n, i), w: (gates * h, i), u: (gates * h, h): both products at every step"""
    return 2 * x[0] * x[1] * (math.prod(w) + math.prod(u))


@dataclass(frozen=True, slots=True)
class LayerCount:
    """The parameters and MACs of one module, without those of its submodules.

    Attributes:
        name: the dotted name of the module; empty for the model itself.
        type: the name of its class.
        input_shape: the shape of the first tensor that it received in its first call; None if it was not called.
        output_shape: the shape of the first tensor that it returned in its first call; None if it was not called.
        params: the number of its parameters.
        macs: the multiply-adds of all of its calls.
    """

    name: str
    type: str
    input_shape: ShapeTuple | None
    output_shape: ShapeTuple | None
    params: int
    macs: int


@dataclass(frozen=True, slots=True)
class Count:
    """The result of `secateur.count`. `print` shows it as a table.

    Attributes:
        params: the number of parameters of the model.
        macs: the multiply-adds of one call, for the whole batch.
        layers: the modules with parameters or MACs, in the order of their calls.
    """

    params: int
    macs: int
    layers: tuple[LayerCount, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as plain data for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return table(self)


@trainable
def count(model: nn.Module, example_inputs: Any = None, *, call: Callable[[nn.Module], Any] | None = None) -> Count:
    """Count the parameters and MACs of one call of a model, independently of the trace.

    A shared parameter counts once, for the first module that holds it. The model runs in evaluation mode, unless the
    `Call` asks for training mode; modes, buffers and random state are restored.

    Args:
        model: the model to count.
        example_inputs: inputs as `secateur.trace` takes them. MACs are those of the whole batch.
        call: a function that runs the model, instead of `example_inputs`.

    Returns:
        The totals, and the parameters and MACs of each layer.

    Raises:
        InputError: the model does not accept the inputs.

    Example:
        >>> print(count(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.zeros(1, 4)))
        layer    type    input  output  params  MACs
        0        Linear  1 x 4   1 x 8      40    32
        2        Linear  1 x 8   1 x 2      18    16
        2 layers                            58    48
    """
    check_model(model)
    layers = tuple(_layers(model, _tallied(model, called(example_inputs, call))))
    return Count(sum(layer.params for layer in layers), sum(layer.macs for layer in layers), layers)


def _tallied(model: nn.Module, call: Call) -> _Tally:
    with suppress(Exception):  # forward may need values, which meta tensors lack; then the model runs for real
        return _run(model, call, torch.device("meta"))
    try:
        return _run(model, call, None)
    except Exception as error:
        raise InputError(refusal(error, call)) from error


@dataclass(slots=True)
class _Visit:
    """The work of one module in all of its calls."""

    inputs: ShapeTuple | None = None
    outputs: ShapeTuple | None = None
    flops: int = 0  # without those of its submodules


class _Tally(UncompiledMode):
    """Adds the FLOPs of every op that runs to the innermost module that runs it."""

    def __init__(self) -> None:
        super().__init__()
        from torch.utils.flop_counter import flop_registry

        self.registry = flop_registry
        self.visits: dict[int, _Visit] = {}
        self._running: list[_Visit] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = FORMULAS.get(func._schema.name) or self.registry.get(func._overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = meta.shorted(meta.key(func), args, kwargs)
        if out is NotImplemented:
            out = func(*args, **kwargs)
        if formula is not None and self._running:
            self._running[-1].flops += formula(*args, **kwargs, out_val=out)
        return out

    def enter(self, module: nn.Module, args: Any) -> None:
        self._running.append(self.visits.setdefault(id(module), _Visit()))

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        visit = self._running.pop()
        if visit.outputs is None:
            visit.inputs, visit.outputs = _shape((args, kwargs)), _shape(output)


def _shape(value: Any) -> ShapeTuple | None:
    """Return the shape of the first tensor in a value, or None."""
    return next((tuple(tensor.shape) for tensor in tensors_in(value)), None)


def _run(model: nn.Module, call: Call, device: torch.device | None) -> _Tally:
    """Run the model once on substitute tensors on `device`, or on the tensors and device of the model itself."""
    call = call.map(lambda tensor: tensor.detach().to(device) if device is not None else tensor.detach().clone())
    tally = _Tally()
    with ExitStack() as stack:
        stack.enter_context(_standing_in(model, device, call.training))
        stack.enter_context(_no_fast_path())
        stack.enter_context(torch.no_grad())
        stack.enter_context(every_module_hooked(tally.enter, tally.leave))
        stack.enter_context(tally)
        call.run(model)
    return tally


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Make `nn.MultiheadAttention` and encoder layers run as ops that can be counted, not as one fused op."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _standing_in(model: nn.Module, device: torch.device | None, training: bool) -> Iterator[None]:
    """Put tensors on `device` (or copy the buffers) and set the mode for one run, and restore everything on exit."""
    made: dict[int, torch.Tensor] = {}
    with kept(model):
        for module in model.modules():
            module.training = training
            for table in _tables(module):
                table.update({k: _replaced(v, device, made) for k, v in table.items() if isinstance(v, torch.Tensor)})
        yield


def _tables(module: nn.Module) -> Sequence[dict[str, Any]]:
    """Return the tables of parameters and buffers of a module that can be written to; a scripted module has none."""
    if isinstance(module, torch.jit.ScriptModule):
        return ()
    return module._parameters, module._buffers, module.__dict__


def _replaced(tensor: torch.Tensor, device: torch.device | None, made: dict[int, torch.Tensor]) -> torch.Tensor:
    if device is None and isinstance(tensor, nn.Parameter):
        return tensor
    if id(tensor) not in made:
        bare = tensor.detach()
        new = bare.clone() if device is None else torch.empty_like(bare, device=device)
        made[id(tensor)] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
    return made[id(tensor)]


def _layers(model: nn.Module, tally: _Tally) -> Iterator[LayerCount]:
    """Return the modules that have parameters or MACs themselves, in the order of their calls, then uncalled ones."""
    homes = _homes(model)
    params, flops = _own_params(model, homes), dict.fromkeys(homes.values(), 0)
    for key, visit in tally.visits.items():
        if key in homes:
            flops[homes[key]] += visit.flops
    names = {id(module): (name, _kind(module)) for name, module in model.named_modules() if id(module) in params}
    for key in [*(k for k in tally.visits if k in names), *(k for k in names if k not in tally.visits)]:
        visit = tally.visits.get(key, _Visit())
        if params[key] or flops[key]:
            name, kind = names[key]
            yield LayerCount(name, kind, visit.inputs, visit.outputs, params[key], flops[key] // 2)


def _homes(model: nn.Module) -> dict[int, int]:
    """Return, by the id of a module, that of the layer that it is part of: usually itself.

    A module that computes a weight, such as a mask, is part of the layer that has the weight.
    """
    homes: dict[int, int] = {}
    for module in model.modules():
        home = homes.setdefault(id(module), id(module))
        if parametrize.is_parametrized(module):
            held: Any = module.parametrizations
            homes.update((id(part), home) for part in held.modules())
    return homes


def _kind(module: nn.Module) -> str:
    """Return the name of the class of a layer, and not of the class that torch makes for a parametrized layer."""
    return (type(module).__bases__[0] if parametrize.is_parametrized(module) else type(module)).__name__


def _own_params(model: nn.Module, homes: Mapping[int, int]) -> dict[int, int]:
    """Return the number of parameters by the id of the layer; a shared parameter belongs to the first layer."""
    seen: set[int] = set()
    own = dict.fromkeys(homes.values(), 0)
    for module in model.modules():
        fresh = {id(p): p.numel() for p in module._parameters.values() if p is not None and id(p) not in seen}
        own[homes[id(module)]] += sum(fresh.values())
        seen |= fresh.keys()
    return own


def table(counts: Count) -> str:
    """Return a table with one line per layer, and the totals."""
    rows = [["layer", "type", "input", "output", "params", "MACs"]]
    for layer in counts.layers:
        shapes = [_by(layer.input_shape), _by(layer.output_shape)]
        rows.append([layer.name or "(the model itself)", layer.type, *shapes, f"{layer.params:,}", f"{layer.macs:,}"])
    rows.append([counted(len(counts.layers), "layer"), "", "", "", f"{counts.params:,}", f"{counts.macs:,}"])
    return "\n".join(paged(rows, right=(2, 3, 4, 5)))


def _by(shape: ShapeTuple | None) -> str:
    return "-" if shape is None else " x ".join(map(str, shape)) or "scalar"
