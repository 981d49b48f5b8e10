from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from secateur.data import load_data
from secateur.data.mnist import FASHION_MNIST, MNIST, IdxDataset, read_idx
from secateur.errors import FileError, InputError


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("mnist", "fashion-mnist"):
        (tmp_path / name).mkdir()
        for split in ("train", "t10k"):
            write_idx(tmp_path / name / f"{split}-images-idx3-ubyte.gz", images)
            write_idx(tmp_path / name / f"{split}-labels-idx1-ubyte.gz", np.arange(5, dtype=np.uint8))
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("dataset", [MNIST, FASHION_MNIST], ids=lambda dataset: dataset.name)
@pytest.mark.usefixtures("root")
def test_images_are_normalised_and_labels_whole(dataset: IdxDataset, images: NDArray[np.uint8]) -> None:
    data = load_data(dataset.name, batch_size=8)
    ((x, y),) = data.test
    assert (x.dtype, tuple(x.shape), y.dtype, data.num_classes) == (torch.float32, (5, 1, 28, 28), torch.int64, 10)
    expected = (images[:, None] / 255 - dataset.mean) / dataset.std
    assert np.allclose(x.numpy(), expected, atol=1e-6)
    assert y.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("root")
def test_training_is_shuffled_by_seed() -> None:
    ((_, first),), ((_, again),), ((_, other),) = (load_data("mnist", seed=seed).train for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert sorted(first.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dataset", [MNIST, FASHION_MNIST], ids=lambda dataset: dataset.name)
def test_absent_files_name_the_command(dataset: IdxDataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    absent = replace(dataset, package="no_such_package_here" if dataset.package else "", folder=str(tmp_path / "no"))
    with pytest.raises(InputError) as caught:
        absent.find()
    assert f"{dataset.name} is not on this machine; install it with: {dataset.install}" in str(caught.value)
    assert f"\n  {tmp_path / dataset.name}" in str(caught.value)


def test_an_incomplete_folder_is_passed_over(root: Path) -> None:
    (root / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="fashion-mnist is not on this machine"):
        replace(FASHION_MNIST, folder=str(root / "no")).find()


def test_paths_are_not_for_mnist() -> None:
    with pytest.raises(InputError, match="mnist takes no train or test path; set SECATEUR_DATA"):
        load_data("mnist", train_path="somewhere")


def test_images_and_labels_must_agree(root: Path) -> None:
    write_idx(root / "mnist" / "train-labels-idx1-ubyte.gz", np.arange(4, dtype=np.uint8))
    with pytest.raises(FileError, match=r"\(5, 28, 28\) images and \(4,\) labels; install mnist again"):
        load_data("mnist")


DAMAGE = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-20]), "cannot be read: .*; install it again"),
    "no gzip": (lambda path: path.write_bytes(b"hello"), "cannot be read: Not a gzipped file"),
    "no idx": (
        lambda path: path.write_bytes(gzip.compress(b"hello world")),
        "is not an idx file of bytes: it begins with b'hel'",
    ),
    "header": (
        lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:9])),
        "ends within its header, after 9 bytes; install it again",
    ),
    "magic": (
        lambda path: path.write_bytes(gzip.compress(b"\0\0\x08")),
        "ends within its header, after 3 bytes; install it again",
    ),
    "short": (
        lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-9])),
        r"holds 3911 bytes of data, not the 3920 of \[5, 28, 28\]",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_files(tmp_path: Path, images: NDArray[np.uint8], kind: str) -> None:
    damage, message = DAMAGE[kind]
    path = tmp_path / "images.gz"
    write_idx(path, images)
    assert np.array_equal(read_idx(path), images)
    damage(path)
    with pytest.raises(FileError, match=message):
        read_idx(path)


def test_the_real_mnist() -> None:
    try:
        MNIST.find()
    except InputError as error:
        pytest.skip(str(error))
    data = load_data("mnist", batch_size=10_000)
    x = torch.cat([x for x, _ in data.train])
    assert (len(x), sum(len(y) for _, y in data.test)) == (60_000, 10_000)
    assert x.mean().abs() < 1e-3
    assert (x.std() - 1).abs() < 1e-3
