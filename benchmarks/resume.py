"""Kill prune-and-fine-tune runs with -9 at random moments, resume them, and compare the weights bit by bit.

    python benchmarks/resume.py                      # ten kills, written to results/resume.json

The run is the command line in a separate process: a small CNN on images drawn from a seed, cut to 40 % of its MACs in
three stages, each trained with the dense model as teacher. A moment is a checkpoint of the run and a time after it, so
that it does not depend on the load of the machine. In a chain the resumed run is killed again later. Checkpoints are
written every ten steps, and only the steps since the last one are lost. The reference run writes no checkpoints; the
first trial writes them and is not killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import record
from secateur.base.writing import read_tensors
from secateur.train.checkpoint import STATE, steps_in
from secateur.train.packing import unpack

EVERY = 10
CHECKPOINTS, WORKING = ".checkpoints", ".secateur-*"
FILE = '''
import torch
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Dropout2d(0.1),
        nn.Conv2d(32, 32, 3, 1, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )


def data(split, batch_size):
    """Noisy copies of ten fixed pictures."""
    pictures = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    drawn = torch.Generator().manual_seed(1 if split == "train" else 2)
    for _ in range(BATCHES if split == "train" else 8):
        y = torch.randint(0, 10, (batch_size,), generator=drawn)
        yield pictures[y] + 2 * torch.randn(batch_size, 1, 28, 28, generator=drawn), y
'''


@dataclass(frozen=True)
class Moment:
    """`pause` seconds after the checkpoint of `step` was written; for step 0, after the command began to work."""

    step: int
    pause: float


@dataclass(frozen=True)
class Kill:
    """seconds: work before the kill; kept, stage: step and stage of the last checkpoint."""

    seconds: float
    kept: int | None
    stage: int | None


@dataclass(frozen=True)
class Trial:
    """A run that was killed, once or more, and resumed to its end. different: number of tensors that differ."""

    kills: list[Kill]
    identical: bool
    different: int


@dataclass(frozen=True)
class Run:
    """The command, run in separate processes."""

    folder: Path
    epochs: int

    def command(self, out: Path, *, kept: bool = True) -> list[str]:
        flags = ["--finetune-epochs", str(self.epochs), "--steps", "3", "--schedule", "cubic", "--optimizer", "adamw"]
        keep = ["--checkpoint-every", str(EVERY), "--resume"] if kept else []
        data = ["--data", f"{self.folder}/net.py:data", "--target", "macs=0.4", "--distill", "0.3"]
        program = [sys.executable, "-c", "from secateur.cli import main; main()"]
        return [
            *program,
            "prune",
            f"{self.folder}/net.py:build",
            "--threads",
            "1",
            *data,
            *flags,
            *keep,
            "--out",
            str(out),
        ]

    def start(self, out: Path, *, kept: bool = True) -> tuple[subprocess.Popen[bytes], float]:
        """Return the process and the time at which it began to work, which is when its working folder exists."""
        before = set(out.glob(WORKING))
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(self.command(out, kept=kept), stdout=log, stderr=log, env=env)
        while process.poll() is None and not set(out.glob(WORKING)) - before:
            time.sleep(0.01)
        return process, time.perf_counter()

    def finish(self, out: Path, *, kept: bool = True) -> tuple[float, float]:
        """Run to the end; return the seconds of work, and the seconds until the folder of checkpoints exists."""
        process, started = self.start(out, kept=kept)
        while process.poll() is None and not (out / CHECKPOINTS).is_dir():
            time.sleep(0.01)
        setup = time.perf_counter() - started
        if process.wait():
            raise SystemExit(f"the run failed:\n{(self.folder / 'log.txt').read_text()}")
        return time.perf_counter() - started, setup

    def kill(self, out: Path, moment: Moment) -> Kill | None:
        """Kill the run at a moment; return None if it had already ended."""
        process, started = self.start(out)
        while (
            process.poll() is None
            and moment.step >= EVERY
            and max(steps_in(out / CHECKPOINTS), default=0) < moment.step
        ):
            time.sleep(0.002)
        time.sleep(moment.pause)
        if process.poll() is not None:
            return None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return Kill(round(time.perf_counter() - started, 2), *newest(out))


def trial(run: Run, reference: dict[str, torch.Tensor], out: Path, moments: list[Moment]) -> Trial:
    """Kill at each of the moments, then resume to the end and compare."""
    while None in (kills := [run.kill(out, moment) for moment in moments]):  # it ended within the last pause
        shutil.rmtree(out)
    run.finish(out)
    return compared(out, reference, [kill for kill in kills if kill is not None])


def compared(out: Path, reference: dict[str, torch.Tensor], kills: list[Kill]) -> Trial:
    """Compare the weights of a finished run with the reference."""
    weights = load_file(out / "model.safetensors")
    different = sum(name not in weights or not torch.equal(weights[name], reference[name]) for name in reference)
    return Trial(kills, weights.keys() == reference.keys() and not different, different)


def newest(out: Path) -> tuple[int | None, int | None]:
    """Return the step and stage of the last checkpoint."""
    steps = steps_in(out / CHECKPOINTS)
    if not steps:
        return None, None
    tensors, metadata = read_tensors(out / CHECKPOINTS / f"step-{steps[-1]:09}" / STATE)
    return steps[-1], unpack(json.loads(metadata["state"]), tensors)["loop"]["stage"]


def moments_of(count: int, steps: int, seconds: float, seed: int) -> list[list[Moment]]:
    """Draw `count` random moments of a run of `steps` steps, in chains of one and two kills.

    seconds: time between two checkpoints.
    """
    drawn = random.Random(seed)
    chains: list[list[Moment]] = []
    while count > 0:
        size = min(count, 1 + len(chains) % 2)
        at = sorted(drawn.sample(range(0, steps, EVERY), size))
        chains.append([Moment(step, round(drawn.uniform(0, seconds), 3)) for step in at])
        count -= size
    return chains


def measured(count: int, seed: int, epochs: int, batches: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "net.py").write_text(FILE.replace("BATCHES", str(batches)))
        run = Run(folder, epochs)
        whole, _ = run.finish(folder / "whole", kept=False)
        reference = load_file(folder / "whole" / "model.safetensors")
        trials = []
        kept, setup = run.finish(folder / "kept")
        trials.append(compared(folder / "kept", reference, []))
        steps = 3 * epochs * batches
        pause = EVERY * (kept - setup) / steps
        for number, moments in enumerate(moments_of(count, steps, pause, seed)):
            found = trial(run, reference, folder / f"out{number}", moments)
            print(json.dumps(asdict(found)), file=sys.stderr, flush=True)
            trials.append(found)
            shutil.rmtree(folder / f"out{number}")
        return {
            "seed": seed,
            "run": [word.replace(place, "FOLDER") for word in run.command(Path("OUT"))[3:]],
            "steps": steps,
            "checkpoint_every": EVERY,
            "undisturbed_seconds": {"without checkpoints": round(whole, 1), "with": round(kept, 1)},
            "kills": sum(len(found.kills) for found in trials),
            "identical": sum(found.identical for found in trials),
            "runs": len(trials),
            "trials": [asdict(found) for found in trials],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=2, help="epochs of each of the three stages")
    parser.add_argument("--batches", type=int, default=40, help="batches per epoch")
    args = parser.parse_args()
    figures = measured(args.kills, args.seed, args.epochs, args.batches)
    print(record.write("resume", "kill -9", figures))
    if figures["identical"] < figures["runs"]:
        raise SystemExit("not all resumed runs ended with the same weights")


if __name__ == "__main__":
    main()
