from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import FileError, InputError
from secateur.train import Checkpointing, TrainOptions, fit

BATCHES = [(torch.eye(2), torch.tensor([0, 1]))] * 4


def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))


def scalars(folder: Path) -> dict[str, list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder)).Reload()
    return {tag: [event.step for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_tensorboard_has_every_step(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs secateur[log]")
    fit(net(), BATCHES, epochs=2, log=f"tensorboard:{tmp_path}")
    assert scalars(tmp_path) == {name: list(range(1, 9)) for name in ("loss", "lr", "epoch")}


def test_a_resumed_run_has_every_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs secateur[log]")

    def kill(now: Any) -> None:
        if now.step == 5:
            raise KeyError

    arguments = {
        "epochs": 2,
        "log": f"tensorboard:{tmp_path}/log",
        "checkpoint": Checkpointing(tmp_path / "c", every=3),
    }
    with pytest.raises(KeyError):
        fit(net(), BATCHES, **arguments, progress=kill)
    fit(net(), BATCHES, **arguments)
    assert scalars(tmp_path / "log")["loss"] == list(range(1, 9))


def test_trackio_has_every_step_in_the_folder_of_the_tests() -> None:
    pytest.importorskip("trackio", reason="needs secateur[log]")
    from trackio.sqlite_storage import SQLiteStorage

    fit(net(), BATCHES, epochs=1, log="trackio:mine/first")
    assert Path(os.environ["TRACKIO_DIR"], "mine.db").is_file()
    found = SQLiteStorage.get_logs("mine", "first")
    assert [row["step"] for row in found] == [1, 2, 3, 4]
    assert {"loss", "lr", "epoch"} <= set(found[0])


def test_a_function_of_ones_own_and_the_same_weights() -> None:
    seen: list[int] = []
    plain, logged = net(), net()
    fit(plain, BATCHES, epochs=1)
    fit(logged, BATCHES, epochs=1, log=lambda step, numbers: seen.append(step))
    assert seen == [1, 2, 3, 4]
    assert torch.equal(weights(plain), weights(logged))


@pytest.mark.parametrize("package", ["torch.utils.tensorboard", "trackio"])
def test_a_log_that_is_not_installed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"is not installed; install it with: pip install 'secateur\[log\]'"):
        fit(net(), BATCHES, epochs=1, log=package.rpartition(".")[2])


def test_an_unknown_log() -> None:
    with pytest.raises(
        InputError, match="no log 'tensorbord'; known: tensorboard, trackio; did you mean 'tensorboard'"
    ):
        fit(net(), BATCHES, epochs=1, log="tensorbord:here", options=TrainOptions())


def test_a_log_is_on_the_disk_when_a_checkpoint_is(tmp_path: Path) -> None:
    """A kill -9 lets nobody close files."""
    pytest.importorskip("tensorboard", reason="needs secateur[log]")
    seen: list[list[int]] = []

    def read(now: Any) -> None:
        if now.step == 7:  # the next after a checkpoint
            seen.append(scalars(tmp_path / "log")["loss"])

    where = Checkpointing(tmp_path / "c", every=3)
    fit(net(), BATCHES, epochs=2, log=f"tensorboard:{tmp_path}/log", checkpoint=where, progress=read)
    assert seen[0][:6] == list(range(1, 7))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs secateur[log]")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"no log can be written to .*file/log: .*; free some space, or give another"):
        fit(net(), BATCHES, epochs=1, log=f"tensorboard:{tmp_path}/file/log")


def test_a_disk_that_is_full_while_it_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="needs secateur[log]")

    def refuse(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboard.SummaryWriter, "add_scalar", refuse)
    with pytest.raises(
        FileError, match=f"no log can be written to {tmp_path}: No space left on device; free some space"
    ):
        fit(net(), BATCHES, epochs=1, log=f"tensorboard:{tmp_path}")
