"""What the survey says of another tool's cut: right where units go together, wrong where they do not."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from laws import randomized
from secateur.anatomy.calls import Call

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from survey import theirs
from survey.pool import OutOfTime, limited, run
from zoo import Entry

CALL = Call((torch.randn(3, 4, dtype=torch.float64),))


class Normed(nn.Module):
    """fc2(norm(fc1 x)): the norm reads the mean over units."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm, self.fc2 = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.norm(self.fc1(x)))


def verdict(made: list[int], read: list[int]) -> str:
    """Of a cut that keeps the units `made` where they are made and `read` where they are read."""
    dense = randomized(Normed()).double()
    cut, kept = copy.deepcopy(dense), dict[str, list[list[int]]]()
    for name, tensor in dense.named_parameters():
        units = made if name.startswith("fc1") else read
        kept[name] = [units if n == 8 else list(range(n)) for n in tensor.shape]
        for dim, places in enumerate(kept[name]):
            cut.get_parameter(name).data = cut.get_parameter(name).data.index_select(dim, torch.tensor(places))
    cut.norm.normalized_shape = (len(read),)
    entry = Entry("timm:none", "none", Normed, lambda: CALL)
    return theirs._compared(entry, dense, cut, kept, CALL)["verdict"]


def test_the_same_units_everywhere_are_right_and_norms_read_the_kept_ones() -> None:
    assert verdict([0, 2, 5, 6, 7], [0, 2, 5, 6, 7]) == "right"


def test_other_units_where_they_are_read_are_wrong() -> None:
    assert verdict([0, 2, 5, 6, 7], [0, 2, 5, 6, 4]) == "wrong"


def test_widths_that_do_not_meet_do_not_run() -> None:
    assert verdict([0, 2, 5, 6, 7], [0, 2, 5, 6]) == "no run"


def test_everything_kept_is_nothing_cut() -> None:
    assert verdict(list(range(8)), list(range(8))) == "nothing cut"


def test_kept_positions_are_read_off_the_numbers_of_elements() -> None:
    tags = torch.arange(12.0).view(3, 4)
    assert theirs._places("w", tags[[2, 0]][:, [1, 3]], tags.shape) == [[2, 0], [1, 3]]
    with pytest.raises(ValueError, match="w is not a selection of rows and columns any more"):
        theirs._places("w", torch.tensor([[0.0, 1.0], [5.0, 6.0]]), tags.shape)


def spin() -> None:
    while True:
        pass


def test_what_takes_too_long_is_stopped() -> None:
    with pytest.raises(OutOfTime), limited(0.2):
        spin()


def test_a_task_that_dies_or_hangs_is_told_apart_from_one_that_ends() -> None:
    def work(task: str) -> dict[str, str]:
        if task == "hang":
            spin()
        if task == "fail":
            raise ValueError("the fact")
        return {"verdict": "right"}

    found = dict(run(["end", "fail", "hang"], work, jobs=3, limit=5.0))
    assert found["end"] == {"verdict": "right"}
    assert found["fail"]["error"] == "ValueError: the fact"
    assert found["hang"]["verdict"] == "timeout"
