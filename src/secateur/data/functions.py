"""Batches from a function of the user, `path/file.py:function`.

The function is called with `"train"` or `"test"` for every epoch and returns batches of (inputs, targets): a list, a
DataLoader, or a generator. It also receives those of `path`, `image_size`, `batch_size` and `seed` that it accepts.
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
    """The batches of `function(split, **options)`, which is called for each iteration over them."""

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
        # The length of a generator is found by counting, which takes as long as an epoch.
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
        """Yield the same batches; errors between them are reported as those of the function."""
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
        except Exception as error:  # a function of the user may raise anything
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"{self.where} failed on the split {self.split!r}: {type(error).__name__}: {first_line(error)}\n"
                f"  in {line.filename}, line {line.lineno}: {line.line}"
            ) from error


def load_from_function(spec: str, request: Request) -> Data:
    """Return both splits of a function; `num_classes` is unknown. Raises `InputError` if it takes no split."""
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
