"""Measure the time and memory of `secateur.verify`, alone or compared with another version.

    python benchmarks/proof.py                                  this version alone, with an A/A pair
    python benchmarks/proof.py --against ../older/src           the two in alternation, each run in a separate process

The models have random weights (none zero), inputs of 1 x 3 x 224 x 224, and are cut to `channels=0.7`. Memory is the
growth of the process's largest resident set during the proof, as a multiple of the bytes of the original's weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

MODELS = ("resnet152", "vit_l_16")
ROUNDS = 3
THREADS = 2
HERE = Path(__file__).resolve().parent


def once(name: str) -> dict[str, Any]:
    """Measure one cut and its proof, in this process."""
    import torch
    import torchvision
    from torch import nn

    import secateur

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = torchvision.models.get_model(name).eval()
    for parameter in model.parameters():
        if not parameter.any():  # such as the head of a new ViT, which would hide every change
            nn.init.normal_(parameter, std=0.02)
    x = torch.randn(1, 3, 224, 224)
    model(x)  # warm up
    started = time.perf_counter()
    result = secateur.prune(model, (x,), "channels=0.7", verify=False)
    pruned = time.perf_counter() - started
    before = _resident(reset=True)
    started = time.perf_counter()
    proof = secateur.verify(model, result.model, result.plan, (x,))
    seconds = time.perf_counter() - started
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return {
        "prune": pruned,
        "seconds": seconds,
        "memory": (_resident() - before) / weights,
        "passed": proof.passed,
        "error": max(proof.silence, proof.permutation),
    }


def _resident(*, reset: bool = False) -> int:
    """Return the bytes of the largest resident set since the last reset, or of the present one after a reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def run(name: str, source: Path) -> dict[str, Any]:
    """Run `once` in a process that imports the library from `source`."""
    found = subprocess.run(
        [sys.executable, __file__, "--once", name],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout.splitlines()[-1])


def compared(name: str, ours: Path, theirs: Path) -> dict[str, Any]:
    """Rounds of ours, the other and ours again; medians, and ratios within a round."""
    rounds = [[run(name, source) for source in (ours, theirs, ours)] for _ in range(ROUNDS)]
    return {
        "seconds": median(a["seconds"] for a, _, _ in rounds),
        "other seconds": median(b["seconds"] for _, b, _ in rounds),
        "ratio": median(a["seconds"] / b["seconds"] for a, b, _ in rounds),
        "A/A": median(a["seconds"] / c["seconds"] for a, _, c in rounds),
        "over the rest of prune": median(a["seconds"] / a["prune"] for a, _, _ in rounds),
        "memory": max(a["memory"] for a, _, _ in rounds),
        "other memory": max(b["memory"] for _, b, _ in rounds),
        "error": max(a["error"] for a, _, _ in rounds),
        "passed": all(a["passed"] and b["passed"] for a, b, _ in rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", type=Path, help="the src folder of another version")
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(once(options.once)))
        return
    import record

    ours = HERE.parent / "src"
    for name in MODELS:
        found = compared(name, ours, options.against or ours)
        print(name, json.dumps(found))
        record.write("proof", name, found)


if __name__ == "__main__":
    main()
