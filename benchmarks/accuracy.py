"""Measure accuracy after a cut by secateur and by Torch-Pruning 1.6.1, on real data, with the same calibration data.

    python benchmarks/accuracy.py cifar --seeds 0,1,2                ResNet-20 at 2x and 3x, 2,000 test images
    python benchmarks/accuracy.py cifar --model resnet56 --full      all 10,000 test images
    python benchmarks/accuracy.py lite0                              EfficientNet-Lite0 at 1.3x
    python benchmarks/accuracy.py minilm                             MiniLM without 40 % of heads and FFN units
    python benchmarks/accuracy.py finetune --seeds 0,1,2             200 steps of training at 2x, 3x, 5x, and Scratch
    python benchmarks/accuracy.py cifar --table                      the best rows of each side, from the file

`--side ours|theirs`, `--names` (of criteria; of settings, such as "obs + lsq", for fine-tuning), `--scopes`,
`--widths`, `--recoveries` and `--times` restrict the grid, `--quick` runs a few rows of it, and `--resume` skips rows
that the file has. Rows are written to `results/accuracy_<task>.json` one by one. The data are read from the folder
`SECATEUR_DATA`.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator
from importlib import import_module

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from accuracy import grid, results
from accuracy.results import Row
from accuracy.summary import best

SHARES = {"cifar": (1 / 2, 1 / 3), "lite0": (1 / 1.3,), "minilm": (0.6,), "finetune": (1 / 2, 1 / 3, 1 / 5)}
SIDES = {"ours": grid.of_ours, "theirs": grid.of_theirs}
QUICK = ({"ours": "l2", "theirs": "l2,taylor"}, {"ours": "l2 + lsq", "theirs": "l2 local"})


def rows(args: argparse.Namespace, seed: int) -> Iterator[Row]:
    """Yield the rows of one seed that the options ask for."""
    done = {results.key(row) for row in results.read(results.path_of(args.task))} if args.resume else set()
    shares = [1 / float(times) for times in args.times.split(",")] if args.times else SHARES[args.task]
    module = import_module(f"accuracy.{args.task}")
    for side in SIDES if args.side == "both" else (args.side,):
        names = args.names or (QUICK[args.task == "finetune"][side] if args.quick else "")
        scopes, widths, recoveries = map(_listed, (args.scopes, args.widths, args.recoveries))
        sought = grid.Sought(shares, _listed(names), scopes, widths, recoveries, lambda row: results.key(row) in done)
        if args.task == "finetune":
            yield from module.rows(side, sought, args.model, seed, full=args.full, quick=args.quick)
            continue
        which = args.held if args.task == "lite0" else args.model
        task, images = module.task(which, seed, full=args.full), "all" if args.full else "subset"
        if seed == int(args.seeds.partition(",")[0]):  # the dense model does not depend on the seed
            yield grid.dense(task, images)
        yield from SIDES[side](task, sought, images)


def _listed(text: str) -> list[str]:
    return text.split(",") if text else []


def described(row: Row) -> str:
    """Return a row as one line of progress."""
    left = f"{row['macs']:.1%} MACs" if "macs" in row else ""
    numbers = " ".join(f"{name} {row[name]:.4f}" for name in ("top1", "agreement", "cosine", "probe") if name in row)
    parts = [row["task"], row["side"], row["name"], row.get("scope", ""), row.get("widths", ""), f"{row['share']:.3f}"]
    return " ".join(filter(None, [*parts, f"seed {row['seed']}", row["recovery"], left, numbers, row.get("error", "")]))


def main() -> None:
    """Measure, or with `--table` show the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=list(SHARES))
    parser.add_argument("--model", default="resnet20", choices=["resnet20", "resnet56"], help="for cifar and finetune")
    parser.add_argument("--held", default="objects", choices=["objects", "thirds"], help="photos held out, for lite0")
    parser.add_argument("--side", choices=[*SIDES, "both"], default="both")
    parser.add_argument("--seeds", default="0", help="seeds of the calibration data, comma-separated")
    parser.add_argument(
        "--names", default="", help="criteria, comma-separated; for finetune settings such as 'l2 axis + lsq'"
    )
    parser.add_argument("--scopes", default="", help="theirs: local,global,isomorphic; ours: global,axis,isomorphic")
    parser.add_argument("--widths", default="", help="inner,all")
    parser.add_argument("--recoveries", default="", help="raw,norms; ours also shift,lsq_moments,lsq")
    parser.add_argument("--times", default="", help="reduction factors such as 2,3 instead of the default of the task")
    parser.add_argument("--threads", type=int, default=1)
    for flag in ("full", "quick", "resume", "table"):
        parser.add_argument(f"--{flag}", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    path = results.path_of(args.task)
    if not args.table:
        for seed in map(int, args.seeds.split(",")):
            for row in rows(args, seed):
                results.append(path, row)
                print(described(row), flush=True)
    print(best(results.read(path)))


if __name__ == "__main__":
    main()
