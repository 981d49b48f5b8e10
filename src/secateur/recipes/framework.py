"""What recipes share: their options, their results, and a few common steps."""

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
    """Write a line of progress to stderr."""
    sys.stderr.write(f"{line}\n")


@dataclass(frozen=True)
class Options:
    """The options of every recipe.

    quick: finish within 3 minutes on 2 cores. out: an existing folder for files. say: called with lines of progress.
    """

    quick: bool = False
    out: Path | None = None
    seed: int = 0
    say: Callable[[str], None] = to_stderr


@dataclass(frozen=True)
class Row:
    """One row of the table of methods and figures.

    metric: such as {"dense": .9, "after_cut": .5, "finetuned": .89, "scratch": .88}; absent if not measured.
    more: anything else that JSON can hold.
    """

    method: str
    params: int
    macs: int
    metric: dict[str, float]
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The result of a recipe; `print` shows the table.

    claim: the claim of its source. data: how our data differ from the source's. metric: the name of the figures in the
    rows; accuracy is shown in percent. columns: keys of `more` that the table shows too.

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
    """Return the lines of the table: method, parameters, MACs, and every figure that any row has."""
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
    """Format a figure: accuracy in percent, an empty string if it was not measured.

    >>> shown(0.9876, "accuracy"), shown(0.01234, "mse"), shown(None, "mse")
    ('98.76 %', '0.01234', '')
    """
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.4g}"


def needs(module: str, extra: str) -> ModuleType:
    """Import an optional module. Raises `InputError` with the command that installs it.

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
    """Return the number of parameters, and the MACs of one call.

    >>> import torch
    >>> size(nn.Linear(4, 2), torch.zeros(1, 4))
    (10, 8)
    """
    counted = count(model, example_inputs)
    return counted.params, counted.macs


def scratch(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy with random weights, drawn by each layer's `reset_parameters`.

    Raises `InputError` for a module that holds parameters and has no such method.

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
    """Return `train` and `test` examples of the data (None: all), drawn by the seed with equally many of each class.

    Raises `InputError` for data that have only whole batches.

    >>> import torch
    >>> every = Batches(lambda i: torch.zeros(len(i), 1), torch.arange(100) % 10, batch_size=8)
    >>> few = subset(Data(every, every, 10), train=20)
    >>> few.train.targets.bincount().tolist(), len(few.test.targets)
    ([2, 2, 2, 2, 2, 2, 2, 2, 2, 2], 100)
    """
    return replace(data, train=_some(data.train, train, seed), test=_some(data.test, test, seed))


def of_classes(data: Data, classes: Sequence[int]) -> Data:
    """Return the examples of these classes alone; the classes are renumbered in this order.

    Raises `InputError` for a class without examples, fewer than two classes, and data that have only whole batches.

    >>> import torch
    >>> every = Batches(lambda i: torch.zeros(len(i), 1), torch.arange(100) % 10, batch_size=8)
    >>> pets = of_classes(Data(every, every, 10), [5, 3])
    >>> pets.train.targets.bincount().tolist(), pets.num_classes
    ([10, 10], 2)
    """
    if len(set(classes)) < 2 or len(set(classes)) < len(classes):
        raise InputError(f"classes {', '.join(map(str, classes))}; give two or more different ones")
    return Data(_only(data.train, classes), _only(data.test, classes), len(classes))


def _only(source: Source, classes: Sequence[int]) -> Source:
    if not isinstance(source, Batches):
        raise InputError(f"{type(source).__name__} yields whole batches, so classes cannot be selected")
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
        raise InputError(f"{type(source).__name__} yields whole batches, so {count} examples cannot be selected")
    if count >= len(source.targets):
        return source
    return _picked(source, stratified(source.targets, count, seed))


def _picked(source: Batches, chosen: NDArray[np.int64]) -> Batches:
    load: Callable[[NDArray[np.int64]], Tensor] = source.load
    return replace(source, load=lambda indices: load(chosen[indices]), targets=source.targets[chosen])


def stratified(labels: Tensor, count: int, seed: int) -> NDArray[np.int64]:
    """Return sorted indices of `count` examples in `labels: (n,)`, equally many of each class, give or take one.

    Classes with too few examples contribute all of them; the others make up for the rest.

    >>> import torch
    >>> labels = torch.tensor([0, 0, 0, 1, 1, 2])
    >>> labels[stratified(labels, 4, seed=0)].tolist() in ([0, 0, 1, 2], [0, 1, 1, 2])
    True
    """
    rng = np.random.default_rng(seed)
    label = labels.numpy()
    shuffled = rng.permutation(len(label))
    turn = np.empty(len(label), np.int64)  # rank of each example within its class, in shuffled order
    for one in np.unique(label):
        places = shuffled[label[shuffled] == one]
        turn[places] = np.arange(len(places))
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:count])


__all__ = ["Options", "Result", "Row", "needs", "scratch", "shown", "size", "stratified", "subset", "table"]
