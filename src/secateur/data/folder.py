"""Folders of images with one sub-folder per class, read with Pillow as they are needed.

An image is converted to RGB, its shorter side resized to `image_size`, its centre cropped, and it is normalised by the
mean and standard deviation of ImageNet. There is no augmentation.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.base.text import counted, listed
from secateur.data.batches import Batches, Data, Request
from secateur.errors import FileError, InputError, nearest

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def load_folder(request: Request) -> Data:
    """Load images whose classes are the names of sub-folders, the same in both folders.

    Raises `InputError` if a path is missing, the folders have no classes or different ones, a class has no image, or
    Pillow is not installed.
    """
    train, test = _folder(request.train_path, "train"), _folder(request.test_path, "test")
    check_pillow()
    classes = _same_classes(train, test)
    return Data(
        train=_batches(train, classes, request, request.seed),
        test=_batches(test, classes, request, None),
        num_classes=len(classes),
    )


def read_image(path: Path, size: int) -> Tensor:
    """Return an image as (3, size, size) float32. Raises `FileError` if it cannot be decoded."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            pixels = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    # The decoder may raise anything for a damaged image.
    except Exception as error:
        raise FileError(f"image {path} cannot be read: {error}; remove or replace it") from error
    array = (np.asarray(pixels, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(array.transpose(2, 0, 1).copy())


def check_pillow() -> None:
    """Raise `InputError` if Pillow is not installed."""
    try:
        importlib.import_module("PIL")
    except ImportError as error:
        raise InputError("Pillow is not installed; install it with: pip install 'secateur[vision]'") from error


def _folder(path: str | None, split: str) -> Path:
    if path is None:
        raise InputError(f"{split}_path (--{split}-path) is missing; name a folder with one sub-folder per class")
    if not Path(path).is_dir():
        raise InputError(
            f"{split}_path (--{split}-path) {path} is not a folder{nearest(Path(path).name, _names(Path(path).parent))}"
        )
    return Path(path)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*") if path.is_dir()]


def _same_classes(train: Path, test: Path) -> list[str]:
    """Return the names of the classes, which must be the same in both folders."""
    found, other = ([folder.name for folder in _classes(path)] for path in (train, test))
    if set(found) != set(other):
        lines = [
            f"\n  only in {folder}: {listed((repr(n) for n in names if n not in known), 8)}"
            for folder, names, known in ((train, found, other), (test, other, found))
            if set(names) - set(known)
        ]
        raise InputError(
            f"the classes of the training and the test folder differ{''.join(lines)}\n"
            "every class needs a sub-folder of the same name in both; rename, add or remove these"
        )
    return found


def _classes(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        holds = counted(sum(1 for _ in folder.iterdir()), "file")
        raise InputError(
            f"{folder} has no sub-folders (and {holds}); put the images of each class into a sub-folder of its name"
        )
    return found


def _images(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise InputError(f"class folder {folder} holds no image; known endings are {', '.join(sorted(SUFFIXES))}")
    return found


def _batches(folder: Path, classes: Sequence[str], request: Request, seed: int | None) -> Batches:
    paths: list[Path] = []
    targets: list[int] = []
    for sub in _classes(folder):
        images = _images(sub)
        paths += images
        targets += [classes.index(sub.name)] * len(images)

    def load(indices: NDArray[np.int64]) -> Tensor:
        return torch.stack([read_image(paths[index], request.image_size) for index in indices])

    return Batches(load, torch.tensor(targets), request.batch_size, seed)
