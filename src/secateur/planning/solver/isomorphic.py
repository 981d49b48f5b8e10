"""Scope "isomorphic": units compete only within a class of axes with the same role; every class keeps the same share.

Scores of different parts of a network (the channels of a residual stream, those between two convolutions, heads, the
hidden units of an MLP) are on different scales, so a ranking across them removes most of the part with the lower scale.
Here units are ranked within each class. Two groups of tied axes are of one class if their axes have the same
signatures. A signature holds the kind of the units, whether they are chosen separately for every outer unit, and the
places where they occur: the role (output, input, scale, shift, statistic), the dimension, the last name and rank of the
tensor, and whether there is one such place or several. The exact number of places, the width and the depth make no
difference: a residual stream that four blocks write to is in the class of one that nine blocks write to. Bundles of
groups are of one class if their groups have the same signatures.

Reference: Fang et al., "Isomorphic Pruning for Vision Models", ECCV 2024. There, a class is an isomorphic sub-graph of
layers, and the number of layers counts.
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
    """Return the number of the class of each bundle."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(_of_bundle(graph, bundle), len(known)) for bundle in bundles], dtype=np.intp)


def keys(rungs: Rungs, bundles: Sequence[Bundle], classes: Chosen, start: Chosen) -> Slopes:
    """Return for each descent below the start the share of its class that is removed with it, lowest scores first.

    Shares are of all units that can be removed. Descents above the start are already taken and keep the value 0.
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
    """Return the role of an axis, independent of its width and depth."""
    places = Counter(
        (use.role, use.name.rpartition(".")[2], len(graph.sites[use.name].dims), use.dim) for use in axis.sites
    )
    return axis.kind, axis.outer is not None, frozenset((place, min(n, SEVERAL)) for place, n in places.items())


def _of_bundle(graph: Graph, bundle: Bundle) -> Hashable:
    return frozenset(signature(graph, axis) for g in bundle.groups for axis in graph.groups[g].axes)


def _descents(bundle: Bundle) -> tuple[Slopes, Slopes]:
    """Return the prices of the descents of a bundle, and the units that each removes."""
    falls = -np.diff(np.array(bundle.levels, dtype=np.float64), axis=0)
    return np.array(bundle.price, dtype=np.float64), falls @ np.array(bundle.worth, dtype=np.float64)


def _gone(bundle: Bundle, rung: int) -> int:
    """Return the units that are removed at a rung; 0 for a bundle with one rung."""
    short = zip(bundle.steps, bundle.levels[rung], bundle.worth, strict=True)
    return sum((steps - level) * worth for steps, level, worth in short) if bundle.price else 0


def _total(bundle: Bundle) -> int:
    return sum(steps * worth for steps, worth in zip(bundle.steps, bundle.worth, strict=True)) if bundle.price else 0


__all__ = ["classes", "keys", "signature"]
