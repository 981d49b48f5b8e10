from __future__ import annotations

import json

import pytest

from commands import HALF, Command

STAGES = ["--finetune-epochs", "1", "--steps", "3", "--lr", "0.01"]


def test_cut_and_trained_in_turn(secateur: Command, dense) -> None:  # type: ignore[no-untyped-def]
    out = secateur.folder / "o"
    arguments = ["--weights", dense, "--data", secateur.file("data"), *HALF, *STAGES, "--verify", "--out", out]
    run = secateur.json("prune", secateur.net, *arguments)
    assert [stage["stage"] for stage in run["history"]["stages"]] == [0, 1, 2, 3]
    macs = [stage["macs"] for stage in run["history"]["stages"]]
    assert macs == sorted(macs, reverse=True)
    assert macs[-1] == run["report"]["pruned"]["macs"] <= run["report"]["dense"]["macs"] / 2
    assert run["history"]["steps"] == 9
    assert run["cut"]["verification"]["passed"] is True
    assert run["cut"]["target"] == ["macs=0.5"]
    # The run is like any other: what was proved of it is proved again from the files.
    assert secateur.json("verify", out)["passed"] is True
    assert secateur.json("count", out)["params"] == run["report"]["pruned"]["params"]


def test_the_text_says_how_it_went(secateur: Command) -> None:
    text = secateur(
        "prune", secateur.net, *HALF, "--data", secateur.file("data"), *STAGES, "--out", secateur.folder / "o"
    )
    assert "fine-tuning: trained 1 epoch (9 steps)" in text
    assert "in 3 stages" in text
    assert text.rstrip().splitlines()[-1].startswith("accuracy after fine-tuning")
    assert "right after the cut" not in text


SIZE = '''

def size(output, targets):
    """Falls by a half when the network does: the batch norm is all that it sees of it."""
    return output.abs().sum() * 0 + LEFT.pop(0)


LEFT = [1.0]
'''


@pytest.mark.parametrize(("scores", "stages", "last"), [([5, 5, 5, 1], 3, 2), ([5, 5, 5, 5], 3, 3), ([5, 5, 1], 2, 1)])
def test_it_ends_by_itself_with_the_last_good_stage(
    secateur: Command, scores: list[int], stages: int, last: int
) -> None:
    # One value for the rehearsal, three batches of each that is measured, in the order in which they are.
    values = [5, *[score for score in (5, *scores, 5, 5) for _ in range(3)], *[5] * 30]
    nets = secateur.folder / "nets.py"
    nets.write_text(nets.read_text() + SIZE.replace("[1.0]", str(values)))
    arguments = ["--data", secateur.file("data"), "--metric", secateur.file("size"), "--max-drop", "1"]
    out = secateur.folder / "o"
    run = secateur.json("prune", secateur.net, *HALF, *STAGES, *arguments, "--out", out)
    found = run["history"]["stages"]
    assert len(found) - 1 == stages
    assert [stage["good"] for stage in found[1:]] == [stage["stage"] <= last for stage in found[1:]]
    assert found[last]["params"] == run["report"]["pruned"]["params"]
    assert json.loads((out / "run.json").read_text())["cut"]["target"] == found[last]["target"]
    assert secateur.json("verify", out)["passed"] is True


def test_no_stage_is_good_enough(secateur: Command) -> None:
    nets = secateur.folder / "nets.py"
    nets.write_text(nets.read_text() + SIZE.replace("[1.0]", str([5] * 7 + [0] * 9)))
    arguments = ["--data", secateur.file("data"), "--metric", secateur.file("size"), "--max-drop", "1"]
    out = secateur.folder / "o"
    message = secateur.fails("prune", secateur.net, *HALF, *STAGES, *arguments, "--out", out, code=1)
    assert "no stage is good enough" in message
    assert "nothing was written: allow more with --max-drop, cut less at a time with --steps" in message
    assert not out.exists()


def test_a_run_is_cut_on_in_stages(secateur: Command, small) -> None:  # type: ignore[no-untyped-def]
    """Targets are shares of the original, not of what the first run left."""
    out = secateur.folder / "o"
    run = secateur.json("prune", small, "--target", "macs=0.3", "--data", secateur.file("data"), *STAGES, "--out", out)
    original = secateur.json("count", secateur.net, "--input", "1x1x8x8")["macs"]
    assert run["report"]["pruned"]["macs"] <= 0.3 * original < run["report"]["dense"]["macs"]
    assert secateur.json("verify", out)["passed"] is True
    met = secateur.fails("prune", small, "--target", "macs=0.9", "--data", secateur.file("data"), *STAGES, "--out", out)
    assert "the target is already met: macs=0.9" in met


WRONG: dict[str, tuple[list[str], str]] = {
    "epochs": (["--finetune-epochs", "0"], "--steps trains after each cut: add --finetune-epochs 1"),
    "schedule": (["--schedule", "cubik"], "no schedule is named 'cubik'; did you mean 'cubic'?"),
    "drop": (["--drop", "conv1=1,2"], "--drop applies to a single cut; leave it out, or leave out --steps"),
    "number": (
        ["--target", "macs", "--max-drop", "1"],
        "--target macs has no number, but --steps needs one to cut towards",
    ),
    "max_drop": (["--max-drop", "-1"], "max_drop=-1; it is by how much the metric may get worse: 0 or above"),
}


@pytest.mark.parametrize("case", WRONG)
def test_loops_that_cannot_be(secateur: Command, case: str) -> None:
    more, message = WRONG[case]
    out = secateur.folder / "o"
    target = [] if "--target" in more else HALF
    assert message in secateur.fails(
        "prune", secateur.net, *target, "--data", secateur.file("data"), *STAGES, *more, "--out", out
    )
    assert not out.exists()
