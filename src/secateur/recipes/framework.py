"""What recipes share: what they are given, what they return, and the few steps that all of them take."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from secateur.anatomy.running import seeded
from secateur.base.text import columns
from secateur.cost.count import count
from secateur.data import Batches, Data, Source
from secateur.errors import InputError


def to_stderr(line: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{line}\n")


@dataclass(frozen=True)
class Options:
    """What every recipe is given.

    quick: end within 3 minutes on 2 cores. out: a folder for its files, which exists. say: takes lines of progress.
    """

    quick: bool = False
    out: Path | None = None
    seed: int = 0
    say: Callable[[str], None] = to_stderr


@dataclass(frozen=True)
class Row:
    """One line of the table method x figures.

    metric: such as {"dense": .9, "after_cut": .5, "finetuned": .89, "scratch": .88}; what was not measured is absent.
    more: anything else that JSON can hold.
    """

    method: str
    params: int
    macs: int
    metric: dict[str, float]
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a recipe found; `print` shows the table.

    claim: that of its source. data: how our data differ from the source's. metric: the name of the figures in the rows;
    those of accuracy are shown in percent. columns: what of a row's `more` the table shows too.

    >>> print(Result("r", "halves are as good", "MNIST", (Row("l1", 50, 400, {"after_cut": 0.25}),)))
    claim: halves are as good
    data:  MNIST
    <BLANKLINE>
    method  params  MACs  after cut
    l1          50   400    25.00 %
    """

    recipe: str
    claim: str
    data: str
    rows: tuple[Row, ...]
    more: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "accuracy"
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"claim: {self.claim}", f"data:  {self.data}", "", *table(self)])


def table(result: Result) -> list[str]:
    """The lines of the table: method, parameters, MACs, and every figure that any row has."""
    keys = list(dict.fromkeys(key for row in result.rows for key in row.metric))
    head = ["method", "params", "MACs", *(key.replace("_", " ") for key in keys), *result.columns]
    rows = [
        [
            *(row.method, f"{row.params:,}", f"{row.macs:,}"),
            *(shown(row.metric.get(key), result.metric) for key in keys),
            *(str(row.more.get(key, "")) for key in result.columns),
        ]
        for row in result.rows
    ]
    return columns([head, *rows], right=range(1, 3 + len(keys)))


def shown(value: float | None, metric: str) -> str:
    """A figure as a reader expects it: accuracy in percent, nothing where nothing was measured.

    >>> shown(0.9876, "accuracy"), shown(0.01234, "mse"), shown(None, "mse")
    ('98.76 %', '0.01234', '')
    """
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.4g}"


def needs(module: str, extra: str) -> ModuleType:
    """A module that not everybody has installed. Raises `InputError` with the command that installs it.

    >>> needs("no_such_library.models", "vision")
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: no_such_library is not installed; install it with: pip install 'secateur[vision]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        library = module.partition(".")[0]
        raise InputError(f"{library} is not installed; install it with: pip install 'secateur[{extra}]'") from error


def size(model: nn.Module, example_inputs: Any) -> tuple[int, int]:
    """Parameters and MACs of one call.

    >>> import torch
    >>> size(nn.Linear(4, 2), torch.zeros(1, 4))
    (10, 8)
    """
    counted = count(model, example_inputs)
    return counted.params, counted.macs


def scratch(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with random weights, as its layers draw them by default: what the same architecture is worth untrained.

    Raises `InputError` for a module that holds parameters and cannot draw them anew.

    >>> model = nn.Linear(4, 2)
    >>> scratch(model).weight.equal(scratch(model).weight), scratch(model).weight.equal(model.weight)
    (True, False)
    """
    fresh = copy.deepcopy(model)
    with seeded(seed):
        for name, module in fresh.named_modules():
            draw = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if draw is not None:
                draw()
            elif any(True for _ in module.parameters(recurse=False)):
                raise InputError(
                    f"{type(module).__name__} {name!r} holds parameters and has no reset_parameters(); give it one"
                )
    return fresh


