from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from commands import HALF, NETS, SHAPE, Command

Files = Callable[[], "dict[str, bytes]"]


@pytest.fixture
def secateur(tmp_path: Path) -> Command:
    (tmp_path / "nets.py").write_text(NETS)
    return Command(tmp_path)


@pytest.fixture
def dense(secateur: Command) -> Path:
    """Weights of the network, in a plain state dict."""
    import torch

    from secateur.models import build_model

    path = secateur.folder / "dense.pt"
    torch.save({"state_dict": build_model(secateur.net).state_dict()}, path)
    return path


@pytest.fixture
def small(secateur: Command, dense: Path) -> Path:
    """The folder of a pruned network."""
    out = secateur.folder / "small"
    secateur("prune", secateur.net, "--weights", dense, *SHAPE, *HALF, "--out", out)
    return out


@pytest.fixture
def files(secateur: Command) -> Files:
    """What lies in the folder."""

    def read() -> dict[str, bytes]:
        found = (p for p in secateur.folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return {str(p): p.read_bytes() for p in found}

    return read
