"""Copies a model so that the copy holds no reference to the original.

`deepcopy` refuses tensors with a gradient history, and does not copy functions: a hook that closes over a module of the
model would write into the original. Therefore, in a copy made here,

1. tensors with a gradient history, wherever they are kept, are copied without it;
2. functions whose closures, defaults or attributes refer to the original are rebuilt and refer to the copy. Functions
   that share a variable still share it in the copy, and containers in their closures are copied, too;
3. weak references, and methods of built-in containers, refer to the copy.

Objects that cannot be rebuilt are refused by name: functions that read the original from a global variable, classes
that were defined around it, and cached functions.
"""

from __future__ import annotations

import copy
import dis
import functools
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, get_origin

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from secateur.anatomy.holders import assign, has_attributes, values
from secateur.anatomy.keeping import held
from secateur.anatomy.parts import BUILTIN, CACHED, contents, parts
from secateur.apply.containers import copy_guarded
from secateur.apply.ready import Body, holder_of
from secateur.apply.tensors import alike, hooks_of
from secateur.base.names import inside
from secateur.errors import InputError
from secateur.plan.plan import Plan

DEPTH = 8
"""The number of references that are followed from a function in search of the original."""
IN_PLACE = "use secateur.cut_(model, plan), which works in place"


def copied(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Return a deep copy of a model. `memo` holds objects to use instead of copies, by the id of the original object.

    Raises `InputError` if the model cannot be copied.
    """
    try:
        with torch.no_grad(), _Detaching():  # else copies of parameters of scripted modules are not leaves
            copy_guarded(held(vars(module) for module in model.modules()), memo)
            made = copy.deepcopy(model, memo)
            Leading(memo).home(made)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"the model cannot be copied: {type(error).__name__}: {error}\n{IN_PLACE}") from error
    return made


class _Detaching(TorchFunctionMode):
    """Within the context, `deepcopy` copies tensors with a gradient history as detached tensors (rule 1).

    It also copies compressed sparse tensors, which PyTorch's own copy refuses.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__ and not (args[0].is_leaf and args[0].layout is torch.strided):
            tensor, memo = args
            return memo.setdefault(id(tensor), tensor.detach().clone())
        return func(*args, **(kwargs or {}))


class Leading:
    """Finds references from a copy to the original, with the memo of `deepcopy`, and replaces them (rules 2 and 3)."""

    def __init__(self, memo: dict[int, Any]):
        self.memo = memo
        self._fresh: set[int] = set()  # ids of objects of the copy
        self._cells: dict[int, CellType] = {}
        self._old_cells: dict[int, CellType] = {}  # variables in the closures of rebuilt functions
        self._functions: dict[int, tuple[FunctionType, FunctionType]] = {}
        self._seen: dict[int, Any] = {}  # visited objects, kept alive so that ids stay unique
        self._kinds: set[type] = set()
        self._where = ""
        self._note_fresh()

    def _note_fresh(self) -> None:
        self._fresh = set(map(id, self.memo.values()))

    def home(self, model: nn.Module) -> None:
        """Search a copy until every function that shares a variable with a rebuilt function is rebuilt, too."""
        known = -1
        while known != len(self._old_cells):
            known = len(self._old_cells)
            modules = list(model.named_modules())
            self._seen = {id(module): module for _, module in modules}
            for path, module in modules:
                self._check_class(type(module))
                for name, item in list(vars(module).items()):
                    self._where = f"{path}.{name}" if path else name
                    self._put(vars(module).__setitem__, name, item)

    def _of_copy(self, value: Any) -> Any:
        """Return the value that must replace a value found in the copy; usually itself."""
        if type(value) in _PLAIN or id(value) in self._seen or _is_type(value):
            return value
        if isinstance(value, _ATOMS):
            return self._of_original(value)
        if isinstance(value, (MethodType, functools.partial)):
            return _rebuilt(value, self._of_copy)
        if isinstance(value, tuple):
            return _mapped(value, self._of_copy)
        self._seen[id(value)] = value
        if isinstance(value, torch.Tensor):
            for hooks in hooks_of(value):
                self._of_copy(getattr(value, hooks))
        else:
            self._fill(value)
        return value

    def _fill(self, owner: Any) -> None:
        """Replace the references to the original in a container or an object."""
        if isinstance(owner, list):
            for i, item in enumerate(owner):
                self._put(functools.partial(list.__setitem__, owner), i, item)
        elif isinstance(owner, deque):
            for i, item in enumerate(list(owner)):
                self._put(functools.partial(deque.__setitem__, owner), i, item)
        elif isinstance(owner, dict):
            for key, item in list(owner.items()):
                self._put(functools.partial(dict.__setitem__, owner), key, item)
        elif isinstance(owner, set):
            made = set(map(self._of_copy, owner))
            if made != owner:
                set.clear(owner)
                set.update(owner, made)
        if has_attributes(owner):
            for name, item in list(values(owner).items()):
                self._put(functools.partial(assign, owner), name, item)

    def _put(self, put: Callable[[Any, Any], Any], key: Any, item: Any) -> None:
        made = self._of_copy(item)
        if made is not item:
            put(key, made)

    def _of_original(self, value: Any) -> Any:
        """Return the copy of a value that still belongs to the original; itself if it does not refer to the model."""
        if id(value) in self.memo:
            return self.memo[id(value)]
        if isinstance(value, FunctionType):
            return self._function(value)
        if not self._leads(value):
            return value
        if isinstance(value, CACHED):
            raise self._refusal("is a cached function of the original's modules")
        if isinstance(value, weakref.ref):
            return type(value)(self._of_original(value()))
        if isinstance(value, BUILTIN):
            return getattr(self._of_original(value.__self__), value.__name__)
        if isinstance(value, (MethodType, functools.partial)):
            return _rebuilt(value, self._of_original)
        return self._deep_copy(value)

    def _deep_copy(self, value: Any) -> Any:
        made = copy.deepcopy(value, self.memo)
        self._note_fresh()
        return self._of_copy(made)

    def _function(self, old: FunctionType) -> FunctionType:
        if id(old) in self._functions:
            return self._functions[id(old)][1]
        self._check_globals(old)
        if not self._leads(old):
            return old
        cells = [self._cells.setdefault(id(cell), CellType()) for cell in old.__closure__ or ()]
        new = FunctionType(old.__code__, old.__globals__, old.__name__, None, tuple(cells))
        self._functions |= {id(old): (old, new), id(new): (new, new)}
        functools.update_wrapper(new, old, (*functools.WRAPPER_ASSIGNMENTS, "__type_params__"), ())
        if old.__defaults__ is not None:
            new.__defaults__ = _mapped(old.__defaults__, self._of_original)
        new.__kwdefaults__ = old.__kwdefaults__ and self._mapping(old.__kwdefaults__)
        vars(new).clear()
        vars(new).update(self._mapping(vars(old)))
        for cell, made in zip(old.__closure__ or (), cells, strict=True):
            self._fill_cell(cell, made)
        return new

    def _fill_cell(self, cell: CellType, made: CellType) -> None:
        if id(cell) not in self._old_cells:
            self._old_cells[id(cell)] = cell
            for content in contents(cell):
                made.cell_contents = self._closed_over(content)

    def _mapping(self, held: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self._of_original(item) for key, item in held.items()}

    def _closed_over(self, content: Any) -> Any:
        """Copy a container in the closure of a rebuilt function (rule 2)."""
        if isinstance(content, (dict, list, set, deque)) and id(content) not in self.memo and not self._leads(content):
            with suppress(Exception):  # what cannot be copied is shared: it does not refer to the model
                return self._deep_copy(content)
        return self._of_original(content)

    def _leads(self, value: Any, seen: set[int] | None = None, depth: int = DEPTH) -> bool:
        """Return whether a value refers to the original: to a copied object, or to a variable of a rebuilt function."""
        seen = set() if seen is None else seen
        if type(value) in _PLAIN or id(value) in seen or id(value) in self._fresh or _is_type(value):
            return False
        if (id(value) in self.memo and not isinstance(value, _FIXED)) or id(value) in self._old_cells:
            return True
        if id(value) in self._functions:
            return self._functions[id(value)][1] is not value
        seen.add(id(value))
        return depth > 0 and any(self._leads(part, seen, depth - 1) for part in parts(value))

    def _check_class(self, kind: type) -> None:
        """Refuse classes whose methods refer to the original, because the copy shares its classes."""
        if kind in self._kinds or kind.__module__.partition(".")[0] == "torch":
            return
        self._kinds.add(kind)
        for name, method in vars(kind).items():
            if isinstance(method, FunctionType) and name != "__init__":  # __init__ does not run again
                self._where = f"{kind.__name__}.{name}"
                self._check_globals(method)
                if self._leads(method):
                    raise self._refusal("closes over the original's modules")

    def _check_globals(self, function: FunctionType) -> None:
        for name in _globals_read(function.__code__, function.__globals__):
            if id(function.__globals__[name]) in self.memo:
                raise self._refusal(f"reads the global variable {name!r}, which is part of the original")

    def _refusal(self, why: str) -> InputError:
        return InputError(f"the model cannot be copied: a function in {self._where} {why}\n{IN_PLACE}")


_PLAIN = frozenset(
    {int, float, bool, str, bytes, complex, type(None), torch.dtype, torch.device, torch.Size, range, slice, CodeType}
)
_FIXED = (functools.partial, MethodType, tuple, frozenset)  # are copied, but have no identity of their own
_ATOMS = (FunctionType, *BUILTIN, weakref.ref, CACHED)  # are not copied by `deepcopy`


def _is_type(value: Any) -> bool:
    """Return whether a value is a class or an annotation such as `Optional[Tensor]`, which `deepcopy` may copy."""
    return isinstance(value, type) or get_origin(value) is not None


def _mapped(held: tuple[Any, ...], change: Callable[[Any], Any]) -> tuple[Any, ...]:
    made = [change(item) for item in held]
    if all(a is b for a, b in zip(made, held, strict=True)):
        return held
    return type(held)(*made) if hasattr(held, "_fields") else type(held)(made)


def _rebuilt(value: MethodType | functools.partial[Any], change: Callable[[Any], Any]) -> Any:
    """Return a method or partial with changed parts; itself if no part changes."""
    parts = (value.__func__, value.__self__) if isinstance(value, MethodType) else (value.func, *value.args)
    made = _mapped(parts, change)
    if isinstance(value, MethodType):
        return value if made is parts else MethodType(*made)
    named = {key: change(item) for key, item in value.keywords.items()}
    if made is parts and all(item is value.keywords[key] for key, item in named.items()):
        return value
    new = type(value)(*made, **named)
    vars(new).update(vars(value))
    return new


def _globals_read(code: CodeType, known: Mapping[str, Any]) -> Iterator[str]:
    """Yield the global variables, but not attributes, that a function reads and that could be part of a model."""
    held = [name for name in code.co_names if _is_part(known.get(name))]
    if held:
        read = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        yield from (name for name in held if name in read)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_read(constant, known)


def _is_part(value: Any) -> bool:
    """Return whether a value is a module, a tensor or a container of them; other constants may be shared."""
    if type(value) in (dict, list, set, deque):
        return not value or any(isinstance(item, (torch.Tensor, nn.Module)) for item in parts(value))
    return isinstance(value, (torch.Tensor, nn.Module))


def learn_alike(model: nn.Module, copied: nn.Module) -> None:
    """Set `requires_grad` in a copy as in the original."""
    wanted = {name: old.requires_grad for name, old in model.named_parameters()}
    for name, new in copied.named_parameters():
        if new.requires_grad != wanted.get(name, new.requires_grad):
            new.requires_grad_(wanted[name])


def check_apart(modules: Mapping[str, nn.Module], copied: Mapping[str, nn.Module], plan: Plan) -> None:
    """Raise `InputError` if the plan changes an integer in an object that was not copied, but shared."""
    closing = plan.renumbered
    follow = (*closing.numbers, *closing.picks) if closing is not None else ()
    for change in (*plan.attributes, *follow):
        old, new = (holder_of(of[change.module], change)[0] for of in (modules, copied))
        if old is new:
            path = f"{change.module}.{change.name}".lstrip(".")
            raise InputError(
                f"the model cannot be copied: what holds {path} copies as itself, and the plan changes it\n"
                "use secateur.cut_(model, plan), which works in place"
            )


def copies_of(body: Body, plan: Plan, made: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Return the new tensors, and copies of parameters whose hooks or attributes `deepcopy` would lose."""
    copies = dict(made)
    for old in (slot.tensor for slot in body.slots if not inside(slot.name, plan.removed)):
        if isinstance(old, nn.Parameter) and id(old) not in copies and (vars(old) or hooks_of(old)):
            copies[id(old)] = alike(old, old.detach().clone())
    for new in copies.values():
        for hooks in hooks_of(new):
            setattr(new, hooks, getattr(new, hooks).copy())
    return copies


__all__ = ["copied"]
