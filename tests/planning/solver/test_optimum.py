"""What the solver keeps, beside the optimum of a mixed integer linear program (`benchmarks/allocation.py`)."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import secateur

pytest.importorskip("scipy", reason="the yardstick needs scipy")
pytest.importorskip("torchvision", reason="the benchmark's networks are torchvision's")

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import allocation
from milp import Program
from secateur.importance import score
from secateur.planning.solver.allocate import Allocation, Limits
from secateur.planning.solver.bundles import bundled
from secateur.planning.solver.ladders import ladders
from secateur.planning.targets import parse_targets

SMALL = ("chain of 3", "resnet8")


@pytest.mark.parametrize("target", ["macs=0.5", "params=0.3", "macs=0.5,params=0.4"])
@pytest.mark.parametrize("scores", ["l2", "lognormal 1"])
@pytest.mark.parametrize("name", SMALL)
def test_the_value_is_within_a_percent_of_the_optimum(name: str, scores: str, target: str) -> None:
    case = allocation.solved(name, scores, target, seconds=20)
    if case.share is None:
        pytest.skip("HiGHS did not end in time")
    assert 0.99 < case.share < 1 + 1e-3


@pytest.mark.parametrize("target", ["macs=0.5", "macs=0.5,params=0.4"])
def test_the_yardstick_is_the_best_of_all_choices(target: str) -> None:
    """Three widths of four levels each, looked at one by one."""
    graph = secateur.trace(allocation.chain(8, 12, 8), torch.zeros(1, 3, 8, 8))
    select, scores = secateur.Select(align=4, floor=0.1), score(graph, "l2")
    rungs = ladders(graph, scores, select.on(graph), "global")
    bundles = bundled(graph, rungs, select.on(graph), [1] * len(graph.groups))
    found = Allocation(graph, bundles, Limits.of(graph, parse_targets(target)))
    choices = np.array(list(itertools.product(*(range(len(bundle.levels)) for bundle in bundles))))
    best = found.rungs.loss_of(choices[found.budgets.fit(choices)]).min()
    kept = allocation.optimum(graph, scores, select, target, seconds=20)
    assert kept == pytest.approx(sum(float(s.sum()) for s in scores.values()) - best)


def test_products_of_three_widths_are_refused() -> None:
    graph = secateur.trace(allocation.chain(8, 8, 8), torch.zeros(1, 3, 8, 8))
    bundles = bundled(
        graph,
        ladders(graph, score(graph, "l2"), secateur.Select().on(graph), "global"),
        secateur.Select().on(graph),
        [1] * 3,
    )
    with pytest.raises(NotImplementedError, match="a product over 3 bundles"):
        Program(graph, bundles).budget([(1, [axis.term for axis in graph.axes])], 100)
