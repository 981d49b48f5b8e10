"""The two modes that see every call of a run: torch functions, and the aten ops that they call."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from secateur.base.modes import UncompiledMode
from secateur.base.precision import WIDE, wide
from secateur.graph.parts import At
from secateur.trace.lending import Lent
from secateur.trace.registry import FUNCTIONS, IN_DOUBLE, PLAIN, PLAINER
from secateur.trace.typed import get, put


def uncompiled() -> AbstractContextManager[Any]:
    """Run compiled parts eagerly. If the compiler was never imported, there are none."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


class Interceptor:
    """Enters the two modes, and passes each call to `on_function`, `on_opaque` or `on_op`."""

    def __init__(self, module_names: Mapping[int, str], device: torch.device | None, *, lift: bool = False):
        self.module_names = module_names  # by the id of the module
        self.device = device  # where stray tensors are moved, or None
        self.lift = lift  # whether lower precisions become float64
        self.lent: Lent | None = None  # tensors of the model itself, which a run may write to
        self._strays: Any = WeakTensorKeyDictionary()  # lifted tensors, by the outside tensors they replace
        self.quiet = 0
        self.at = At("", 0)
        self._steps: Counter[str] = Counter()
        self.open = 0  # the number of torch functions of the user's code that are running

    def module_path(self) -> str:
        """Return the name of the innermost module of the model whose code is running."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            name = self.module_names.get(id(frame.f_locals.get("self")))
            if name is not None:
                return name
            frame = frame.f_back
        return ""

    def advance(self) -> None:
        """Advance to the next call. Calls are numbered per module, because another run may choose other experts."""
        path = self.module_path()
        self._steps[path] += 1
        self.at = At(path, self._steps[path])

    @contextmanager
    def running(self) -> Iterator[None]:
        with uncompiled(), Functions(self), _Dispatch(self):
            yield

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Make the dispatch mode ignore ops, because the function around them has a rule."""
        self.quiet += 1
        try:
            yield
        finally:
            self.quiet -= 1

    @property
    def steps(self) -> dict[str, int]:
        """The number of calls so far in the code of each module."""
        return dict(self._steps)

    def form(self, func: Any) -> Any:
        """Return a torch function, or its float64 form if everything is lifted."""
        return IN_DOUBLE.get(func, func) if self.lift else func

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a torch function that has a rule."""
        raise AssertionError("abstract")

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a torch function that cannot be traced into."""
        raise AssertionError("abstract")

    def on_op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an aten op."""
        raise AssertionError("abstract")

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """Process the result of a torch function without a rule, and return it."""
        return out

    def lifted(self, value: Any) -> Any:
        """Return a tensor of lower precision in float64; the same one each time, so that writes to it persist."""
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
        """Return stray tensors (constants created outside the model) on the device of this run."""
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
    """Reports every call of a torch function in `seen` to its owner, but not the calls inside it."""

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


class _Dispatch(UncompiledMode):
    def __init__(self, owner: Interceptor):
        super().__init__()
        self.owner = owner

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # enabled if C++ calls an op outside of any function that was seen
            return self._dispatched(func, args, kwargs or {})

    def _dispatched(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        owner = self.owner
        if owner.device is not None and _mixed(args, owner.device):
            args, kwargs = owner.moved(args), {k: owner.moved(v) for k, v in kwargs.items()}
        if owner.lift and (_low(args) or _low(kwargs.values())):
            args, kwargs = owner.lifted(args), {k: owner.lifted(v) for k, v in kwargs.items()}
        if owner.lent is not None:
            owner.lent.save(func, args, kwargs)
        return func(*args, **kwargs) if owner.quiet else owner.on_op(func, args, kwargs)


def _mixed(args: Sequence[Any], device: torch.device) -> bool:
    """Return whether some tensors are on the run's device and some are not."""
    here = there = False
    for value in args:
        for t in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(t, torch.Tensor):
                here, there = (True, there) if t.device == device else (here, True)
    return here and there


def _low(values: Iterable[Any]) -> bool:
    """Return whether the arguments include a tensor of lower precision, or a dtype of lower precision."""
    for value in values:
        for one in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(one, torch.Tensor) and one.dtype in WIDE:
                return True
        if isinstance(value, torch.dtype) and value in WIDE:
            return True
    return False
