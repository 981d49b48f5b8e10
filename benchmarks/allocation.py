"""Compare the plans of the solver with the optimum, and measure its time.

    python benchmarks/allocation.py                       both parts below
    python benchmarks/allocation.py --part optimum        the sum of the kept scores, compared with the optimum of
                                                          a mixed integer linear program, by HiGHS
    python benchmarks/allocation.py --part time           planning densenet201 with two budgets, without scoring

Only cases that HiGHS solves to its gap within the time limit count; the others are listed. Figures are written to
`benchmarks/results/allocation.json`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn

import incumbent
import milp
import record
import secateur
from secateur.graph.graph import Graph
from secateur.importance import score
from secateur.models.cifar_resnet import ResNet
from secateur.planning.solver.allocate import Allocation, Limits
from secateur.planning.solver.bundles import bundled
from secateur.planning.solver.ladders import ladders
from secateur.planning.solver.step_weights import worth
from secateur.planning.targets import parse_targets

BAR, SECONDS, GAP = 0.99, 30.0, 1e-4  # share of the optimum; time limit of HiGHS per case; relative gap of HiGHS

Scoring = Callable[[Graph], "dict[str, torch.Tensor]"]


@dataclass(frozen=True)
class Net:
    """A network for 32 x 32 images. align: its widths are multiples of this, which keeps the program small."""

    build: Callable[[], nn.Module]
    align: int = 1


def chain(*widths: int) -> nn.Module:
    """Return a sequence of 3 x 3 convolutions; every second one is followed by pooling that halves the image."""
    layers: list[nn.Module] = []
    for i, (wide, width) in enumerate(itertools.pairwise((3, *widths))):
        layers += [nn.Conv2d(wide, width, 3, padding=1), nn.ReLU(), *([nn.MaxPool2d(2)] if i % 2 else [])]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def mobile() -> nn.Module:
    """Return a network of inverted residuals with depthwise convolutions."""
    setting = [[1, 8, 1, 1], [4, 16, 2, 2], [4, 24, 2, 2]]
    return torchvision.models.MobileNetV2(num_classes=10, inverted_residual_setting=setting, round_nearest=4)


def dense() -> nn.Module:
    """Return a network of two dense blocks of three layers."""
    return torchvision.models.DenseNet(8, (3, 3), num_init_features=16, num_classes=10)


NETS: Mapping[str, Net] = {
    "chain of 3": Net(lambda: chain(16, 24, 32)),
    "chain of 5": Net(lambda: chain(32, 32, 32, 32, 32)),
    "chain of 8": Net(lambda: chain(24, 48, 24, 48, 24, 48, 24, 48), align=2),
    "chain of 10": Net(lambda: chain(*[16] * 10), align=2),
    "resnet8": Net(lambda: ResNet(1)),
    "mobile": Net(mobile, align=4),
    "dense": Net(dense, align=2),
}

TARGETS = ("macs=0.5", "params=0.3", "macs=0.5,params=0.4", "macs=0.3,params=0.3", "macs=0.1")


def lognormal(spread: float) -> Scoring:
    """Return a function that draws random scores; `spread` is the standard deviation of their logarithm."""

    def scores(graph: Graph) -> dict[str, torch.Tensor]:
        chance = np.random.default_rng(0)
        return {axis.name: torch.tensor(chance.lognormal(0, spread, axis.size)) for axis in graph.axes}

    return scores


SCORES: Mapping[str, Scoring] = {"l2": score, "lognormal 0.3": lognormal(0.3), "lognormal 1": lognormal(1.0)}


@dataclass(frozen=True)
class Case:
    """Sums of kept scores: ours and the optimum (None if HiGHS did not prove one)."""

    net: str
    scores: str
    target: str
    ours: float
    ours_seconds: float
    best: float | None
    best_seconds: float

    @property
    def share(self) -> float | None:
        return None if self.best is None else self.ours / self.best


def solved(name: str, scoring: str, target: str, seconds: float = SECONDS) -> Case:
    """Solve one case with secateur and with HiGHS."""
    net = NETS[name]
    torch.manual_seed(0)
    graph = secateur.trace(net.build().eval(), torch.zeros(1, 3, 32, 32))
    scores = SCORES[scoring](graph)
    select = secateur.Select(align=net.align)
    start = time.perf_counter()
    plan = secateur.plan(graph, target, importance=scores, select=select)
    ours = time.perf_counter() - start
    kept = sum(float(scores[name][list(axis.kept)].sum()) for name, axis in plan.axes.items())  # type: ignore[arg-type]
    start = time.perf_counter()
    best = optimum(graph, scores, select, target, seconds)
    return Case(name, scoring, target, kept, ours, best, time.perf_counter() - start)


def optimum(
    graph: Graph, scores: Mapping[str, torch.Tensor], select: secateur.Select, target: str, seconds: float
) -> float | None:
    """Return the greatest sum of kept scores that meets the targets, by HiGHS, or None if it ran out of time."""
    wishes = select.on(graph)
    rungs = ladders(graph, scores, wishes, "global")
    bundles = bundled(graph, rungs, wishes, worth(graph, relative=False))
    allocation = Allocation(graph, bundles, Limits.of(graph, parse_targets(target)))
    program = milp.Program(graph, bundles)
    parameters = [(1, site.dims) for site in graph.sites.values() if site.kind == "parameter"]
    products = {"params": parameters, "macs": [(macs.coefficient, macs.terms) for macs in graph.macs]}
    for kind, limit in allocation.limits.costs.items():
        program.budget(products[kind], limit)
    found = program.solve([np.append(0.0, np.cumsum(bundle.loss)) for bundle in bundles], seconds, GAP)
    if found is None or not found.proven:
        return None
    assert allocation.budgets.fit(found.chosen), "the program meets the exact costs"
    return sum(float(s.sum()) for s in scores.values()) - float(allocation.rungs.loss_of(found.chosen))


def against_optimum(seconds: float) -> None:
    """Solve every net with every scoring and target."""
    cases = [solved(*case, seconds) for case in itertools.product(NETS, SCORES, TARGETS)]
    rows = [_row(name, [case for case in cases if case.net == name]) for name in NETS]
    print(record.table(["net", "cases", "solved", "worst", "mean", "ours, ms", "HiGHS, s"], rows))
    below = [case for case in cases if case.share is not None and case.share < BAR]
    for case in below:
        print(f"below {BAR:.0%}: {case.net}, {case.scores}, {case.target}: {case.share:.2%}")
    shares = [case.share for case in cases if case.share is not None]
    figures = {
        "cases": [asdict(case) | {"share": case.share} for case in cases],
        "solved": len(shares),
        "worst": min(shares),
        "mean": mean(shares),
        "below_bar": len(below),
        "gap_of_highs": GAP,
        "limit_seconds": seconds,
    }
    print(f"{len(shares)} of {len(cases)} solved: worst {min(shares):.2%}, mean {mean(shares):.2%}")
    print(record.write("allocation", "optimum", figures))


def _row(name: str, cases: Sequence[Case]) -> list[str]:
    shares = [case.share for case in cases if case.share is not None]
    ends = [f"{min(shares):.2%}", f"{mean(shares):.2%}"] if shares else ["-", "-"]
    ours, best = (median(getattr(case, key) for case in cases) for key in ("ours_seconds", "best_seconds"))
    return [name, str(len(cases)), str(len(shares)), *ends, f"{ours * 1e3:.0f}", f"{best:.1f}"]


def planning(name: str = "densenet201", target: Sequence[str] = ("macs=0.5", "params=0.4"), repeats: int = 5) -> None:
    """Measure `plan` with two budgets, given the graph and scores; the first call also prepares the costs."""
    model, x = incumbent.build(name)
    graph = secateur.trace(model, (x,))
    scores, seconds = score(graph), []
    for _ in range(repeats):
        start = time.perf_counter()
        secateur.plan(graph, list(target), importance=scores)
        seconds.append(time.perf_counter() - start)
    figures: dict[str, Any] = {"model": name, "target": list(target), "axes": len(graph.axes), "seconds": seconds}
    rows = [[name, str(len(graph.axes)), f"{seconds[0]:.2f}", f"{median(seconds):.2f}"]]
    print(record.table([f"plan, {', '.join(target)}", "axes", "first call, s", "median, s"], rows))
    print(record.write("allocation", "time", figures))


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("optimum", "time"), help="default: both")
    parser.add_argument("--limit", type=float, default=SECONDS, help="time limit of HiGHS per case, in seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.part != "optimum":
        planning()
    if args.part != "time":
        against_optimum(args.limit)


if __name__ == "__main__":
    main()
