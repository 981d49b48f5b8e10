"""The entry point to data: from a name, a folder or a function in a file to training and test batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from secateur.base.table import Table
from secateur.base.text import listed
from secateur.data.batches import Data, Request
from secateur.data.cifar import load_cifar
from secateur.data.folder import load_folder
from secateur.data.functions import load_from_function
from secateur.data.mnist import FASHION_MNIST, MNIST
from secateur.errors import InputError, nearest

DATASETS: Table[str, Callable[[Request], Data]] = Table(
    "data sets named",
    {
        "mnist": MNIST.load,
        "fashion-mnist": FASHION_MNIST.load,
        "cifar10-jpeg": load_cifar,
        "folder": load_folder,
    },
)
"""The built-in names."""


def load_data(
    spec: str,
    *,
    train_path: str | None = None,
    test_path: str | None = None,
    image_size: int = 224,
    batch_size: int = 64,
    seed: int = 0,
) -> Data:
    """Return training and test batches of x: (n, ...) float32 and y: (n,) int64.

    `spec` is a built-in name; `folder`, with `train_path` and `test_path` that hold one sub-folder per class; a folder
    that contains `train` and `test` (or `val`); or `path/file.py:function`, see `secateur.data.functions`. Images of
    folders become `image_size` x `image_size` pixels. Training batches hold at most `batch_size` examples and are
    shuffled by `seed` and epoch; test batches are in order. Raises `InputError` for an unknown name or missing files.

    >>> load_data("minst")
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: no data 'minst'; known: mnist, fashion-mnist, cifar10-jpeg, folder, \
a folder with train and test, path/file.py:function; did you mean 'mnist'?
    """
    request = Request(train_path, test_path, image_size, batch_size, seed)
    for name, least in {"image_size": 1, "batch_size": 1, "seed": 0}.items():
        if getattr(request, name) < least:
            raise InputError(f"{name} is {getattr(request, name)}; it must be at least {least}")
    if spec in DATASETS:
        return DATASETS[spec](request)
    if spec and Path(spec).is_dir():
        return load_folder(_inside(Path(spec), request))
    if ".py:" in spec:
        return load_from_function(spec, request)
    known = ", ".join([*DATASETS, "a folder with train and test", "path/file.py:function"])
    raise InputError(f"no data {spec!r}; known: {known}{nearest(spec, DATASETS)}")


def _inside(folder: Path, request: Request) -> Request:
    if not (request.train_path or (folder / "train").is_dir()):
        holds = listed(sorted(repr(path.name) for path in folder.iterdir() if path.is_dir()), 8) or "no folders"
        raise InputError(
            f"{folder} does not contain a folder 'train', but {holds}\n"
            "give a folder that holds train and test, or name both: train_path (--train-path), test_path (--test-path)"
        )
    test = next((folder / name for name in ("test", "val") if (folder / name).is_dir()), folder / "test")
    return replace(
        request,
        train_path=request.train_path or str(folder / "train"),
        test_path=request.test_path or str(test),
    )
