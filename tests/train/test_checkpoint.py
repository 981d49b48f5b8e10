from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset

import secateur
import secateur.masks
from secateur.data.batches import Batches
from secateur.data.functions import FunctionBatches
from secateur.errors import FileError, InputError
from secateur.train import Checkpointing, Gradients, History, Progress, TrainOptions, fit
from secateur.train.checkpoint import steps_in
from secateur.train.randomness import Dice

X = torch.randn(33, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(33) % 2
EPOCHS = 3


def net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2))


def augmented(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, y = (torch.stack(part) for part in zip(*batch, strict=True))
    return x + 0.1 * torch.randn_like(x), y


class Drawing:
    """Draws its order when it is first asked for a batch, as generators do."""

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[Any]:
        for rows in torch.randperm(33).tensor_split(5):
            yield X[rows], Y[rows]


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Draws from a generator of its own, kept in a transform."""

    def __init__(self, noise: Any) -> None:
        self.transforms = [lambda x: x + 0.1 * noise.normal(0, 1)]

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.transforms[0](X[row]), Y[row]


class Shuffled:
    """A sampler of batches that keeps its generator in a place that nobody knows."""

    def __init__(self) -> None:
        self.dice = {"order": random.Random(5)}

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(5):
            yield self.dice["order"].sample(range(33), 7)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def loader(**options: Any) -> Callable[[], Any]:
    """Options that are functions are called anew for each loader."""

    def build() -> Any:
        dataset = options.get("dataset", lambda: TensorDataset(X, Y))()
        made = {k: v() if k in ("generator", "sampler", "batch_sampler") else v for k, v in options.items()}
        made.pop("dataset", None)
        return DataLoader(dataset, **({} if "batch_sampler" in made else {"batch_size": 7}), **made)

    return build


def of_a_function() -> Any:
    one = loader(shuffle=True, generator=seeded)()
    return FunctionBatches(lambda split: one, "train", {}, "here")


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: list(zip(X.split(7), Y.split(7), strict=True)),
    "numbered": lambda: Batches(lambda rows: X[rows], Y, 7, seed=3),
    "shuffled": lambda: DataLoader(TensorDataset(X, Y), 7, shuffle=True, collate_fn=augmented),
    "generator": lambda: DataLoader(
        TensorDataset(X, Y), 7, shuffle=True, generator=torch.Generator().manual_seed(5), collate_fn=augmented
    ),
    "drawing": Drawing,
    "sampler": loader(sampler=lambda: RandomSampler(X, replacement=True, num_samples=33, generator=seeded())),
    "grouped": loader(batch_sampler=lambda: BatchSampler(RandomSampler(X, generator=seeded()), 7, drop_last=False)),
    "own sampler": loader(batch_sampler=Shuffled),
    "own noise": loader(dataset=lambda: Noisy(np.random.default_rng(5))),
    "old noise": loader(dataset=lambda: Noisy(np.random.RandomState(5))),
    "function": of_a_function,
}
WORKERS: dict[str, Callable[[], Any]] = {
    "workers": loader(shuffle=True, num_workers=2, collate_fn=augmented),
    "persistent": loader(shuffle=True, num_workers=2, persistent_workers=True, collate_fn=augmented),
    "persistent generator": loader(
        shuffle=True, num_workers=2, persistent_workers=True, generator=seeded, collate_fn=augmented
    ),
}


class KilledError(Exception):
    pass


def killed_after(step: int) -> Callable[[Progress], None]:
    def watch(now: Progress) -> None:
        if now.step == step:
            raise KilledError

    return watch


def trained(
    source: str, options: TrainOptions, checkpoint: Checkpointing | None = None, kill: int = 0
) -> tuple[nn.Module, History]:
    model = net()
    torch.manual_seed(kill)  # nothing may depend on what the process drew before
    history = fit(
        model,
        {**SOURCES, **WORKERS}[source](),
        epochs=EPOCHS,
        options=options,
        checkpoint=checkpoint,
        progress=killed_after(kill),
    )
    return model, history


def resumed(
    source: str, options: TrainOptions, folder: Path, kills: tuple[int, ...], every: int = 2
) -> tuple[nn.Module, History]:
    checkpoint = Checkpointing(folder, every=every)
    for kill in kills:
        with pytest.raises(KilledError):
            trained(source, options, checkpoint, kill)
    return trained(source, options, checkpoint)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kill", [1, 5, 12])  # before any checkpoint, at the end of an epoch, within one
def test_a_killed_run_ends_with_the_same_weights(source: str, kill: int, tmp_path: Path) -> None:
    options = TrainOptions(lr=0.1, warmup=2)
    whole, history = trained(source, options)
    again, later = resumed(source, options, tmp_path, (kill,))
    assert same(whole, again)
    assert (history.losses, history.steps) == (later.losses, later.steps) == (later.losses, 15)


@pytest.mark.parametrize("source", WORKERS)
@pytest.mark.parametrize("kill", [5, 12])
def test_a_killed_run_with_processes_that_load(source: str, kill: int, tmp_path: Path) -> None:
    whole, history = trained(source, TrainOptions())
    again, later = resumed(source, TrainOptions(), tmp_path, (kill,))
    assert same(whole, again)
    assert history.losses == later.losses


@pytest.mark.parametrize("source", [*SOURCES, *WORKERS])
def test_the_same_seed_gives_the_same_weights_whatever_the_loader_did_before(source: str) -> None:
    batches = {**SOURCES, **WORKERS}[source]()
    dice = Dice.of(batches)
    state = dice.state()
    models = [net(), net()]
    for model in models:
        dice.put(state)
        fit(model, batches, epochs=2)
    assert same(*models)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_killed_again_and_again_with_accumulated_batches(optimizer: str, tmp_path: Path) -> None:
    options = TrainOptions(optimizer, lr=0.05, gradients=Gradients(accumulate=2, clip=0.5), mixed_precision="bf16")
    whole, history = trained("shuffled", options)
    again, later = resumed("shuffled", options, tmp_path, (2, 3, 3, 5, 9), every=1)
    assert same(whole, again)
    assert (history.losses, later.steps) == (later.losses, 9)


def test_a_cut_model_with_its_plans_is_in_the_checkpoint(tmp_path: Path) -> None:
    small = secateur.prune(net(), X[:2], "channels=0.5").model
    fit(small, SOURCES["list"](), epochs=1, checkpoint=Checkpointing(tmp_path, every=5))
    again = secateur.load(net(), tmp_path / "step-000000005" / "model.safetensors")
    assert same(small, again)


@pytest.mark.parametrize("kill", [3, 8, 14])
def test_masks_that_change_while_it_trains(kill: int, tmp_path: Path) -> None:
    """Masked weights are zero throughout, and what lies behind them is trained on."""

    def run(kill: int, checkpoint: Checkpointing | None) -> nn.Module:
        model = net()
        masks = secateur.masks.mask(model, 0.3, scope="layer")

        def watch(now: Progress) -> None:
            if now.step == 7:
                masks.update(0.6)
            killed_after(kill)(now)

        fit(model, SOURCES["list"](), epochs=EPOCHS, checkpoint=checkpoint, progress=watch)
        return model

    whole = run(0, None)
    with pytest.raises(KilledError):
        run(kill, Checkpointing(tmp_path, every=2))
    again = run(0, Checkpointing(tmp_path, every=2))
    assert same(whole, again)
    assert int((again[0].weight == 0).sum()) == round(0.6 * 24)


def test_the_last_ones_stay_and_nothing_is_pickled(tmp_path: Path) -> None:
    trained("list", TrainOptions(), Checkpointing(tmp_path, every=2, keep=3))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step-{step:09}" for step in (10, 12, 14)]
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json"}


def test_steps_that_were_done_are_not_done_again(tmp_path: Path) -> None:
    seen: list[int] = []
    checkpoint = Checkpointing(tmp_path, every=4)
    with pytest.raises(KilledError):
        trained("list", TrainOptions(), checkpoint, kill=11)
    fit(net(), SOURCES["list"](), epochs=EPOCHS, checkpoint=checkpoint, progress=lambda now: seen.append(now.step))
    assert seen == list(range(9, 16))


def test_a_source_that_can_start_anywhere_loads_nothing_twice(tmp_path: Path) -> None:
    loaded: list[int] = []

    def load(rows: Any) -> Tensor:
        loaded.append(len(rows))
        return X[rows]

    for kill in (4, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SOURCES, "counted", lambda: Batches(load, Y, 7, seed=3))
            if kill:
                with pytest.raises(KilledError):
                    trained("counted", TrainOptions(), Checkpointing(tmp_path, every=1), kill)
                loaded.clear()
            else:
                trained("counted", TrainOptions(), Checkpointing(tmp_path, every=1))
    assert len(loaded) == 15 - 3


def with_optimizer(model: nn.Module) -> dict[str, Any]:
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}


CHANGES: dict[str, tuple[str, Any]] = {
    "options": ("  lr      0.02   0.5\n  warmup  0      9\n", {"options": TrainOptions(lr=0.5, warmup=9)}),
    "gradients": ("  accumulate  1      2\n", {"options": TrainOptions(gradients=Gradients(2))}),
    "length": ("  length  3 x 5 batches  4 x 5 batches\n", {"epochs": 4}),
    "model": ("  model  ", {"model": net(1)}),
    "teacher": ("  teacher  none   ", {"teacher": net(1)}),
    "optimizer": ("  optimizer of its own  none   ", lambda: with_optimizer(net())),
    "generators": ("  generators  none   Generator\n", {"batches": SOURCES["generator"]()}),
    "nothing": ("  data  a\n", {"checkpoint": {}}),
    "data": ("  data  a      b\n", {"checkpoint": {"data": "b"}}),
}


@pytest.mark.parametrize("part", CHANGES)
def test_the_checkpoints_of_another_run_are_refused(part: str, tmp_path: Path) -> None:
    message, change = CHANGES[part]
    change = change() if callable(change) else change
    about = change.get("checkpoint", {"data": "a"})
    trained("list", TrainOptions(), Checkpointing(tmp_path, every=5, about={"data": "a"}))
    arguments = {"model": net(), "batches": SOURCES["list"](), "epochs": EPOCHS, **change}
    arguments["checkpoint"] = Checkpointing(tmp_path, about=about)
    with pytest.raises(FileError) as caught:
        fit(**arguments)
    head, names, *rows = str(caught.value).splitlines()
    assert (head, names.split()) == (f"{tmp_path}/step-000000015 belongs to another run", ["there", "here"])
    assert message in "\n".join(rows)
    assert "give another folder, or delete this one to start over" in str(caught.value)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a truncated model": lambda at: os.truncate(at / "model.safetensors", 100),
    "a flipped bit": lambda at: flip(at / "state.safetensors"),
    "a missing file": lambda at: (at / "state.safetensors").unlink(),
    "no head": lambda at: (at / "checkpoint.json").write_text("{"),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over(damage: str, tmp_path: Path) -> None:
    whole, _ = trained("shuffled", TrainOptions())
    with pytest.raises(KilledError):
        trained("shuffled", TrainOptions(), Checkpointing(tmp_path, every=3), kill=14)
    DAMAGE[damage](tmp_path / "step-000000012")
    with pytest.warns(UserWarning, match="step-000000012 cannot be read: .*; trying the one before it"):
        again, _ = trained("shuffled", TrainOptions(), Checkpointing(tmp_path, every=3))
    assert same(whole, again)


def test_nothing_but_damaged_checkpoints(tmp_path: Path) -> None:
    trained("list", TrainOptions(), Checkpointing(tmp_path, every=15))
    DAMAGE["no head"](tmp_path / "step-000000015")
    with (
        pytest.warns(UserWarning, match="cannot be read"),
        pytest.raises(FileError, match=r"can be read\n.*JSONDecodeError.*\ndelete the folder to start over"),
    ):
        trained("list", TrainOptions(), Checkpointing(tmp_path))


def full_disk(patch: pytest.MonkeyPatch, writes: int) -> None:
    """After so many files there is no room."""
    import safetensors.torch

    done, real = [0], safetensors.torch.save_file

    def save_file(*arguments: Any) -> None:
        done[0] += 1
        if done[0] > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments)

    patch.setattr(safetensors.torch, "save_file", save_file)


@pytest.mark.parametrize("writes", [4, 5])
def test_a_full_disk_leaves_earlier_checkpoints_whole(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = trained("shuffled", TrainOptions())
    with monkeypatch.context() as patch:
        full_disk(patch, writes)
        with pytest.raises(FileError) as caught:
            trained("shuffled", TrainOptions(), Checkpointing(tmp_path, every=4))
    assert f"the checkpoint after step 12 cannot be written to {tmp_path}: No space left on device" in str(caught.value)
    assert "intact: step-000000004, step-000000008; training resumes from there\nfree some space" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000004", "step-000000008"]
    assert same(whole, trained("shuffled", TrainOptions(), Checkpointing(tmp_path, every=4))[0])


def test_a_full_disk_at_the_first_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_disk(monkeypatch, 0)
    with pytest.raises(FileError, match="No space left on device\nthere are none before it\nfree some space"):
        trained("list", TrainOptions(), Checkpointing(tmp_path, every=4))


def test_what_a_killed_writer_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".writing-abcd").mkdir(parents=True)
    trained("list", TrainOptions(), Checkpointing(tmp_path, every=15))
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000015"]


def test_what_the_user_keeps_beside_is_left_alone(tmp_path: Path) -> None:
    options = TrainOptions(lr=0.1)
    with pytest.raises(KilledError):
        trained("shuffled", options, Checkpointing(tmp_path, every=2), 5)
    copy, notes = tmp_path / "step-000000004-best", tmp_path / "step-by-step-notes"
    shutil.copytree(tmp_path / "step-000000004", copy)
    notes.mkdir()
    again, _ = trained("shuffled", options, Checkpointing(tmp_path, every=2))
    assert same(again, trained("shuffled", options)[0])
    assert copy.is_dir()
    assert notes.is_dir()
    assert steps_in(tmp_path) == [12, 14]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"no checkpoints can be written to .*file/deep: Not a directory"):
        trained("list", TrainOptions(), Checkpointing(tmp_path / "file" / "deep"))


def test_a_folder_that_is_read_only_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**given: Any) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("secateur.train.checkpoint.tempfile.mkdtemp", refuse)
    with pytest.raises(FileError, match=r"no checkpoints can be written to .*: Read-only file system; give another"):
        trained("list", TrainOptions(), Checkpointing(tmp_path), kill=1)


@pytest.mark.parametrize("name", ["every", "keep"])
def test_numbers_out_of_range(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0; it must be at least 1"):
        Checkpointing("here", **{name: 0})
    with pytest.raises(InputError, match=f"{name} is '5', which is not a whole number; it must be at least 1"):
        Checkpointing("here", **{name: "5"})  # type: ignore[arg-type]


def test_an_optimizer_of_more_than_the_model(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(InputError, match="SGD holds a parameter that Sequential does not have, so no checkpoint can"):
        fit(model, SOURCES["list"](), epochs=1, optimizer=optimizer, checkpoint=Checkpointing(tmp_path, every=1))
