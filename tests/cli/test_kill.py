"""A real kill -9 of the real command, in processes of its own; `benchmarks/resume.py` does it ten times."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from commands import HALF, Command

EPOCHS = "40"  # of two stages, long enough to be killed in


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-c", "from secateur.cli import main; main()"]
    return subprocess.Popen([*program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after_checkpoint(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    while not any(int(path.name[-9:]) >= step for path in folder.glob("step-*")):
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


LOADED = """

class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, i):
        return torch.full((1, 8, 8), i / 6 - 1) + 0.1 * torch.randn(1, 8, 8), i // 6


LOADER = torch.utils.data.DataLoader(
    Noisy(), 4, shuffle=True, generator=torch.Generator().manual_seed(3), num_workers=1, persistent_workers=True
)


def loaded(split):
    return LOADER
"""


@pytest.mark.slow  # several processes, each of which loads PyTorch
@pytest.mark.parametrize("data", ["data", "loaded"])
def test_kill_9_and_resume(data: str, secateur: Command) -> None:
    (secateur.folder / "nets.py").write_text((secateur.folder / "nets.py").read_text() + LOADED)
    arguments = ["prune", secateur.net, "--data", secateur.file(data), "--threads", "1", *HALF]
    arguments += ["--finetune-epochs", EPOCHS, "--steps", "2", "--batch-size", "4"]
    whole, out = secateur.folder / "whole", secateur.folder / "out"
    assert start([*arguments, "--out", str(whole)]).wait() == 0
    resuming = [*arguments, "--out", str(out), "--checkpoint-every", "5", "--resume"]
    for step in (20, 170):  # in the first stage, and in the second
        kill_after_checkpoint(start(resuming), out / ".checkpoints", step)
        assert not (out / "run.json").exists()
    assert start(resuming).wait() == 0
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, out))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())
