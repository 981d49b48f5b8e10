"""Decides whether training mode is recorded as well as evaluation mode, because the pruned model must run in both.

A second recorded run costs as much as the first, so it is made only if the modes may use different tensors:

1. no call in evaluation mode read a parameter, or a floating-point buffer or plain tensor of a module;
2. modules keep tensors in lists, dicts or other objects;
3. the code of a module branches on `self.training`, which `F.dropout(x, p, self.training)` does not. Branches do not
   count if they choose a float (`p if self.training else 0.0`), or if an attribute before it is false:
   `if self.gradient_checkpointing and self.training`.

The modules of torch itself, such as dropout and batch norm, run ops with the same sizes in both modes.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn

from secateur.anatomy.keeping import TABLES, held, is_empty
from secateur.anatomy.parts import parts

_IDLE = frozenset({"CACHE", "TO_BOOL", "NOP", "EXTENDED_ARG", "NOT_TAKEN"})
_OTHERS = frozenset({"__init__", "train", "eval"})


def keeps_tensors(model: nn.Module) -> bool:
    """Return whether rule 2 holds."""
    owners = held({n: v for n, v in vars(module).items() if n not in TABLES} for module in model.modules())
    return any(_is_plain(part) for owner in owners if not is_empty(owner) for part in parts(owner))


def _is_plain(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter) and value.numel() > 1


def leaves_out(sites: Mapping[str, Any], reached: Collection[str]) -> bool:
    """Return whether rule 1 holds."""
    return any(
        name not in reached and (site.kind == "parameter" or (site.floating and any(dim.n > 1 for dim in site.dims)))
        for name, site in sites.items()
    )


def branches(model: nn.Module) -> bool:
    """Return whether rule 3 holds."""
    return any(
        all(bool(getattr(module, name, True)) for name in guards)
        for module in model.modules()
        for guards in _branches_of(type(module))
    )


@cache
def _branches_of(kind: type) -> tuple[tuple[str, ...], ...]:
    """Return, for each branch on `self.training`, the attributes that must be true to reach it."""
    kinds = [base for base in kind.__mro__ if base.__module__.partition(".")[0] not in ("torch", "builtins")]
    methods = [
        method
        for base in kinds
        for name, method in vars(base).items()
        if isinstance(method, FunctionType) and name not in _OTHERS
    ]
    return tuple(guards for method in methods for guards in _branches_in(inspect.unwrap(method).__code__))


def _branches_in(code: CodeType) -> Iterator[tuple[str, ...]]:
    if "training" in code.co_names:
        steps = [step for step in dis.get_instructions(code) if step.opname not in _IDLE]
        for i, step in enumerate(steps):
            if step.opname == "LOAD_ATTR" and step.argval == "training":
                after = [s for s in steps[i + 1 : i + 4] if s.opname != "UNARY_NOT"]
                if after and _jumps(after[0]) and not _chooses_float(steps, *after[:2]):
                    yield _guards(steps[:i], after[0])
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _branches_in(constant)


def _guards(before: list[dis.Instruction], jump: dis.Instruction) -> tuple[str, ...]:
    """Return the attribute of `self.name and self.training`, whose test jumps to the same target."""
    if len(before) > 2 and _jumps(before[-2]) and before[-2].argval == jump.argval:
        tested = before[-3]
        return (tested.argval,) if tested.opname == "LOAD_ATTR" and "FALSE" in before[-2].opname else ()
    return ()


def _chooses_float(steps: list[dis.Instruction], jump: dis.Instruction, after: dis.Instruction) -> bool:
    """Return whether a constant on either side of a branch is a float, which is never a size."""
    sides = [after, *(step for step in steps if step.offset == jump.argval)]
    return any(side.opname == "LOAD_CONST" and isinstance(side.argval, float) for side in sides)


def _jumps(step: dis.Instruction) -> bool:
    return "JUMP" in step.opname and "IF" in step.opname


__all__ = ["branches", "keeps_tensors", "leaves_out"]
