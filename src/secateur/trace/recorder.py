"""Record one run of a model: torch functions on the outside, aten ops inside, sizes through Python.

Two modes see everything: a `TorchFunctionMode` sees what user code calls, with the integers it passes; a
`TorchDispatchMode` sees the aten ops below. Rules are keyed by the outermost thing seen: inside a function that has a
rule of its own the dispatcher keeps quiet. Types ride on the tensors, so nothing here keeps an activation alive.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import InputError
from ..lifted import WIDE, wide
from ..plan import Renorm
from ..readers import Reader
from ..terms import Term, Why, freeze, keep_at_least, mingle, reason, unify
from . import meta, sized, stacked
from .blocks import SUMS, Watch
from .folds import Query
from .kinds import Attention
from .lending import Lent
from .life import Life
from .registry import ATEN, FUNCTIONS, IN_DOUBLE, PLAIN, PLAINER, Op, Rule
from .rules import pointwise, routing
from .sizes import Dim, Ledger, Num, Shape, source_line
from .typed import Typed, fresh, get, put

# Ops whose sizes the torch function around them accounts for.
SIZED_OPS = frozenset(
    f"aten::{name}" for name in "view _unsafe_view reshape expand repeat split split_with_sizes slice narrow".split()
)
# Ops that move nothing but memory: whether one is needed may depend on sizes.
LAYOUT_OPS = SIZED_OPS | frozenset(
    f"aten::{name}"
    for name in "clone alias contiguous permute transpose t unsqueeze squeeze detach _reshape_alias copy_".split()
)
BAKE = "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') makes it a plain weight"
Step: TypeAlias = "tuple[str, tuple[float, ...]]"
_aten_rules: dict[Any, tuple[Rule | None, tuple[str, ...], str, bool]] = {}


def _aten_rule(func: Any) -> tuple[Rule | None, tuple[str, ...], str, bool]:
    """The rule, the argument names and the shortcut's key of an aten overload, and whether it draws random numbers."""
    if func not in _aten_rules:
        name = func._schema.name
        found = ATEN.get(name) or ATEN.get(name.rstrip("_"))
        if found is None and torch.Tag.pointwise in func.tags:
            found = pointwise.pointwise
        names = tuple(a.name for a in func._schema.arguments)
        _aten_rules[func] = found, names, meta.key(func), torch.Tag.nondeterministic_seeded in func.tags
    return _aten_rules[func]


def forget_rules() -> None:
    """Look rules up anew: there is another one."""
    _aten_rules.clear()


@dataclass(frozen=True, slots=True)
class Macs:
    """One op multiplies and adds once per element of the product of `terms`; `layer` is its weight or its source."""

    terms: tuple[Term, ...]
    layer: str


