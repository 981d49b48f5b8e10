"""The sections of a Graph: fields that are read together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from secateur.base.names import inside
from secateur.graph.algebra import Ratio
from secateur.graph.parts import At, Fold, Frozen, PrunableAxis, Reading, Sample, TracedStep, TraceSource
from secateur.graph.sizes import Attribute, SizeGuard
from secateur.plan.parts import Cache, Gives, Renorm, Totals


@dataclass(frozen=True)
class Sizes:
    """The integers of the model's code that depend on sizes, such as `num_heads`, and the conditions on them.

    Attributes:
        attributes: what the attributes are in terms of the axes.
        values: the values of integer attributes in the model that was traced.
        unread: attributes whose meaning no call reveals.
        guards: conditions on sizes that a cut must keep.
    """

    attributes: Mapping[Attribute, Ratio] = field(default_factory=dict)
    values: Mapping[Attribute, int] = field(default_factory=dict)
    unread: tuple[Attribute, ...] = ()
    guards: tuple[SizeGuard, ...] = ()

    def outside(self, blocks: Collection[str]) -> Sizes:
        """Return the sizes of a model with these blocks bypassed."""
        kept = {one: ratio for one, ratio in self.attributes.items() if not inside(one.module, blocks)}
        return replace(self, attributes=kept)


@dataclass(frozen=True)
class Effects:
    """What a cut changes besides slicing tensors.

    Attributes:
        caches: values that `forward` stores, to be emptied.
        folds: weights that absorb the scaling of attention, which depends on the head size.
        renorms: statistics over a dimension that are rescaled when it becomes shorter.
    """

    caches: tuple[Cache, ...] = ()
    folds: tuple[Fold, ...] = ()
    renorms: tuple[Renorm, ...] = ()

    def outside(self, blocks: Collection[str]) -> Effects:
        """Return the effects in a model with these blocks bypassed."""
        return replace(
            self,
            caches=tuple(cache for cache in self.caches if not inside(cache.module, blocks)),
            folds=tuple(fold for fold in self.folds if not inside(fold.name, blocks)),
        )


@dataclass(frozen=True)
class Diagnosis:
    """What cannot be pruned, and why.

    Attributes:
        frozen: dimensions that are not prunable, each with the reason.
        unreached: parameters that no call reads.
        unknown: ops without a rule, with the number of their calls.
        samples: the shapes that each op without a rule was called with.
        untrained: why training mode, which differs from evaluation mode, could not be recorded; None where it was.
    """

    frozen: tuple[Frozen, ...] = ()
    unreached: tuple[str, ...] = ()
    unknown: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, Sample] = field(default_factory=dict)
    untrained: str | None = None

    def outside(self, blocks: Collection[str]) -> Diagnosis:
        """Return the diagnosis of a model with these blocks bypassed."""
        return replace(
            self,
            frozen=tuple(frozen for frozen in self.frozen if not inside(frozen.name, blocks)),
            unreached=tuple(name for name in self.unreached if not inside(name, blocks)),
        )


@dataclass(frozen=True)
class RunRecord:
    """The traced run of the model.

    Attributes:
        source: the arguments of the trace.
        path: the ops of the first call, with the floats in their arguments.
        readings: what single calls of ops read of their operands, by call.
        numbered: the number of calls that the code of each module made.
    """

    source: TraceSource = field(default_factory=TraceSource)
    path: tuple[TracedStep, ...] = ()
    readings: Mapping[At, Reading] = field(default_factory=dict)
    numbered: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Reduced:
    """The blocks that a Graph leaves out.

    Attributes:
        removed: these blocks, with what each returns of its arguments when bypassed.
        ghosts: axes that are only in these blocks.
        whole: the size of the model with these blocks; None if there are none.
    """

    removed: Mapping[str, Gives] = field(default_factory=dict)
    ghosts: tuple[PrunableAxis, ...] = ()
    whole: Totals | None = None
