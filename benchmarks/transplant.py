"""Compare fine-tuning after a cut with a transplanted optimizer state and with a fresh optimizer.

    python benchmarks/transplant.py                                    the law, every curve and every loop
    python benchmarks/transplant.py --part curves --optimizers adam --seeds 0     some of them
    python benchmarks/transplant.py --part loops --optimizers "adam, 3e-3" --pace 20 2
    python benchmarks/transplant.py --quick                            a few steps of each; printed, not written

Curves: a trained ResNet-20 is trained further on CIFAR-10 (JPEG q75), so that the optimizer gathers state. It is then
cut to half its MACs, as in a single cut, or to 0.9 of them, as in one stage of many (Taylor scores, inner widths). From
this model and optimizer, both variants train on the same batches at the same constant rate: `carried` with the
transplanted state, `fresh` with the same class and options and no state. The loss is the mean over the last ten steps,
the accuracy is measured on a fixed set of 2,000 test images.

Loops: the same network and share of MACs, in many cuts with a few steps of training after each, and more steps at the
end. `fresh` makes a new optimizer after each cut, so its averages are never older than a few steps. Each variant plans
its cuts from its own weights.

Law: train, cut and train, compared with train, then train with masks, in float64, for every elementwise optimizer of
torch. The error is relative to the distance that training moved the weights since the cut. `fresh` is the same without
the state. The results are sections of `benchmarks/results/transplant.json`.
"""

from __future__ import annotations

import argparse
import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

import record
import secateur
from accuracy import cifar
from accuracy.finetune import BATCH, augmented
from secateur.apply.transplant import transplant
from secateur.testing import transplant_error

MAKERS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    "adam": partial(torch.optim.Adam, lr=1e-3),
    "sgd": partial(torch.optim.SGD, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4),
}
LOOPS: dict[str, Callable[[Iterable[nn.Parameter]], Optimizer]] = {
    **MAKERS,
    "adam, 3e-3": partial(torch.optim.Adam, lr=3e-3),
    "sgd, 0.99": partial(torch.optim.SGD, lr=0.002, momentum=0.99, weight_decay=5e-4),
}
"""Adds a rate that needs a warm-up, and a momentum that takes a hundred steps to gather."""

WHOLE = {"Adafactor", "Muon", "LBFGS", "SparseAdam"}
"""The law does not hold for these: they step on whole parameters, on all of them together, or need sparse gradients."""

NAME, SHARE, IMPORTANCE, EVERY = "resnet20", 0.5, "taylor", 10
SHOWN = (10, 20, 50, 100)
CALIBRATED, TAIL = 2, 30
"""Batches of 128 for the scores of each cut in a loop, and steps between accuracies after the last cut."""


class Batches:
    """Augmented training images, the same in every run of a seed: batch `i` is drawn from (seed, i)."""

    def __init__(self, seed: int):
        self._train, self._seed = cifar.splits()[0], seed

    def __call__(self, number: int) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(self._seed * 100_003 + number)
        where = torch.randint(len(self._train.labels), (BATCH,), generator=rng)
        return augmented(self._train.pixels[where], rng), self._train.labels[where]


def train(model: nn.Module, optimizer: Optimizer, batches: Batches, numbers: Iterable[int]) -> list[float]:
    """Train on the batches with these numbers; return the loss of each, before its step."""
    model.train()
    losses = []
    for number in numbers:
        x, y = batches(number)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def curve(model: nn.Module, optimizer: Optimizer, batches: Batches, first: int, steps: int, test: Any) -> list[Any]:
    """Return [step, mean loss of the last ten, accuracy] every ten steps, first the accuracy before training."""
    points: list[Any] = [[0, None, cifar.accuracy(model, test)]]
    for done in range(0, steps, EVERY):
        losses = train(model, optimizer, batches, range(first + done, first + done + EVERY))
        points.append([done + EVERY, round(mean(losses), 5), cifar.accuracy(model, test)])
    return points


def curves(name: str, seed: int, shares: Sequence[float], warm: int, steps: int, images: int) -> list[dict[str, Any]]:
    """Measure both variants from one model and optimizer, for each remaining share of the MACs."""
    task, batches = cifar.task(NAME, seed), Batches(seed)
    test = cifar.splits()[1]
    test = test[cifar.stratified(test.labels, images, cifar.SUBSET_SEED)]
    model = copy.deepcopy(task.model)
    optimizer = MAKERS[name](model.parameters())
    losses = train(model, optimizer, batches, range(warm))
    warmed = {"loss_before_cut": round(mean(losses[-EVERY:]), 5), "top1_before_cut": cifar.accuracy(model, test)}
    found = []
    for share in shares:
        whole, carried = copy.deepcopy((model, optimizer))
        result = pruned(whole, task, share)
        fresh = copy.deepcopy(result.model)
        transplant(carried, whole, result.model)
        row = {"optimizer": name, "seed": seed, "share": share, "warm_steps": warm, "test_images": images, **warmed}
        row["params"] = [result.plan.before.params, result.plan.after.params]
        row["macs"] = [result.plan.before.macs, result.plan.after.macs]
        row["carried"] = curve(result.model, carried, batches, warm, steps, test)
        row["fresh"] = curve(fresh, MAKERS[name](fresh.parameters()), batches, warm, steps, test)
        found.append(row)
    return found


