"""Batches from a function of the user's own, `path/file.py:function`.

The function is called with `"train"` or `"test"`, anew for every epoch, and gives batches of (inputs, targets): a list,
a DataLoader, or a generator. Of `path`, `image_size`, `batch_size` and `seed` it is given those that it names.
"""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from secateur.base.text import first_line
from secateur.data.batches import Batch, Data, Request, pair_of
from secateur.errors import InputError, PruningError
from secateur.models.functions import load_function


@dataclass(frozen=True)
class FunctionBatches:
    """The batches that `function(split, **options)` gives, whenever they are gone through."""

    function: Callable[..., Iterable[Batch]]
    split: str
    options: dict[str, Any]
    where: str

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._told(self._call()):
            yield pair_of(batch, self.where)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        found = self._call()
        # A generator has no length but the one that counting finds, which takes as long as an epoch.
        return len(found) if isinstance(found, Sized) else sum(1 for _ in self._told(found))

    def _call(self) -> Iterable[Batch]:
        with self._failing():
            found = self.function(self.split, **self.options)
        if not isinstance(found, Iterable):
            raise InputError(
                f"{self.where} returned {type(found).__name__}\n"
                "return or yield batches of (inputs, targets), such as a DataLoader does"
            )
        return found

    def _told(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; what goes wrong between them is told as the function's."""
        with self._failing():
            left = iter(batches)
        while True:
            with self._failing():
                batch = next(left, left)
            if batch is left:
                return
            yield batch  # type: ignore[misc]

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except PruningError:
            raise
        except Exception as error:  # a function of the user's own may raise anything
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"{self.where} failed on the split {self.split!r}: {type(error).__name__}: {first_line(error)}\n"
                f"  in {line.filename}, line {line.lineno}: {line.line}"
            ) from error


def load_from_function(spec: str, request: Request) -> Data:
    """Both splits from one function; `num_classes` is unknown. Raises `InputError` when it takes no split."""
    function = load_function(spec)
    names = list(inspect.signature(function).parameters)
    if not names:
        raise InputError(
            f"{spec} takes no argument; write def {function.__name__}(split): with split 'train' or 'test'"
        )
    return Data(
        train=FunctionBatches(function, "train", _options(names[1:], request, request.train_path), spec),
        test=FunctionBatches(function, "test", _options(names[1:], request, request.test_path), spec),
        num_classes=None,
    )


def _options(names: list[str], request: Request, path: str | None) -> dict[str, Any]:
    offered = {"path": path, "image_size": request.image_size, "batch_size": request.batch_size, "seed": request.seed}
    return {name: value for name, value in offered.items() if name in names}
