"""Check all seven laws on 24 torchvision models, and two targets in one call on the matting network MODNet.

    python benchmarks/right.py                     every model: `channels=0.7`, random importance, weights and buffers
    python benchmarks/right.py --models resnet18   some of them (printed, not written)
    python benchmarks/right.py --modnet            MODNet to 1.76 M parameters and 8.98 G MACs at 512x512

The script stops at the first law that fails. Errors are relative, in float64.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import record

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import laws
import secateur
from secateur.anatomy.calls import Call
from secateur.models.modnet import MODNet
from test_zoo import ENTRIES, Entry


def examine(entry: Entry, folder: Path) -> dict[str, Any]:
    """Check every law on one model; return what is left of it."""
    torch.manual_seed(0)
    inputs = torch.randn(1, 3, entry.side, entry.side)
    calls = [Call((torch.randn(2, 3, entry.side, entry.side),), training=True)] if entry.training else []
    plan = laws.check_all(entry.build, inputs, folder / f"{entry.name}.safetensors", calls=calls)
    model = laws.randomized(entry.build())
    graph = secateur.trace(model, inputs, calls=calls)
    verification = secateur.verify(model, secateur.cut(model, plan), plan, inputs, calls=calls)
    return {
        "params": plan.after.params / plan.before.params,
        "macs": plan.after.macs / plan.before.macs,
        "axes": len(graph.axes),
        "coverage": graph.coverage.params,
        "unknown_ops": sum(graph.unknown.values()),
        **verification.as_dict(),
    }


def zoo(names: list[str]) -> None:
    rows, figures = [], {}
    for entry in [e for e in ENTRIES if e.name in names]:
        with tempfile.TemporaryDirectory() as folder:
            figures[entry.name] = found = examine(entry, Path(folder))
        gc.collect()
        errors = [f"{found[key]:.0e}" for key in ("silence", "permutation")]
        rows.append([entry.name, f"{found['params']:.0%}", f"{found['macs']:.0%}", str(found["axes"]), *errors])
        print(*rows[-1], file=sys.stderr, flush=True)
    print(record.table(["model", "parameters left", "MACs left", "axes", "silence", "permutation"], rows))
    if len(figures) == len(ENTRIES):
        print(record.write("right", "zoo", figures))


def modnet() -> None:
    torch.set_num_threads(1)
    model, image = laws.randomized(MODNet()), torch.randn(1, 3, 512, 512)
    start = time.perf_counter()
    result = secateur.prune(model, image, ["params=1.76e6", "macs=8.98e9"])
    seconds = time.perf_counter() - start
    verification = secateur.verify(model, result.model, result.plan, torch.randn(1, 3, 128, 128))
    laws.check_cost(result.model, result.plan, image)
    figures = {
        "seconds": seconds,
        "before": {"params": result.plan.before.params, "macs": result.plan.before.macs},
        "after": {"params": result.plan.after.params, "macs": result.plan.after.macs},
        **verification.as_dict(),
    }
    print(figures)
    print(record.write("right", "modnet", figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(e.name for e in ENTRIES))
    parser.add_argument("--modnet", action="store_true")
    options = parser.parse_args()
    modnet() if options.modnet else zoo(options.models.split(","))
