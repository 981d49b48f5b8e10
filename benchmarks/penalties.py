"""Measure the overhead of penalties in a training step of a ResNet-20 at batch 128, on one thread.

    python benchmarks/penalties.py                 all; the limit is 5 % of a step
    python benchmarks/penalties.py --turns 3       faster, less exact; printed, not written

A step is a forward pass, a backward pass and a step of SGD with momentum. The hook of the optimizer only calls
`add_gradients_`; the median of its time is compared with the median of the steps. The result is
`benchmarks/results/penalties.json`, printed as JSON on the last line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F

import record
import secateur
from secateur.models.cifar_resnet import resnet20
from secateur.train.penalties import GroupLasso, GrowingL2, ScaleL1, total

REPEATS = 20


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Return the median of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def measure(turns: int, batch: int = 128) -> dict[str, Any]:
    """Return the milliseconds of a plain step and of each penalty, and the share of the step that it adds."""
    torch.manual_seed(0)
    net = resnet20().train()
    graph = secateur.trace(net, torch.zeros(1, 3, 32, 32))
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    step()
    lasso, scales = GroupLasso(graph, 1e-6), ScaleL1(graph, 1e-6)
    growing = GrowingL2(graph, secateur.plan(graph, "macs=0.5"), delta=1e-6)
    penalties = {"scale_l1": scales, "group_lasso": lasso, "growing_l2": growing, "all": total(scales, lasso, growing)}
    plain = seconds(step, turns)
    added = {name: seconds(penalty.add_gradients_, REPEATS) for name, penalty in penalties.items()}
    return {
        "batch": batch,
        "axes": len(graph.axes),
        "step_ms": 1e3 * plain,
        "added_ms": {name: 1e3 * s for name, s in added.items()},
        "added_share": {name: s / plain for name, s in added.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(options.turns)
    if options.turns == parser.get_default("turns"):
        record.write("penalties", "resnet20", figures)
    print(json.dumps({"command": record.command(), "machine": record.machine(), "figures": figures}))


if __name__ == "__main__":
    main()