def pruned(model: nn.Module, task: Any, share: float) -> secateur.Pruned:
    """Prune the inner widths, by Taylor scores on calibration images."""
    return secateur.prune(
        model.eval(),
        task.example,
        f"macs={share}",
        importance=IMPORTANCE,
        select=list(task.inner),
        data=task.batches,
        loss=task.loss,
    )


def loops(name: str, seed: int, pace: tuple[int, int], warm: int, tail: int, images: int) -> dict[str, Any]:
    """Run the loop of each variant. pace: the number of cuts, and the steps of training after each."""
    task, batches = cifar.task(NAME, seed), Batches(seed)
    test = cifar.splits()[1]
    test = test[cifar.stratified(test.labels, images, cifar.SUBSET_SEED)]
    model = copy.deepcopy(task.model)
    optimizer = LOOPS[name](model.parameters())
    train(model, optimizer, batches, range(warm))
    row = {"optimizer": name, "seed": seed, "share": SHARE, "cuts": pace[0], "every": pace[1], "warm_steps": warm}
    row |= {"test_images": images, "top1_before_cuts": cifar.accuracy(model, test)}
    for way in ("carried", "fresh"):
        row[way] = looped(way, name, *copy.deepcopy((model, optimizer)), task, batches, pace, warm, tail, test)
    return row


def looped(
    way: str,
    name: str,
    model: nn.Module,
    optimizer: Optimizer,
    task: Any,
    batches: Batches,
    pace: tuple[int, int],
    first: int,
    tail: int,
    test: Any,
) -> dict[str, Any]:
    """Run one loop; return the mean loss after each cut, and [step, loss, accuracy] from the last cut on."""
    cuts, every = pace
    data, kind = task.batches[:CALIBRATED], {"importance": IMPORTANCE, "loss": task.loss}
    carry = [optimizer] if way == "carried" else []
    losses: list[float] = []
    iteration = secateur.iterate(
        model, task.example, f"macs={SHARE}", steps=cuts, select=list(task.inner), data=data, carry=carry, **kind
    )
    for stage in iteration:
        if way == "fresh":
            optimizer = LOOPS[name](stage.model.parameters())
        losses += train(stage.model, optimizer, batches, range(first + len(losses), first + len(losses) + every))
    means = [round(mean(losses[i : i + every]), 5) for i in range(0, len(losses), every)]
    small = iteration.model
    points: list[Any] = [[0, means[-1], cifar.accuracy(small, test)]]
    for done in range(0, tail, TAIL):
        at = first + len(losses) + done
        after = train(small, optimizer, batches, range(at, at + TAIL))
        points.append([done + TAIL, round(mean(after[-EVERY:]), 5), cifar.accuracy(small, test)])
    assert iteration.plan is not None
    return {"macs": iteration.plan.after.macs, "losses": means, "tail": points}


def told(rows: Sequence[dict[str, Any]]) -> str:
    """Return means over seeds of the loss between cuts and of the accuracies after them, with the gain of each seed."""
    lines = []
    for key in dict.fromkeys((row["optimizer"], row["cuts"], row["every"]) for row in rows):
        of = [row for row in rows if (row["optimizer"], row["cuts"], row["every"]) == key]
        losses = {way: [mean(row[way]["losses"]) for row in of] for way in ("carried", "fresh")}
        tops = {way: [[point[2] for point in row[way]["tail"]] for row in of] for way in losses}
        less = ", ".join(f"{f - c:+.3f}" for c, f in zip(losses["carried"], losses["fresh"], strict=True))
        more = ", ".join(f"{c[0] - f[0]:+.1%}" for c, f in zip(tops["carried"], tops["fresh"], strict=True))
        for way, gains in (("carried", [less, more]), ("fresh", ["", ""])):
            cells = [f"{mean(losses[way]):.4f}", *(f"{mean(tops_at):.2%}" for tops_at in zip(*tops[way], strict=True))]
            lines.append([f"{key[0]}: {key[1]} cuts, {key[2]} steps, {way}", str(len(of)), *cells, *gains])
    steps = [f"top-1 at +{point[0]}" for point in rows[0]["fresh"]["tail"]]
    return record.table(["", "seeds", "loss between cuts", *steps, "loss lower by", "top-1 higher by, at +0"], lines)


