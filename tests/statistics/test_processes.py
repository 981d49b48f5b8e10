"""Two processes, each with its own data, get the sums of one process with all of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")

SCRIPT = Path(__file__).with_name("worker.py")
TESTS = SCRIPT.parents[1]


def run(folder: Path) -> list[tuple[int, str]]:
    """Exit code and output of each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(TESTS), *sys.path])
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "PYTHONPATH": path}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env={**common, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        return [(process.wait(60), process.communicate()[0]) for process in started]
    finally:
        for process in started:
            process.kill()


def test_processes_share_sums_and_failures(tmp_path: Path):
    """With equal shares, with one that has nothing, with a layer that only one reaches, and from a folder."""
    found = run(tmp_path)
    assert [code for code, _ in found] == [0, 0], found
    for _, told in found:
        assert "sums are those of one process" in told
        assert "data contains no batches" in told
    assert "calibration failed in process 1 of 2\nsee the error there" in found[0][1]
    assert "the loss of a calibration batch is nan" in found[1][1]
