from __future__ import annotations

from pathlib import Path

from commands import SHAPE, Command


def test_layers_and_totals(secateur: Command) -> None:
    text = secateur("count", secateur.net, *SHAPE)
    for name in ("conv1", "bn1", "conv2", "head"):
        assert name in text
    counted = secateur.json("count", secateur.net, *SHAPE)
    assert counted["params"] == 12 * 9 + 2 * 12 + 16 * 12 * 9 + 16 + 16 * 4 + 4
    assert counted["macs"] == 64 * (12 * 9 + 16 * 12 * 9) + 16 * 4


def test_a_run_remembers_its_input(secateur: Command, small: Path) -> None:
    counted = secateur.json("count", small)
    assert counted["macs"] * 2 <= secateur.json("count", secateur.net, *SHAPE)["macs"]
    assert secateur.json("count", small, "--input", "2x1x8x8")["macs"] == 2 * counted["macs"]
