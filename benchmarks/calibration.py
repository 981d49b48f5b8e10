"""Measure the time of calibration relative to a plain forward pass of the same images, on one thread.

    python benchmarks/calibration.py                        every need on every model, in alternation
    python benchmarks/calibration.py --models resnet20      some models; printed, not written

A turn runs the same batches once under `torch.no_grad()` and once for each need. The figure is the median over turns of
the ratio to the plain pass of that turn. The limit is 2x for "moments", which need no gradients. Gates need gradients,
and one and a half more runs of the first batch, to find the dimension of the examples. The result is
`benchmarks/results/calibration.json`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import record
import secateur
from secateur.models.cifar_resnet import ResNet
from secateur.statistics.calibration import calibrate

NEEDS = ("moments", "gram", "gates")
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "resnet18": (torchvision.models.resnet18, (4, 3, 224, 224), 1),
    "resnet20": (lambda: ResNet(3), (128, 3, 32, 32), 1),
    "vit_b_16": (torchvision.models.vit_b_16, (1, 3, 224, 224), 1),
}
"""By name: how to build it, the shape of a batch, and how many batches."""


def seconds(run: Callable[[], Any]) -> float:
    """Return the seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(name: str, turns: int) -> dict[str, Any]:
    """Return the time of the plain pass and the ratios to it."""
    build, shape, count = MODELS[name]
    torch.manual_seed(0)
    model = build().eval()
    data = [(torch.randn(shape), torch.randint(0, 10, shape[:1])) for _ in range(count)]
    graph = secateur.trace(model, torch.zeros(1, *shape[1:]))

    def plain() -> None:
        with torch.no_grad():
            for x, _ in data:
                model(x)

    def run(need: str) -> Callable[[], Any]:
        return lambda: calibrate(graph, data, needs={need}, loss=F.cross_entropy)

    runs = {"plain": plain} | {need: run(need) for need in NEEDS}
    for warm in runs.values():
        warm()
    times = [{what: seconds(each) for what, each in runs.items()} for _ in range(turns)]
    ratios = {need: median(turn[need] / turn["plain"] for turn in times) for need in NEEDS}
    return {
        "batch": list(shape),
        "batches": count,
        "plain_s": median(turn["plain"] for turn in times),
        "ratios": ratios,
    }


def main(models: Sequence[str], turns: int) -> None:
    """Print the table, and write it if it has all models."""
    torch.set_num_threads(1)
    figures = {name: measure(name, turns) for name in models}
    rows = [[n, f"{f['plain_s']:.2f}", *(f"{f['ratios'][need]:.2f}x" for need in NEEDS)] for n, f in figures.items()]
    print(record.table(["model", "plain pass, s", *NEEDS], rows))
    if list(models) == list(MODELS):
        print(record.write("calibration", "overhead", {"turns": turns, "models": figures}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated")
    parser.add_argument("--turns", type=int, default=5)
    args = parser.parse_args()
    main(args.models.split(","), args.turns)
