from __future__ import annotations

from pathlib import Path

import pytest

from commands import NETS, Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command line, in a folder with a file of networks."""
    (tmp_path / "nets.py").write_text(NETS)
    return Command(tmp_path)
