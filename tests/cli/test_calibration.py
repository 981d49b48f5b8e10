"""Importance that is read from data, and the examples that it is read from."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from commands import HALF, SHAPE, Command
from secateur.cli.calibration import drawn


class Sorted:
    """Batches of (x, y) whose classes come one after another; some sources shuffle by themselves."""

    def __init__(self, batches: int, size: int):
        y = torch.arange(batches * size) * 10 // (batches * size)
        self._batches = [((x, x + 1), t) for x, t in zip(torch.rand(len(y), 3).split(size), y.split(size), strict=True)]

    def __iter__(self) -> Any:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class Shuffled(Sorted):
    def epoch(self, number: int) -> Any:
        raise AssertionError("examples are those of the first pass")


@pytest.mark.parametrize("examples", [10, 40, 64, 100, 160, 500])
def test_examples_are_drawn_of_all_classes(examples: int) -> None:
    batches = drawn(Sorted(20, 8), examples, seed=1)
    targets = torch.cat([y for _, y in batches])
    assert len(targets) == min(examples, 160)
    assert int(targets.bincount(minlength=10).max() - targets.bincount(minlength=10).min()) <= 1
    assert all(torch.equal(a + 1, b) and len(a) == len(y) <= 16 for (a, b), y in batches)


def test_which_examples_are_drawn_depends_on_the_seed() -> None:
    source = Sorted(20, 8)
    first, again, other = (torch.cat([x for (x, _), _ in drawn(source, 40, seed)]) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_first_of_what_is_shuffled() -> None:
    source = Shuffled(20, 8)
    batches = drawn(source, 20, seed=1)
    assert [len(y) for _, y in batches] == [8, 8, 4]
    assert torch.equal(batches[0][1], next(iter(source))[1])


@pytest.mark.parametrize("importance", ["taylor", "wanda", "hessian", "obd/mean"])
def test_plan_and_prune_read_data(secateur: Command, importance: str) -> None:
    asked = (*HALF, "--importance", importance, "--data", secateur.file("data"), "--calibrate", "40")
    plan = secateur.json("plan", secateur.net, *asked)
    assert plan["notes"]["importance"] == importance
    if importance == "taylor":
        run = secateur.json("prune", secateur.net, *asked, "--verify", "--out", secateur.folder / "out")
        assert run["plan"]["axes"] == plan["axes"]


def test_the_same_plan_twice_and_another_for_other_losses(secateur: Command) -> None:
    asked = (secateur.net, *HALF, "--importance", "taylor", "--data", secateur.file("data"), "--calibrate", "40")
    first, second = (json.dumps(secateur.json("plan", *asked)) for _ in range(2))
    assert first == second
    assert secateur.json("plan", *asked, "--loss", secateur.file("loss"))["notes"]["importance"] == "taylor"


REFUSED = {
    "nothing to read": (["--importance", "taylor"], "taylor needs calibration data: add --data and --calibrate 1024"),
    "no data": (["--importance", "taylor", "--calibrate", "9"], "--calibrate is given, but no data; add --data"),
    "no reader": (["--data", "DATA", "--calibrate", "9"], "--importance l2 does not read data; leave out one of them"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("what", ["plan", "prune"])
def test_refused(secateur: Command, what: str, name: str) -> None:
    options, message = REFUSED[name]
    options = [secateur.file("data") if option == "DATA" else option for option in options]
    out = ["--out", secateur.folder / "out"] if what == "prune" else []
    assert message in secateur.fails(what, secateur.net, *SHAPE, *HALF, *options, *out)
    assert not (secateur.folder / "out").exists()
