"""Runs a model with its blocks bypassed, because some code inspects or counts what its modules return."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import nn

from secateur.anatomy.building import config_of
from secateur.anatomy.bypass import put_bypasses
from secateur.anatomy.counting import counters
from secateur.anatomy.keeping import kept, set_modes
from secateur.anatomy.slots import slots
from secateur.base import meta
from secateur.base.names import inside
from secateur.base.nested import tensors_in
from secateur.graph.blocks import units
from secateur.graph.graph import Graph
from secateur.graph.parts import Block
from secateur.plan.parts import Gives
from secateur.trace.blocks import CallWatch, RanCall, blocks_of
from secateur.trace.devices import RunDevice
from secateur.trace.interceptor import Interceptor
from secateur.trace.staging import StandIns, staged


class _Walk(Interceptor):
    """Runs every op unchanged, after moving stray tensors to the device of the run."""

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.silence():
            out = meta.shorted(func.__name__, args, kwargs) if func.__name__ in meta.STRICT else NotImplemented
            return func(*args, **kwargs) if out is NotImplemented else out

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.silence():
            return func(*args, **kwargs)

    def on_op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)


@dataclass(frozen=True, slots=True)
class BlockSearch:
    """Finds the blocks of a Graph on first access. Blocks without which the model does not run must stay."""

    graph: Graph
    watch: CallWatch
    roles: Mapping[tuple[str, int], str]

    def __call__(self) -> tuple[Block, ...]:
        """Return every block. Without a run, if the model has been pruned since it was traced."""
        blocks = blocks_of(self.graph.model, self.graph, self.watch, self.roles)
        shapes = {name: site.shape for name, site in self.graph.sites.items()}
        now = {slot.name: tuple(slot.tensor.shape) for slot in slots(self.graph.model) if slot.name in shapes}
        if any(now.get(name) != shape for name, shape in shapes.items()):
            return blocks
        if self.graph.run.source.uniform:
            blocks = _counted(self.graph.model, blocks)
        return _proved(self.graph.model, blocks, self.watch.ran, RunDevice(self.graph.run.source.run))


def _counted(model: nn.Module, blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Return the blocks of a uniform model. Only members of lists whose length is in the config can be removed."""
    found = counters(model, config_of(model), {_holder(block) for block in blocks if block.why is None})
    members = {block.name for block in blocks if _holder(block) in found.numbers}
    counts = {*units(members), *(block.name for block in blocks if block.counts and not _meets(block.name, members))}
    why = "no number in the config counts it, so from_pretrained would build it again"
    return tuple(
        replace(
            block,
            counts=block.name in counts,
            why=block.why or (None if block.name in members else found.why_not(_holder(block)) or why),
        )
        for block in blocks
    )


def _holder(block: Block) -> str:
    """Return the list that a block may be a member of."""
    return block.name.rpartition(".")[0]


def _meets(name: str, others: Collection[str]) -> bool:
    """Return whether a block is inside one of others, or contains one."""
    return inside(name, others) or any(inside(other, {name}) for other in others)


def _proved(model: nn.Module, blocks: Sequence[Block], ran: Sequence[RanCall], ground: RunDevice) -> tuple[Block, ...]:
    """Bypass all blocks of one nesting level together, which leaves little to run; if that fails, bisect to find which
    blocks must stay.
    """
    free = {block.name: block for block in blocks if block.why is None}
    levels: dict[int, list[Block]] = {}
    for block in free.values():
        level = sum(inside(block.name, {other}) for other in free)
        levels.setdefault(level, []).append(block)
    if not free:
        return tuple(blocks)
    faults: dict[str, str] = {}
    with staged(model, ground, StandIns()), ground.running(), torch.no_grad():
        for level in levels.values():
            faults |= _faults(model, level, ran, ground)
    return tuple(replace(block, why=faults[block.name]) if block.name in faults else block for block in blocks)


def _faults(model: nn.Module, blocks: Sequence[Block], ran: Sequence[RanCall], ground: RunDevice) -> dict[str, str]:
    error = _fault(model, {block.name: block.gives for block in blocks}, ran, ground)
    if error is None:
        return {}
    if len(blocks) == 1:
        return {blocks[0].name: error}
    half = len(blocks) // 2
    return {**_faults(model, blocks[:half], ran, ground), **_faults(model, blocks[half:], ran, ground)}


def _fault(model: nn.Module, removed: dict[str, Gives], ran: Sequence[RanCall], ground: RunDevice) -> str | None:
    """Return what fails without these blocks, or None."""
    with kept(model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modules = dict(model.named_modules())
        put_bypasses(modules, removed)
        for name in removed:
            modules[name].__dict__["forward"] = _refuse
        for one in ran:
            call = one.call.map(lambda t: ground.stand_in(t, shared=False))
            set_modes(model, call.training)
            try:
                with _Walk({}, ground.device).running():
                    outputs = len(tensors_in(call.run(model)))
            except Exception as error:  # noqa: BLE001 - the code of the model may raise anything
                text = str(error).strip().partition("\n")[0]
                return f"the model does not run without it: {type(error).__name__}: {text}"
            if outputs != one.outputs:
                return f"without it the model returns {outputs} tensors, not {one.outputs}"
    return None


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    raise RuntimeError("it is also called from elsewhere")
