"""CIFAR-10 (JPEG q75): the images of CIFAR-10 after JPEG at quality 75, which costs several points of accuracy.

So it is never called CIFAR-10 here, and its figures are not comparable with published ones. The file `cifar10_jpeg.npz`
holds the JPEG bytes of all images end to end in `jpeg`, their boundaries in `offset: (n + 1,)`, `label: (n,)` and
`is_train: (n,)`, sorted by class. Decoding takes about ten seconds, so the pixels are cached in the temporary folder of
the system.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import itertools
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.data.augment import flip_and_shift
from secateur.data.batches import Batches, Data, Request
from secateur.data.folder import MEAN, STD, check_pillow
from secateur.errors import FileError, InputError

NAME = "CIFAR-10 (JPEG q75)"
FILE = "cifar10_jpeg.npz"
CLASSES = 10
SIDE = 32


def load_cifar(request: Request) -> Data:
    """Return batches of x: (n, 3, 32, 32), normalised by the mean and standard deviation of ImageNet, and y: (n,).

    Training images are mirrored and shifted at random, by seed and epoch; see `Batches.augment`. Raises `InputError`
    when the file is not found, and `FileError` when it is damaged.
    """
    if request.train_path or request.test_path:
        raise InputError(f"{NAME} takes no train or test path; set SECATEUR_DATA to the folder that holds {FILE}")
    path = find()
    label, is_train = _labels(path)
    pixels = _pixels(path)
    return Data(
        train=_batches(pixels, label, is_train, request.batch_size, request.seed),
        test=_batches(pixels, label, ~is_train, request.batch_size, None),
        num_classes=CLASSES,
    )


def find() -> Path:
    """Return the first file found: in SECATEUR_DATA, then in shared/data next to the checkout."""
    places = list(_places())
    for place in places:
        if place.is_file():
            return place
    looked = "".join(f"\n  {place}" for place in places)
    raise InputError(
        f"{NAME} is not on this machine; set SECATEUR_DATA to the folder that holds {FILE}\nlooked in:{looked}"
    )


def _places() -> Iterator[Path]:
    if root := os.environ.get("SECATEUR_DATA"):
        yield Path(root, FILE)
    yield Path(__file__).resolve().parents[4] / "shared" / "data" / FILE


def _batches(
    pixels: NDArray[np.uint8], label: NDArray[np.int64], chosen: NDArray[np.bool_], batch_size: int, seed: int | None
) -> Batches:
    places = np.flatnonzero(chosen)

    def load(indices: NDArray[np.int64]) -> Tensor:
        return normalised(torch.from_numpy(pixels[places[indices]]))

    augment = None if seed is None else flip_and_shift
    return Batches(load, torch.from_numpy(label[places]), batch_size, seed, augment)


def normalised(pixels: Tensor) -> Tensor:
    """Return bytes (n, h, w, 3) as (n, 3, h, w) float32, normalised by ImageNet's mean and standard deviation."""
    x = pixels.permute(0, 3, 1, 2).to(torch.float32).contiguous() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """Yield the arrays of the file. Raises `FileError` if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise FileError(f"{path} cannot be read: {error}; copy it again") from error


def _labels(path: Path) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    with _reading(path) as arrays:
        label, is_train, offset = arrays["label"].astype(np.int64), arrays["is_train"].astype(bool), arrays["offset"]
    if not len(label) == len(is_train) == len(offset) - 1:
        raise FileError(
            f"{path} holds {len(offset) - 1} images, {len(label)} labels and {len(is_train)} splits; copy it again"
        )
    if len(label) and not 0 <= label.min() <= label.max() < CLASSES:
        raise FileError(f"{path} has labels from {label.min()} to {label.max()}, not 0 to {CLASSES - 1}; copy it again")
    return label, is_train


def _pixels(path: Path) -> NDArray[np.uint8]:
    """Return (n, 32, 32, 3), memory-mapped from the cache if an earlier call has decoded the images."""
    cache = _cache(path)
    with contextlib.suppress(OSError, ValueError, EOFError):  # missing or incomplete: decoded again
        return np.load(cache, mmap_mode="r", allow_pickle=False)
    pixels = _decoded(path)
    with contextlib.suppress(OSError):  # no space; the next call decodes again
        _keep(pixels, cache)
    return pixels


def _cache(path: Path) -> Path:
    """Return the path of the cache; its name depends on the file and the user."""
    found = path.resolve().stat()
    key = f"{path.resolve()} {found.st_size} {found.st_mtime_ns} {os.getuid() if hasattr(os, 'getuid') else ''}"
    return Path(tempfile.gettempdir(), f"secateur-cifar10-jpeg-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy")


def _keep(pixels: NDArray[np.uint8], cache: Path) -> None:
    handle, part = tempfile.mkstemp(prefix=cache.stem, suffix=".part", dir=cache.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, pixels)
        Path(part).replace(cache)  # atomic, for concurrent runs
    except OSError:
        Path(part).unlink(missing_ok=True)
        raise


def _decoded(path: Path) -> NDArray[np.uint8]:
    check_pillow()
    image = importlib.import_module("PIL.Image")
    with _reading(path) as arrays:
        jpeg, offset = arrays["jpeg"].tobytes(), arrays["offset"].tolist()
    pixels = np.empty((len(offset) - 1, SIDE, SIDE, 3), np.uint8)
    for place, (start, end) in enumerate(itertools.pairwise(offset)):
        try:
            pixels[place] = np.asarray(image.open(io.BytesIO(jpeg[start:end])).convert("RGB"))
        # The decoder may raise anything for a damaged image.
        except Exception as error:
            raise FileError(f"image {place} of {path} cannot be read: {error}; copy it again") from error
    return pixels


__all__ = ["NAME", "find", "load_cifar", "normalised"]
