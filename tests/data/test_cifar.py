from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secateur.data import Batches, cifar, load_data
from secateur.data.folder import MEAN, STD
from secateur.errors import FileError, InputError

Image = pytest.importorskip("PIL.Image", reason="needs secateur[vision]")


def content(images: int = 40) -> dict[str, Any]:
    """Plain squares, the grey level of which is six times their place; every fourth is for testing."""
    encoded = []
    for place in range(images):
        file = io.BytesIO()
        Image.new("RGB", (32, 32), (6 * place,) * 3).save(file, "JPEG", quality=75)
        encoded.append(file.getvalue())
    places = np.arange(images)
    return {
        "jpeg": np.frombuffer(b"".join(encoded), np.uint8),
        "offset": np.cumsum([0, *map(len, encoded)]),
        "label": (places * 10 // images).astype(np.uint8),  # sorted by class
        "is_train": places % 4 != 0,
    }


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(cifar.tempfile, "tempdir", str(tmp_path / "cache"))
    write(tmp_path)
    return tmp_path


def write(root: Path, **other: Any) -> None:
    np.savez(root / cifar.FILE, **{**content(), **other})


def levels(x: torch.Tensor) -> torch.Tensor:
    """The places of squares, from their normalised pixels."""
    return ((x[:, 0].mean((1, 2)) * STD[0] + MEAN[0]) * 255 / 6).round().long()


@pytest.mark.usefixtures("root")
def test_images_labels_and_splits() -> None:
    data = load_data("cifar10-jpeg", batch_size=64)
    ((x, y),) = data.test
    assert (x.dtype, tuple(x.shape), y.dtype, data.num_classes) == (torch.float32, (10, 3, 32, 32), torch.int64, 10)
    assert levels(x).tolist() == list(range(0, 40, 4))
    assert y.tolist() == [place * 10 // 40 for place in range(0, 40, 4)]
    assert x[0].amax((1, 2)).tolist() == pytest.approx([-m / s for m, s in zip(MEAN, STD, strict=True)], abs=0.05)


@pytest.mark.usefixtures("root")
def test_training_is_shuffled_and_augmented_by_epoch() -> None:
    train = load_data("cifar10-jpeg", batch_size=64, seed=1).train
    assert isinstance(train, Batches)
    ((x, y),), ((plain, same),) = train.epoch(0), train
    assert sorted(levels(plain).tolist()) == [place for place in range(40) if place % 4]
    assert (levels(plain) * 10 // 40).tolist() == y.tolist() == same.tolist()
    assert not torch.equal(x, plain)


def test_images_are_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = next(iter(load_data("cifar10-jpeg").test))[0]
    assert len(list((root / "cache").iterdir())) == 1
    monkeypatch.setattr(cifar, "_decoded", pytest.fail)
    assert torch.equal(next(iter(load_data("cifar10-jpeg").test))[0], first)


def test_another_file_is_decoded_anew(root: Path) -> None:
    load_data("cifar10-jpeg")
    short = content(20)
    np.savez(root / cifar.FILE, **short)
    assert sum(len(y) for _, y in load_data("cifar10-jpeg").test) == 5


def test_a_cache_that_is_not_whole_is_decoded_anew(root: Path) -> None:
    load_data("cifar10-jpeg")
    (cache,) = (root / "cache").iterdir()
    cache.write_bytes(cache.read_bytes()[:1000])
    assert len(next(iter(load_data("cifar10-jpeg").test))[0]) == 10
    assert cache.stat().st_size > 1000


def test_no_room_for_the_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cifar.np, "save", full)
    assert len(next(iter(load_data("cifar10-jpeg").test))[0]) == 10
    assert not list((root / "cache").iterdir())


def test_absent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [root / "no" / cifar.FILE, root / "nowhere" / cifar.FILE]
    monkeypatch.setattr(cifar, "_places", lambda: iter(places))
    with pytest.raises(InputError) as caught:
        load_data("cifar10-jpeg")
    assert str(caught.value) == (
        "CIFAR-10 (JPEG q75) is not on this machine; set SECATEUR_DATA to the folder that holds cifar10_jpeg.npz\n"
        f"looked in:\n  {places[0]}\n  {places[1]}"
    )


@pytest.mark.usefixtures("root")
def test_paths_are_not_for_it() -> None:
    with pytest.raises(InputError, match=r"CIFAR-10 \(JPEG q75\) takes no train or test path; set SECATEUR_DATA"):
        load_data("cifar10-jpeg", test_path="somewhere")


DAMAGE: dict[str, tuple[Any, str]] = {
    "empty": (lambda path: path.write_bytes(b""), r"cifar10_jpeg\.npz cannot be read: .*; copy it again"),
    "no npz": (lambda path: path.write_bytes(b"hello, world"), r"cannot be read: .*; copy it again"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-300]), r"cannot be read: .*; copy it again"),
    "a key": (lambda path: np.savez(path, label=np.zeros(3)), r"cannot be read: .*is_train.*; copy it again"),
    "pickled": (lambda path: write(path.parent, label=np.array([{}])), r"cannot be read: .*; copy it again"),
    "counts": (
        lambda path: write(path.parent, label=np.zeros(7, np.uint8)),
        r"holds 40 images, 7 labels and 40 splits; copy it again",
    ),
    "labels": (
        lambda path: write(path.parent, label=np.full(40, 11, np.uint8)),
        r"has labels from 11 to 11, not 0 to 9; copy it again",
    ),
    "an image": (
        lambda path: write(path.parent, offset=np.cumsum([0, 9, *np.diff(content()["offset"])[1:]])),
        r"image 0 of .*cifar10_jpeg\.npz cannot be read: .*; copy it again",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files(root: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    damage(root / cifar.FILE)
    with pytest.raises(FileError, match=message):
        load_data("cifar10-jpeg")
    assert not list((root / "cache").iterdir())


def test_the_real_file() -> None:
    try:
        cifar.find()
    except InputError as error:
        pytest.skip(str(error))
    data = load_data("cifar10-jpeg", batch_size=100)
    assert isinstance(data.train, Batches)
    assert isinstance(data.test, Batches)
    assert data.train.targets.bincount().tolist() == [5000] * 10
    assert data.test.targets.bincount().tolist() == [1000] * 10
    assert next(iter(data.train))[0].mean().abs() < 0.5
