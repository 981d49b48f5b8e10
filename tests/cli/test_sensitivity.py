from __future__ import annotations

import json

import pytest

from commands import HALF, SHAPE, Command
from secateur import Sensitivity


@pytest.fixture
def data(secateur: Command) -> tuple[str, ...]:
    return ("--data", secateur.file("data"), "--batch-size", "16", "--calibrate", "32")


def measure(secateur: Command, data: tuple[str, ...], *options: object, code: int = 0) -> str:
    out = secateur.folder / "s.json"
    return secateur("sensitivity", secateur.net, *data, "--out", out, *options, code=code)


def test_what_is_measured_is_saved_drawn_and_told(secateur: Command, data: tuple[str, ...]) -> None:
    pytest.importorskip("plotly", reason="needs secateur[plot]")
    text = measure(secateur, data, "--plot", secateur.folder / "s.html", "--ratios", "0.5,0.25")
    found = Sensitivity.read(secateur.folder / "s.json")
    assert text.startswith(f"cross entropy on 32 examples\n{found}\n")
    assert "prune with --allocation" in text
    assert {curve.name for curve in found.curves} == {"conv1", "conv2"}
    assert found.ratios == (0.5, 0.25)
    assert "Plotly.newPlot(" in (secateur.folder / "s.html").read_text()


def test_json_is_the_file(secateur: Command, data: tuple[str, ...]) -> None:
    out = secateur.folder / "s.json"
    assert secateur.json("sensitivity", secateur.net, *data, "--out", out) == json.loads(out.read_text())


def test_a_metric_of_the_user_and_rules(secateur: Command, data: tuple[str, ...]) -> None:
    measure(secateur, data, "--metric", secateur.file("error"), "--higher-is-better", "--select", "conv1: protect")
    found = Sensitivity.read(secateur.folder / "s.json")
    assert found.higher_is_better
    assert [curve.name for curve in found.curves] == ["conv2"]
    assert 0 <= found.dense <= 1


def test_it_spreads_what_plan_and_prune_cut(secateur: Command, data: tuple[str, ...]) -> None:
    measure(secateur, data)
    file = secateur.folder / "s.json"
    plan = secateur.json("plan", secateur.net, *SHAPE, "--target", "params=0.9", "--allocation", file)
    assert plan["notes"]["allocation"] == "measured"
    assert plan["after"][0] <= 0.9 * plan["before"][0]
    run = secateur.json(
        "prune", secateur.net, *SHAPE, *HALF, "--allocation", file, "--verify", "--out", secateur.folder / "o"
    )
    assert run["plan"]["notes"]["allocation"] == "measured"


def test_a_second_run_measures_nothing_and_other_data_are_refused(secateur: Command, data: tuple[str, ...]) -> None:
    first = measure(secateur, data)
    written = (secateur.folder / "s.json").read_text()
    assert measure(secateur, data) == first
    assert (secateur.folder / "s.json").read_text() == written
    message = secateur.fails(
        "sensitivity", secateur.net, *data, "--calibrate", "48", "--out", secateur.folder / "s.json"
    )
    assert "s.json was measured with other key\n" in message


MALFORMED = {
    "no data": (["--out", "s.json"], "measuring needs data: add --data mnist"),
    "no ratios": (["--ratios", "half"], "--ratios 'half'; write shares separated by commas, as 0.75,0.5"),
    "ratios above one": (
        ["--ratios", "2"],
        "--ratios [2.0] is not a list of shares between 0 and 1\ngive shares of the units that remain",
    ),
    "another suffix": (["--plot", "s.png"], "s.png does not end in .html\nplots are HTML pages"),
    "no folder": (["--out", "nowhere/s.json"], "there is no folder"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(secateur: Command, data: tuple[str, ...], case: str) -> None:
    options, message = MALFORMED[case]
    given = [*SHAPE, "--out", str(secateur.folder / "s.json"), *(data if case != "no data" else ()), *options]
    if case == "no data":
        given = [*SHAPE, "--out", str(secateur.folder / "s.json")]
    assert message in secateur.fails("sensitivity", secateur.net, *given)


def test_no_allocation(secateur: Command) -> None:
    missing = secateur.fails("plan", secateur.net, *SHAPE, *HALF, "--allocation", secateur.folder / "nowhere.json")
    assert "nowhere.json cannot be read: No such file" in missing
