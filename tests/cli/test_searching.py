from __future__ import annotations

import json

import pytest

from commands import SHAPE, Command


@pytest.fixture
def search(secateur: Command) -> tuple[object, ...]:
    return ("prune", secateur.net, "--data", secateur.file("data"), "--batch-size", "16", "--target", "macs")


def test_the_largest_cut_within_a_drop(secateur: Command, search: tuple[object, ...]) -> None:
    run = secateur.json(*search, "--max-drop", "5", "--tolerance", "0.1", "--verify", "--out", secateur.folder / "o")
    found, metrics = run["search"], run["metrics"]
    assert found["dense"] == pytest.approx(100 * metrics["before"])
    assert found["value"] == pytest.approx(100 * metrics["after_cut"])
    assert found["dense"] - found["value"] <= 5
    assert run["cut"]["verification"]["passed"]
    assert run["plan"]["target"][0].startswith("macs=")
    assert secateur("verify", secateur.folder / "o")


def test_what_was_tried_is_told(secateur: Command, search: tuple[object, ...]) -> None:
    text = secateur(*search, "--max-drop", "100", "--tolerance", "0.3", "--out", secateur.folder / "o")
    assert "the largest cut with a drop of at most 100 from" in text
    assert "\nmacs=0.5 " in text


def test_a_metric_of_the_user_counts_in_its_own_unit(secateur: Command, search: tuple[object, ...]) -> None:
    metric = ("--metric", secateur.file("error"), "--lower-is-better")
    options = ("--max-drop", "1.0", "--tolerance", "0.3", "--out", secateur.folder / "o")
    run = secateur.json(*search, *metric, *options)
    assert run["search"]["value"] == pytest.approx(run["metrics"]["after_cut"])


def test_values_are_kept(secateur: Command, search: tuple[object, ...]) -> None:
    file = secateur.folder / "probes.json"
    options = ("--max-drop", "100", "--tolerance", "0.3", "--probes", file, "--out")
    first = secateur.json(*search, *options, secateur.folder / "a")
    written = file.read_text()
    assert len(json.loads(written)["values"]) == 1 + len(first["search"]["probes"])
    assert secateur.json(*search, *options, secateur.folder / "b")["search"] == first["search"]
    assert file.read_text() == written


MALFORMED = {
    "a number": (["--target", "macs=0.5", "--max-drop", "1"], "--max-drop finds how much remains"),
    "two targets": (["--target", "macs", "--target", "params", "--max-drop", "1"], "it takes one --target without a"),
    "no target": (["--max-drop", "1"], "write --target macs --max-drop 1.0"),
    "unknown kind": (
        ["--target", "mac", "--max-drop", "1"],
        "--target 'mac' is not a kind of target; did you mean 'macs'",
    ),
    "negative": (
        ["--target", "macs", "--max-drop", "-1"],
        "--max-drop -1.0 is not a finite number from 0 up\ngive how much worse",
    ),
    "tolerance": (
        ["--target", "macs", "--max-drop", "1", "--tolerance", "2"],
        "--tolerance 2.0 is not between 0 and 1\ngive the share",
    ),
    "no data": (["--target", "macs", "--max-drop", "1"], "--max-drop needs data: add --data mnist"),
    "direction alone": (["--target", "macs=0.5", "--lower-is-better"], "--lower-is-better is given without --max-drop"),
    "probes alone": (["--target", "macs=0.5", "--probes", "p.json"], "--probes is given without --max-drop"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(secateur: Command, case: str) -> None:
    options, message = MALFORMED[case]
    if case == "no target":
        assert message in secateur.fails("prune", secateur.net, *SHAPE, "--max-drop", "1", "--out", "o")
    else:
        assert message in secateur.fails("prune", secateur.net, *SHAPE, *options, "--out", secateur.folder / "o")
    assert not (secateur.folder / "o").exists()


def test_a_drop_that_no_cut_obeys(secateur: Command, search: tuple[object, ...]) -> None:
    (secateur.folder / "worse.py").write_text("N = [0]\ndef worse(*_):\n    N[0] -= 1\n    return N[0]")
    message = secateur.fails(*search, "--metric", f"{secateur.folder}/worse.py:worse", "--max-drop", "0", "--out", "o")
    assert "no cut worsens the metric, " in message
    assert " before, by at most 0" in message
    assert "allow a larger --max-drop, or choose better (--importance, --allocation)" in message
