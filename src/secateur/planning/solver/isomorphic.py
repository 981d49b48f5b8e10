"""Scope "isomorphic": units compete only with those of axes that play the same part, and every class keeps one share.

Scores of unlike parts of a network (the channels of a residual stream, those between two convolutions, heads, the
hidden units of an MLP) are on unlike scales, so a ranking across them empties whichever scale is the lower. Here they
are ranked class by class instead. Two groups of tied axes are of one class where their axes have the same signatures,
which say what kind of units these are, whether they are chosen anew for every outer unit, and in which places they
occur: as what (output, input, scale, shift, statistic) in which dimension of a tensor of which own name and rank, and
whether in one such place or in several. How many there are beyond one, how wide they are and at which depth they lie
makes no difference: a residual stream that four blocks write to is of the class of one that nine do. Groups that go
together by a rule are of one class with those that go together with the same parts.

Source: Fang et al., "Isomorphic Pruning for Vision Models", ECCV 2024; there a class is an isomorphic sub-graph of
layers, counts of layers included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from secateur.cost.size_polynomials import Slopes
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.planning.solver.bundles import Bundle
from secateur.planning.solver.rungs import Chosen, Rungs

SEVERAL = 2


def classes(graph: Graph, bundles: Sequence[Bundle]) -> Chosen:
    """The number of the class of each bundle."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(_of_bundle(graph, bundle), len(known)) for bundle in bundles], dtype=np.intp)


def keys(rungs: Rungs, bundles: Sequence[Bundle], classes: Chosen, start: Chosen) -> Slopes:
    """For each descent below the start, the share of its class that has gone when it is made; lowest scores go first.

    Shares are of all units that are free to go. Descents above the start, which are made already, have no say.
    """
    found = np.zeros(len(rungs.loss))
    prices, units = (np.concatenate(parts) for parts in zip(*map(_descents, bundles), strict=True))
    gone = np.array([_gone(bundle, int(rung)) for bundle, rung in zip(bundles, start, strict=True)], dtype=np.float64)
    total = np.array([_total(bundle) for bundle in bundles], dtype=np.float64)
    ahead = np.arange(len(found)) >= (rungs.first + start)[rungs.owner]
    for number in range(int(classes.max(initial=-1)) + 1):
        mine = classes == number
        here = np.flatnonzero(ahead & mine[rungs.owner])
        here = here[np.argsort(prices[here], kind="stable")]
        if len(here):
            found[here] = (gone[mine].sum() + np.cumsum(units[here])) / total[mine].sum()
    return found


def signature(graph: Graph, axis: PrunableAxis) -> Hashable:
    """The part that an axis plays, whatever its width and depth."""
    places = Counter(
        (use.role, use.name.rpartition(".")[2], len(graph.sites[use.name].dims), use.dim) for use in axis.sites
    )
    return axis.kind, axis.outer is not None, frozenset((place, min(n, SEVERAL)) for place, n in places.items())


def _of_bundle(graph: Graph, bundle: Bundle) -> Hashable:
    return frozenset(signature(graph, axis) for g in bundle.groups for axis in graph.groups[g].axes)


def _descents(bundle: Bundle) -> tuple[Slopes, Slopes]:
    """Prices of the descents of a bundle, and the units that go with each."""
    falls = -np.diff(np.array(bundle.levels, dtype=np.float64), axis=0)
    return np.array(bundle.price, dtype=np.float64), falls @ np.array(bundle.worth, dtype=np.float64)


def _gone(bundle: Bundle, rung: int) -> int:
    """Units that a rung is short of, where there is a choice."""
    short = zip(bundle.steps, bundle.levels[rung], bundle.worth, strict=True)
    return sum((steps - level) * worth for steps, level, worth in short) if bundle.price else 0


def _total(bundle: Bundle) -> int:
    return sum(steps * worth for steps, worth in zip(bundle.steps, bundle.worth, strict=True)) if bundle.price else 0


__all__ = ["classes", "keys", "signature"]