class At(NamedTuple):
    """Which call it is: the innermost module whose code runs, and the number of the call there."""

    module: str
    number: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The shapes of the tensors that an op took and gave."""

    operands: tuple[tuple[int, ...], ...]
    results: tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Reading:
    """Where an op called `name` reduces over units: (argument, dim, dim of the result or None, term) each."""

    name: str
    reads: list[tuple[str, int, int | None, Term]] = field(default_factory=list)
    resized: dict[str, tuple[Term, ...]] = field(default_factory=dict)  # size arguments that shrink too
    numbered: dict[int, Term] = field(default_factory=dict)  # results that number units, by their place
    masked: tuple[Term, ...] = ()  # the result's dimensions, where dropped units are zero in it but not in its operands
    drawn: tuple[Term, ...] | None = None  # the result's dimensions, where it is random


def uncompiled() -> AbstractContextManager[Any]:
    """Within, compiled parts run as they were written. Without the compiler's imports there are none."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class Interceptor:
    """The two modes and their nesting; what to do at each seen call is left to `on_function` and `on_op`."""

    def __init__(self, module_names: Mapping[int, str], device: torch.device | None, *, lift: bool = False):
        self.module_names = module_names  # by the id of the module
        self.device = device  # where stray tensors are moved; None: nowhere
        self.lift = lift  # whether lower precisions become float64
        self.lent: Lent | None = None  # tensors of the model itself, which a run may write to
        self._strays: Any = WeakTensorKeyDictionary()  # lifted tensors by those that came from outside the model
        self.quiet = 0
        self.at = At("", 0)
        self._steps: Counter[str] = Counter()
        self.open = 0  # torch functions of the user's code that are running

    def module_path(self) -> str:
        """The innermost module of the model whose code is running."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            name = self.module_names.get(id(frame.f_locals.get("self")))
            if name is not None:
                return name
            frame = frame.f_back
        return ""

    def advance(self) -> None:
        """Go on to the next call. Calls count within each module, for in another run other experts may be chosen."""
        path = self.module_path()
        self._steps[path] += 1
        self.at = At(path, self._steps[path])

    @contextmanager
    def running(self) -> Iterator[None]:
        with uncompiled(), Functions(self), _Dispatch(self):
            yield

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Within, the dispatcher tells nothing: the function around it has a rule."""
        self.quiet += 1
        try:
            yield
        finally:
            self.quiet -= 1

    @property
    def steps(self) -> dict[str, int]:
        """How many calls were seen so far in the code of each module."""
        return dict(self._steps)

    def form(self, func: Any) -> Any:
        """A torch function, or its float64 form where everything is lifted."""
        return IN_DOUBLE.get(func, func) if self.lift else func

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a torch function that has a rule."""
        raise AssertionError("abstract")

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a torch function whose inside cannot be seen."""
        raise AssertionError("abstract")

    def on_op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an aten op."""
        raise AssertionError("abstract")

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """Called after a torch function without a rule has run."""
        return out

    def lifted(self, value: Any) -> Any:
        """A tensor of a lower precision in float64, the same one each time, so that what is written to it stays."""
        if isinstance(value, (tuple, list)):
            return type(value)(map(self.lifted, value))
        if not isinstance(value, torch.Tensor) or value.dtype not in WIDE:
            return WIDE.get(value, value) if isinstance(value, torch.dtype) else value
        made = self._strays.get(value)
        if made is None:
            made = self._strays[value] = wide(value)
            typed = get(value)
            if typed is not None:
                put(made, typed)
        return made

    def moved(self, value: Any) -> Any:
        """Stray tensors (constants made outside the model) on the device of this run."""
        if isinstance(value, torch.Tensor) and value.device != self.device:
            moved = value.to(self.device)
            typed = get(value)
            if typed is not None:
                put(moved, typed)
            return moved
        if isinstance(value, (tuple, list)):
            return type(value)(map(self.moved, value))
        return value


class Functions(TorchFunctionMode):
    """Tells its owner of every call of a torch function in `seen`; those inside it go unseen."""

    def __init__(self, owner: Interceptor, seen: Mapping[Any, Any] = FUNCTIONS):
        super().__init__()
        self.owner = owner
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in PLAIN:
            with self:
                out = PLAIN[func](*args, **kwargs)
            return self.owner.on_opaque(func, args, kwargs) if out is NotImplemented else out
        if func in PLAINER:
            args = PLAINER[func](*args)
        if func in self.seen and not self.owner.quiet:
            return self.owner.on_function(func, args, kwargs)
        self.owner.open += 1
        try:
            out = func(*args, **kwargs)
        finally:
            self.owner.open -= 1
        return self.owner.after(func, args, kwargs, out)


class _Dispatch(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled; the guard against it would import the compiler, which takes seconds."""
        return False

    def __init__(self, owner: Interceptor):
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        owner = self.owner
        if owner.device is not None and _mixed(args, owner.device):
            args, kwargs = owner.moved(args), {k: owner.moved(v) for k, v in kwargs.items()}
        if owner.lift and (_low(args) or _low(kwargs.values())):
            args, kwargs = owner.lifted(args), {k: owner.lifted(v) for k, v in kwargs.items()}
        if owner.lent is not None and func._schema.is_mutable:
            owner.lent.save(args)
        return func(*args, **kwargs) if owner.quiet else owner.on_op(func, args, kwargs)


def _mixed(args: Sequence[Any], device: torch.device) -> bool:
    """Whether tensors on the run's device meet tensors that are not."""
    here = there = False
    for value in args:
        for t in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(t, torch.Tensor):
                here, there = (True, there) if t.device == device else (here, True)
    return here and there


def _low(values: Iterable[Any]) -> bool:
    """Whether a tensor of a lower precision is among the arguments, or the name of such a precision."""
    for value in values:
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, torch.Tensor) and one.dtype in WIDE:
                return True
        if isinstance(value, torch.dtype) and value in WIDE:
            return True
    return False


