"""The data that the options name, and the metric of a model on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secateur.base.progress import watched
from secateur.base.text import first_line
from secateur.cli.options import DataOptions
from secateur.cli.progress import working
from secateur.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from secateur.data import Batch, Data

IMAGE_SIZE = 224


@dataclass(frozen=True)
class MetricReader:
    """Training and test batches, and the metric that models are evaluated with."""

    data: Data
    metric: Callable[[Any, Any], Any]
    name: str

    def example(self) -> Batch:
        """Return the first test batch. Raises `InputError` if there is none."""
        found = next(iter(self.data.test), None)
        if found is None:
            raise InputError("the test data have no batches, so nothing can be measured")
        return found

    def rehearse(self, model: nn.Module) -> None:
        """Evaluate one batch. Raises `InputError` if model, data and metric do not fit together."""
        from secateur.train import evaluate

        example = self.example()
        try:
            evaluate(model, [example], self.metric)
        except InputError:
            raise
        # A model or metric that cannot take the data may raise anything.
        except Exception as error:
            raise InputError(
                f"the model cannot be evaluated on this data: {type(error).__name__}: {first_line(error)}\n"
                f"  inputs   {_describe(example[0])}\n  targets  {_describe(example[1])}\n"
                f"check --data, --input and --metric (now {self.name})"
            ) from error

    def score(self, model: nn.Module, when: str) -> float:
        """Return the metric over all test batches."""
        from secateur.train import evaluate

        return evaluate(model, watched(f"{self.name} {when}", self.data.test, len(self.data.test)), self.metric)


def open_judge(options: DataOptions, seed: int, shape: str | None = None) -> MetricReader | None:
    """Return the data that the options name, or None. Raises `InputError` for options that need data without data."""
    from secateur.data import load_data

    if options.data is None and not (options.train_path or options.test_path):
        _check_unused(options)
        return None
    with working("opening data"):
        data = load_data(
            options.data or "folder",
            train_path=options.train_path,
            test_path=options.test_path,
            image_size=_side(shape) if options.image_size is None else options.image_size,
            batch_size=options.batch_size,
            seed=seed,
        )
    return MetricReader(data, *_metric(options.metric))


def _check_unused(options: DataOptions) -> None:
    for name in ("metric", "image_size"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name.replace('_', '-')} is given, but no data; add --data")


def _side(shape: str | None) -> int:
    """Return the side of the square images that an input shape asks for, or the default."""
    sizes = (shape or "").partition(":")[0].split("x")
    return int(sizes[-1]) if len(sizes) == 4 and sizes[-1] == sizes[-2] and sizes[-1].isdigit() else IMAGE_SIZE


def _metric(spec: str | None) -> tuple[Callable[[Any, Any], Any], str]:
    from secateur.models import load_function
    from secateur.train import accuracy

    if spec is None:
        return accuracy, "accuracy"
    return load_function(spec), spec.rpartition(":")[2]


@contextlib.contextmanager
def unfit(fact: str, options: str) -> Iterator[None]:
    """Raise anything that a model or a loss raises for unsuitable data as an `InputError`."""
    from secateur.errors import PruningError

    try:
        yield
    except PruningError:
        raise
    except Exception as error:
        raise InputError(f"{fact}: {type(error).__name__}: {first_line(error)}\ncheck {options}") from error


def _describe(value: Any) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return type(value).__name__
