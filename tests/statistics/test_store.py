"""A second calibration is read from the folder; whatever its sums depend on makes it another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets import Parts
from secateur.base.hashing import of_function
from secateur.errors import InputError
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import Statistics
from secateur.trace.tracing import trace

X, Y = torch.linspace(-1, 1, 24).view(6, 4), torch.tensor([0, 1, 0, 1, 0, 1])
DATA = [(X[:4], Y[:4]), (X[4:], Y[4:])]
NEEDS = {"moments", "gram", "gates"}


def plain_loss(output: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(output, targets)


class Runs:
    """A model, and how often any of them ran: a number that nothing in the model leads to, and so is not put back."""

    times: ClassVar[int] = 0

    def __init__(self, act: Callable[[Tensor], Tensor] = F.relu) -> None:
        torch.manual_seed(0)
        self.act = act
        self.model = Parts(self._run, a=nn.Linear(4, 8), b=nn.Linear(8, 2))

    def _run(self, m: Any, x: Tensor) -> Tensor:
        Runs.times += 1
        return m.b(self.act(m.a(x)))

    def calibrate(self, data: Any = DATA, **options: Any) -> Statistics:
        graph = trace(self.model, X)
        Runs.times = 0
        return calibrate(graph, data, **{"needs": NEEDS, "loss": plain_loss, **options})


def alike(one: Statistics, other: Statistics) -> bool:
    same = (one.examples, one.batches, one.needs) == (other.examples, other.batches, other.needs)
    return (
        same and one.sums.keys() == other.sums.keys() and all(torch.equal(one.sums[k], other.sums[k]) for k in one.sums)
    )


def test_a_second_time_the_model_does_not_run(tmp_path: Path):
    runs = Runs()
    first = runs.calibrate(cache=tmp_path)
    assert runs.times
    again = runs.calibrate(cache=tmp_path)
    assert runs.times == 0
    assert alike(first, again)
    assert alike(first, runs.calibrate())


def test_fewer_needs_are_there_already(tmp_path: Path):
    runs = Runs()
    runs.calibrate(cache=tmp_path)
    found = runs.calibrate(needs={"moments"}, loss=None, cache=tmp_path)
    assert runs.times == 0
    assert {quantity for _, quantity in found.sums} == {"count", "sum", "square", "absolute", "zeros"}


def test_more_needs_cost_what_is_new(tmp_path: Path):
    runs = Runs()
    runs.calibrate(needs={"gates"}, cache=tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    found = runs.calibrate(cache=tmp_path)
    assert all(path.stat().st_mtime_ns == before for path, before in written.items())
    assert alike(found, runs.calibrate())


def other_loss(output: Tensor, targets: Tensor) -> Tensor:
    return output.square().mean()


def smoothed(by: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda output, targets: F.cross_entropy(output, targets, label_smoothing=by)


OTHERS: dict[str, dict[str, Any]] = {
    "loss": {"loss": other_loss},
    "built-in loss": {"loss": F.cross_entropy},
    "data": {"data": [(X[:4] + 1, Y[:4]), (X[4:], Y[4:])]},
    "targets": {"data": [(X[:4], 1 - Y[:4]), (X[4:], Y[4:])]},
    "ends of batches": {"data": [(X[:2], Y[:2]), (X[2:], Y[2:])]},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize("what", OTHERS)
def test_whatever_else_makes_another_file(what: str, tmp_path: Path):
    runs = Runs()
    runs.calibrate(cache=tmp_path)
    found = runs.calibrate(cache=tmp_path, **OTHERS[what])
    assert runs.times
    assert alike(found, runs.calibrate(**OTHERS[what]))


def test_other_weights_or_ops_make_another_file(tmp_path: Path):
    runs = Runs()
    runs.calibrate(cache=tmp_path)
    runs.model.a.weight.data[0, 0] += 1e-3  # type: ignore[union-attr, index]
    runs.calibrate(cache=tmp_path)
    assert runs.times
    smooth = Runs(F.gelu)
    smooth.calibrate(cache=tmp_path)
    assert smooth.times


def test_losses_are_distinguished_by_their_closures():
    assert of_function(smoothed(0.1)) == of_function(smoothed(0.1)) != of_function(smoothed(0.2))
    weights = (nn.CrossEntropyLoss(torch.tensor(each)) for each in ([1.0, 1.0], [1.0, 1.0], [1.0, 2.0]))
    first, again, other = map(of_function, weights)
    assert first == again != other


def _damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def _foreign(path: Path) -> None:
    path.write_bytes(next(p for p in path.parent.iterdir() if p.name.startswith("gram")).read_bytes())


@pytest.mark.parametrize("spoil", [_damaged, _foreign, lambda path: path.write_bytes(b"\x80pickle")])
def test_an_unusable_file_is_computed_again_with_a_warning(spoil: Callable[[Path], None], tmp_path: Path):
    runs = Runs()
    first = runs.calibrate(cache=tmp_path)
    spoil(next(path for path in tmp_path.iterdir() if path.name.startswith("moments")))
    with pytest.warns(UserWarning, match="the cached sums cannot be used, so they are computed again: .*moments-"):
        again = runs.calibrate(cache=tmp_path)
    assert alike(first, again)
    runs.calibrate(cache=tmp_path)
    assert runs.times == 0


def test_data_that_differ_each_time_are_never_taken_for_others(tmp_path: Path):
    class Counter:
        def __init__(self) -> None:
            self.at = 0

        def __iter__(self) -> Iterator[Any]:
            self.at += 1
            return iter([(X * self.at, Y)])

    runs, data = Runs(), Counter()
    runs.calibrate(data, cache=tmp_path)
    kept = runs.calibrate([(X * 2, Y)], cache=tmp_path)
    assert runs.times == 0
    assert alike(kept, runs.calibrate([(X * 2, Y)]))


def test_a_generator_cannot_be_looked_up(tmp_path: Path):
    with pytest.raises(InputError, match="data is a list_iterator, which can be iterated only once; with cache="):
        Runs().calibrate(iter(DATA), cache=tmp_path)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "sums").write_text("")
    with pytest.raises(InputError, match=r"cache='.*sums' cannot be a folder: File exists\npass another one"):
        Runs().calibrate(cache=str(tmp_path / "sums"))