class Recorder(Interceptor):
    """Everything that one or several recorded runs say, before it is solved."""

    def __init__(self, module_names: dict[int, str], device: torch.device | None, *, lift: bool = False):
        super().__init__(module_names, device, lift=lift)
        self.ledger = Ledger()
        self.roles: dict[tuple[str, int], str] = {}
        self.macs: list[Macs] = []
        self.counting = True
        self.unknown: Counter[str] = Counter()
        self.untrained: str | None = None  # why a call in training mode failed
        self.renorms: dict[str, Renorm] = {}
        self.readers: dict[str, Reader] = {}
        self.samples: dict[str, Sample] = {}  # the shapes that an op without a rule was first met with
        self.reached: set[str] = set()
        self.measured: set[str] = set()  # tensors of the model whose size was read
        self.written: dict[int, StorageWeakRef] = {}  # overwritten in place with what is no longer zero
        self.path: list[Step] = []
        self.readings: dict[At, Reading] = {}
        self.ran = ""  # the name of the call that just ran
        self.numbered: dict[str, int] = {}  # how many calls each module made in the calls that were asked for
        self.attention = Attention()
        self.queries: list[Query] = []
        self.used: list[Typed] = []  # what was computed with in ways that do not scale along
        self.watch = Watch(self)
        self.life = Life()

    # --- what rules use ---

    def typed(self, tensor: torch.Tensor) -> Typed:
        """The type of a tensor; a constant that no rule made is frozen."""
        typed = get(tensor)
        if typed is not None:
            typed.read = True
            if typed.picks is not None:
                self.keep_whole(typed, typed.picks)
            if typed.name is not None:
                self.reached.add(typed.name)
            elif typed.at is not None:
                self.reached.update(place.name for place in typed.at if place is not None)
            return typed
        typed = Typed(fresh(tensor.shape, f"a constant tensor (met at {self.where()})"))
        put(tensor, typed)
        return typed

    def keep_whole(self, typed: Typed, why: str) -> None:
        """A list of whole numbers is read otherwise than by a pick."""
        typed.picks = None
        for dim in typed.found():
            freeze(dim, why)

    def where(self) -> str:
        """Source line and module path of the call being recorded."""
        path = self.module_path()
        return f"{source_line()} in {path}" if path else source_line()

    def mend(self) -> str:
        """What helps where a parametrization is in the way."""
        return f" ({BAKE})" if ".parametrizations." in self.module_path() else ""

    def reason(self, why: Why) -> str:
        return reason(why)

    def keep_two(self, term: Term) -> None:
        """A dimension that is squeezed or broadcast when it is one long must stay longer."""
        keep_at_least(term, 2)

    def unify(self, x: Term, y: Term) -> None:
        unify(x, y, lambda: f"no common refinement at {self.where()}")

    def group_term(self, weight: torch.Tensor) -> Term | None:
        """The groups of a grouped layer, by its weight."""
        typed = get(weight)
        return typed.groups if typed is not None else None

    def add_macs(self, op: Op, terms: Sequence[Term]) -> None:
        if self.counting and not self.ledger.uncounted:
            weight = op["weight"]
            at = self.typed(weight).at if isinstance(weight, torch.Tensor) else None
            place = next((p for p in at if p is not None), None) if at else None
            self.macs.append(Macs(tuple(terms), place.name if place else f"{self.module_path()} ({op.name})"))

    def note_read(self, op: Op, argument: str, dim: int, out: int | None) -> None:
        tensor = op[argument]
        dim %= tensor.dim()
        reading = self.reading()
        reading.reads.append((argument, dim, out, self.typed(tensor).dims[dim]))
        mingle(self.typed(tensor).found(), dim)

    def note_reader(self, op: Op, x: tuple[str, int], weight: tuple[str, int], groups: int) -> None:
        """Parts of a parameter, and tensors made of several, are no readers."""
        at = self.typed(op[weight[0]]).at
        place = at[weight[1]] if at is not None else None
        if at is None or place is None or any(p is None or p.name != place.name or p.start for p in at):
            return
        bias = op["bias"] if "bias" in op.arguments else op["self"] if op.name == "aten::addmm" else None
        held = self.typed(bias).at if isinstance(bias, torch.Tensor) else None
        name = held[-1].name if held is not None and held[-1] is not None else None
        channels = self.typed(op[x[0]]).found()[x[1]]
        self.readers.setdefault(place.name, Reader(place.name, place.dim, channels, name, groups))

    def reading(self) -> Reading:
        """What is noted of the call that just ran."""
        return self.readings.setdefault(self.at, Reading(self.ran))

    def note_resized(self, argument: str, *terms: Term) -> None:
        """An argument of the op that just ran is the size of these terms when kept units only are read."""
        self.reading().resized[argument] = terms

    def retyped(self, out: torch.Tensor) -> None:
        """The result of the call that just ran has other terms than its rule gave it."""
        self.life.retyped(out)
        reading = self.readings.get(self.at)
        if reading is not None and reading.drawn is not None:
            reading.drawn = tuple(self.typed(out).found())

    def note_renorm(self, op: Op, renorm: Renorm, dims: Sequence[Term]) -> None:
        """A weight is divided by its norm, and a check must zero the quotient, not the weight."""
        self.renorms[renorm.of] = renorm
        self.reading().masked = tuple(dims)

    def returned(self, tensors: Sequence[torch.Tensor]) -> None:
        """The model gave these: their dimensions stay."""
        for typed in filter(None, map(get, tensors)):
            for dim in typed.found():
                freeze(dim, "model output")

    # --- running ---

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rule, names = FUNCTIONS[func]
        self.advance()
        self.ran = func.__name__
        with self.silence():  # what a shortcut makes is no op of the model's either
            out = self._short(func.__name__, args, kwargs)
            if out is NotImplemented:
                out = self.form(func)(*args, **kwargs)
        self._walked(func.__name__, args)
        self._apply(rule, Op(self, func.__name__, _named(names, args, kwargs), out))
        sized.after(self, func, args, kwargs, out)
        return out

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.silence():
            out = func(*args, **kwargs)
        arguments = {str(i): value for i, value in enumerate([*args, *kwargs.values()])}
        op = Op(self, func.__name__, arguments, out)
        op.opaque("its inside cannot be seen")
        self._note_life(op)
        return out

    def on_op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.advance()
        self.ran = func._schema.name
        rule, names, key, random = _aten_rule(func)
        out = self._short(key, args, kwargs)
        if out is NotImplemented:
            out = func(*args, **kwargs)
        self._walked(func._schema.name, args)
        op = Op(self, func._schema.name, _named(names, args, kwargs), out)
        if not isinstance(out, (torch.Tensor, tuple, list)):
            for tensor in op.tensors():  # a number, which was read from it all the same
                self.typed(tensor)
        else:
            self._apply(rule, op)
            if random and op.outs:
                self.reading().drawn = tuple(op.dims(op.outs[0]))
            if op.name in SUMS:
                self.watch.add(out)
            if not self.open and op.name in SIZED_OPS:
                op.opaque("its sizes come from code that cannot be seen, such as a script")
        return out

    def _walked(self, name: str, args: Sequence[Any]) -> None:
        """Note the step: a pruned model must walk the same path, with the same numbers in its arithmetic."""
        if self.counting and not self.ledger.uncounted and name not in LAYOUT_OPS:
            self.path.append((name, tuple(a for a in args if type(a) is float)))

    def _apply(self, rule: Rule | None, op: Op) -> None:
        """What no rule knows, and what a rule did not expect, freezes and is reported."""
        if rule is None:
            self.unknown[op.name] += 1
            self.samples.setdefault(op.name, Sample(*(_shapes(tensors) for tensors in (op.tensors(), op.outs))))
            op.opaque(f"no rule for {op.name}")
            return self._note_life(op)
        try:
            stacked.apply(rule, op)
        except Exception as error:  # noqa: BLE001 - a rule that did not expect this use must not be fatal
            self.unknown[f"{op.name} (its rule failed: {type(error).__name__})"] += 1
            op.opaque(str(error) if isinstance(error, InputError) else f"the rule for {op.name} failed")
        if not self.ledger.uncounted:
            self._note_uses(op)
            self._note_life(op)

    def _note_life(self, op: Op) -> None:
        if self.counting:
            self.life.note(op.outs, op.tensors)

    def _note_uses(self, op: Op) -> None:
        """Uses of what may be scaled, and of numbers of units, beyond what the rule of the op spoke of."""
        for tensor in op.tensors():
            typed = get(tensor)
            if typed is not None and typed.name is not None and not typed.dims:
                self.reached.add(typed.name)  # rules say nothing of tensors without dimensions
            if typed is not None and typed.numbers is not None:
                routing.follow(op, tensor)
            if typed is not None and (typed.origins or typed.at) and not any(tensor is other for other in op.along):
                self.used.append(typed)

    def _short(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a common op on meta tensors, without its kernel; else `NotImplemented`."""
        return meta.shorted(key, args, kwargs) if self.device is not None else NotImplemented

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        return out if self.quiet else sized.after(self, func, args, kwargs, out)

    def numbers(self, tensor: torch.Tensor) -> tuple[int, ...]:
        """The shape of a tensor as Nums."""
        typed = get(tensor)
        if typed is None:
            return tensor.shape
        typed.read = True
        if typed.name is not None:
            self.measured.add(typed.name)
        return Shape(Num(int.__index__(n), Dim(d)) for n, d in zip(tensor.shape, typed.dims, strict=True))


def _named(names: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(zip(names, args, strict=False))
    if not kwargs:
        return arguments
    arguments.update(kwargs)
    return {name: arguments[name] for name in dict.fromkeys((*names, *kwargs)) if name in arguments}


def _shapes(tensors: Sequence[torch.Tensor]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tensor.shape) for tensor in tensors)