def subset(data: Data, train: int | None = None, test: int | None = None, seed: int = 0) -> Data:
    """`train` and `test` examples of the data (None: all), as many of each class as of any other, drawn by the seed.

    Raises `InputError` for data of which single examples cannot be had.

    >>> import torch
    >>> every = Batches(lambda i: torch.zeros(len(i), 1), torch.arange(100) % 10, batch_size=8)
    >>> few = subset(Data(every, every, 10), train=20)
    >>> few.train.targets.bincount().tolist(), len(few.test.targets)
    ([2, 2, 2, 2, 2, 2, 2, 2, 2, 2], 100)
    """
    return replace(data, train=_some(data.train, train, seed), test=_some(data.test, test, seed))


def of_classes(data: Data, classes: Sequence[int]) -> Data:
    """The examples of these classes alone, which are numbered anew in this order.

    Raises `InputError` for a class that is not there, fewer than two, and data of which single examples cannot be had.

    >>> import torch
    >>> every = Batches(lambda i: torch.zeros(len(i), 1), torch.arange(100) % 10, batch_size=8)
    >>> pets = of_classes(Data(every, every, 10), [5, 3])
    >>> pets.train.targets.bincount().tolist(), pets.num_classes
    ([10, 10], 2)
    """
    if len(set(classes)) < 2 or len(set(classes)) < len(classes):
        raise InputError(f"classes {', '.join(map(str, classes))}: two or more different ones")
    return Data(_only(data.train, classes), _only(data.test, classes), len(classes))


def _only(source: Source, classes: Sequence[int]) -> Source:
    if not isinstance(source, Batches):
        raise InputError(f"{type(source).__name__} gives whole batches, of which no classes can be drawn")
    is_one = source.targets[:, None] == torch.tensor(classes)  # (examples, classes)
    missing = [number for number, any_is in zip(classes, is_one.any(0).tolist(), strict=True) if not any_is]
    if missing:
        raise InputError(f"no examples of class {missing[0]}; there are {sorted(set(source.targets.tolist()))}")
    chosen = is_one.any(1).nonzero().flatten()
    return replace(_picked(source, chosen.numpy()), targets=is_one[chosen].int().argmax(1))


def _some(source: Source, count: int | None, seed: int) -> Source:
    if count is None:
        return source
    if not isinstance(source, Batches):
        raise InputError(f"{type(source).__name__} gives whole batches, of which no {count} examples can be drawn")
    if count >= len(source.targets):
        return source
    return _picked(source, stratified(source.targets, count, seed))


def _picked(source: Batches, chosen: NDArray[np.int64]) -> Batches:
    load: Callable[[NDArray[np.int64]], Tensor] = source.load
    return replace(source, load=lambda indices: load(chosen[indices]), targets=source.targets[chosen])


def stratified(labels: Tensor, count: int, seed: int) -> NDArray[np.int64]:
    """Places of `count` examples in `labels: (n,)`, in order, as many of each class as of any other, give or take one.

    Classes with too few examples give all that they have; the others make up for them.

    >>> import torch
    >>> labels = torch.tensor([0, 0, 0, 1, 1, 2])
    >>> labels[stratified(labels, 4, seed=0)].tolist() in ([0, 0, 1, 2], [0, 1, 1, 2])
    True
    """
    rng = np.random.default_rng(seed)
    label = labels.numpy()
    shuffled = rng.permutation(len(label))
    turn = np.empty(len(label), np.int64)  # the how-many-th of its class an example is, in shuffled order
    for one in np.unique(label):
        places = shuffled[label[shuffled] == one]
        turn[places] = np.arange(len(places))
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:count])


__all__ = ["Options", "Result", "Row", "needs", "scratch", "shown", "size", "stratified", "subset", "table"]
