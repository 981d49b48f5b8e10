"""The house: which files lie loose, and that the contracts on imports can fail.

`make lint` runs the contracts (`import-linter`, in pyproject.toml).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "secateur"
CONTRACTS = {
    "floors": ("terms/marks.py", "from secateur.graph.graph import Graph"),
    "values and terms know no torch": ("plan/parts.py", "import torch"),
    "a stage does not reach into another stage": ("trace/tracing.py", "from secateur.apply.surgery import cut"),
    "planning sees values and scores only": ("planning/depth.py", "from secateur.trace.tracing import trace"),
    "no circles inside a room": ("cost/size_polynomials.py", "from secateur.cost.cost import Cost"),
}


def test_three_modules_lie_loose() -> None:
    assert sorted(path.name for path in SOURCE.glob("*.py")) == ["__init__.py", "errors.py", "pruning.py"]


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed here")
    return subprocess.run(
        [program, "--no-cache", "--config", "pyproject.toml"],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("contract", CONTRACTS)
def test_an_import_that_breaks_a_contract_is_found(contract: str, tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "src" / "secateur", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    name, upward = CONTRACTS[contract]
    broken = tmp_path / "src" / "secateur" / name
    broken.write_text(f"{broken.read_text()}\n\ndef late() -> None:\n    {upward}\n")
    found = linted(tmp_path)
    assert found.returncode == 1, found.stdout
    assert f"{contract} BROKEN" in found.stdout