def shown(runs: Sequence[dict[str, Any]]) -> str:
    """Return means over seeds at some steps."""
    rows = []
    for name, share in dict.fromkeys((run["optimizer"], run["share"]) for run in runs):
        of = [run for run in runs if (run["optimizer"], run["share"]) == (name, share)]
        for way in ("carried", "fresh"):
            points = [{step: rest for step, *rest in run[way]} for run in of]
            steps = [step for step in SHOWN if step in points[0]]
            cells = [f"{mean(p[s][0] for p in points):.4f} / {mean(p[s][1] for p in points):.2%}" for s in steps]
            rows.append([f"{name}, macs={share}, {way}", str(len(of)), *cells])
    return record.table(["", "seeds", *(f"step {s}: loss / top-1" for s in SHOWN[: len(rows[0]) - 2])], rows)


def optimizers() -> dict[str, Any]:
    """Return every class of torch.optim for which the law holds, and options that keep further state."""
    found = {name: kind for name, kind in vars(torch.optim).items() if inspect.isclass(kind)}
    classes = {n: k for n, k in found.items() if issubclass(k, Optimizer) and k is not Optimizer and n not in WHOLE}
    return {
        **{name: partial(kind, lr=1e-3) for name, kind in classes.items()},
        "SGD, momentum": partial(torch.optim.SGD, lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4),
        "Adam, amsgrad": partial(torch.optim.Adam, lr=1e-3, amsgrad=True),
        "RMSprop, centred": partial(torch.optim.RMSprop, lr=1e-3, momentum=0.9, centered=True),
    }


def law(steps: int, images: int) -> list[dict[str, Any]]:
    """Return the error of each optimizer, carried and fresh."""
    split = cifar.splits()[0]
    chosen = split[cifar.stratified(split.labels, images, 0)]
    x, y, model = chosen.images().double(), chosen.labels, cifar.trained(NAME)
    task = cifar.task(NAME, 0)
    graph = secateur.trace(model, task.example)
    plan = secateur.plan(graph, f"macs={SHARE}", select=list(task.inner))

    def error(make: Any, **options: Any) -> float:
        return transplant_error(
            model, plan, make, lambda net: F.cross_entropy(net(x), y), before=steps, after=steps, **options
        )

    def forgetting(optimizer: Optimizer, whole: nn.Module, small: nn.Module) -> None:
        transplant(optimizer, whole, small).state.clear()

    return [
        {"optimizer": name, "steps": steps, "error": error(make), "fresh": error(make, follow=forgetting)}
        for name, make in optimizers().items()
    ]


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("law", "curves", "loops"), help="default: all")
    parser.add_argument("--optimizers", nargs="+", choices=tuple(LOOPS), default=list(LOOPS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5, 0.9], help="remaining shares of the MACs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--warm", type=int, default=100, help="steps before the cut")
    parser.add_argument("--steps", type=int, default=120, help="steps after the cut")
    parser.add_argument("--pace", nargs=2, type=int, default=[10, 5], help="cuts of a loop, and steps after each")
    parser.add_argument("--tail", type=int, default=60, help="steps after the last cut of a loop")
    parser.add_argument("--quick", action="store_true", help="a few steps of one seed; printed, not written")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.quick:
        args.seeds, args.warm, args.steps, args.pace, args.tail = args.seeds[:1], 10, 20, [2, 2], TAIL
    args.images = 200 if args.quick else cifar.SUBSET
    for name, run in {"law": run_law, "curves": run_curves, "loops": run_loops}.items():
        if args.part in (None, name):
            run(args)


def run_law(args: argparse.Namespace) -> None:
    """Print and write the errors."""
    figures = law(steps=1 if args.quick else 3, images=10 if args.quick else 50)
    rows = [[row["optimizer"], f"{row['error']:.1e}", f"{row['fresh']:.1e}"] for row in figures]
    print(record.table(["relative error after the cut", "carried", "fresh"], rows), flush=True)
    if not args.quick:
        print(record.write("transplant", "law", figures))


def run_curves(args: argparse.Namespace) -> None:
    """Print and write the curves."""
    runs = []
    for name in (name for name in args.optimizers if name in MAKERS):
        for seed in args.seeds:
            rows = curves(name, seed, args.shares, args.warm, args.steps, args.images)
            runs += rows
            print(shown(runs), flush=True)
            for row in rows if not args.quick else ():
                print(record.write("transplant", f"{name}, macs={row['share']}, seed {seed}", row), flush=True)


def run_loops(args: argparse.Namespace) -> None:
    """Print and write the loops."""
    rows = []
    for name in args.optimizers:
        for seed in args.seeds:
            rows.append(loops(name, seed, tuple(args.pace), args.warm, args.tail, args.images))
            print(told(rows), flush=True)
            if not args.quick:
                section = f"loop: {name}, {args.pace[0]} cuts, {args.pace[1]} steps each, seed {seed}"
                print(record.write("transplant", section, rows[-1]), flush=True)


if __name__ == "__main__":
    main()
