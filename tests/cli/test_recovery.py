"""Recovery on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from commands import HALF, SHAPE, Command


def recovered(secateur: Command, *options: Any) -> dict[str, Any]:
    asked = (*HALF, "--data", secateur.file("data"), "--calibrate", "40", *options)
    return secateur.json("prune", secateur.net, *asked, "--out", secateur.folder / "out")


def test_a_run_is_recovered_and_verified(secateur: Command) -> None:
    run = recovered(secateur, "--recover", "shift", "--recover", "lsq", "--verify")
    assert [step["step"] if isinstance(step, dict) else step[0] for step in run["plan"]["recovery"]] == ["shift", "lsq"]
    assert "recovered by shift, lsq" in secateur("verify", secateur.folder / "out")


def test_the_search_recovers_what_it_judges(secateur: Command) -> None:
    asked = (*SHAPE, "--target", "macs", "--max-drop", "100", "--data", secateur.file("data"), "--calibrate", "40")
    run = secateur.json(
        "prune", secateur.net, *asked, "--recover", "norms", "--tolerance", "0.4", "--out", secateur.folder / "out"
    )
    assert len(run["plan"]["recovery"]) == 1
    assert run["search"]["probes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recover", "lsq"], "--recover lsq needs calibration data: add --data and --calibrate 1024"),
        (["--recover", "lsqq", "--calibrate", "4"], "unknown recovery step 'lsqq'; did you mean 'lsq'"),
        (["--recover", "lsq", "--calibrate", "4"], "--calibrate is given, but no data"),
    ],
)
def test_refused(secateur: Command, options: list[str], message: str) -> None:
    out = secateur.folder / "out"
    assert message in secateur.fails("prune", secateur.net, *SHAPE, *HALF, *options, "--out", out)
    assert not out.exists()
