"""What the options say of calibration: examples of the training data, and the loss by which they are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional

from typer import Option

from secateur.cli.measuring import MetricReader
from secateur.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from secateur.data.batches import Source
    from secateur.graph.graph import Graph
    from secateur.statistics.sums import Statistics

# Optional[...], since typer evaluates these at run time.
# ruff: noqa: UP045


@dataclass(frozen=True)
class CalibrationOptions:
    """What is read from data."""

    panel: ClassVar[str] = "Data"

    calibrate: Annotated[
        Optional[int],
        Option(
            min=1, help="So many examples of the training data tell what matters, for --importance taylor and others."
        ),
    ] = None


@dataclass(frozen=True)
class RecoveryOptions:
    """What is done to the weights that are left."""

    panel: ClassVar[str] = "Data"

    recover: Annotated[
        list[str],
        Option(
            metavar="STEP",
            help="After the cut, from the examples of --calibrate and without training: lsq (least squares layer by "
            "layer), lsq_moments, shift, norms; repeatable, in this order.",
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True)
class Calibration:
    """Batches of training examples and a loss; none, where the options ask for none. recover: steps that read them."""

    batches: list[Any]
    loss: Callable[[Any, Any], Tensor]
    recover: list[str] = field(default_factory=list)

    def read(self, graph: Graph, importance: str, seed: int) -> Statistics | None:
        """What the importance needs to know of the batches."""
        from secateur.pruning import calibrated

        return calibrated(
            graph, importance, self.batches or None, self.loss, recover=self.recover, seed=seed, progress=True
        )


def check_calibration(
    options: CalibrationOptions, importance: str, has_data: bool, recover: Sequence[str] = ()
) -> None:
    """Raise what the options alone show to be wrong, before a model is built."""
    from secateur.importance import needs_of_importance
    from secateur.recover import named_steps

    needs = needs_of_importance(importance)
    if named_steps(list(recover)):
        if options.calibrate is None:
            raise InputError(f"--recover {recover[0]} is read from data: add --data and --calibrate 1024")
        needs = needs | {"data"}
    if needs and options.calibrate is None:
        raise InputError(f"--importance {importance} is read from data: add --data and --calibrate 1024")
    if options.calibrate is not None and not has_data:
        raise InputError("--calibrate is given, but no data; add --data mnist, a folder of images, or file.py:function")
    if options.calibrate is not None and not needs:
        raise InputError(f"--calibrate is given, but --importance {importance} is not read from data; leave out one")


def open_calibration(
    options: CalibrationOptions, judge: MetricReader | None, loss: str | None, seed: int, recover: Sequence[str] = ()
) -> Calibration:
    """The examples that the options ask for, in batches; cross entropy where they name no loss."""
    from secateur.models import load_function
    from secateur.train import cross_entropy

    wanted = options.calibrate if judge is not None else None
    batches = [] if wanted is None or judge is None else drawn(judge.data.train, wanted, seed)
    return Calibration(batches, cross_entropy if loss is None else load_function(loss), list(recover))


def drawn(train: Source, examples: int, seed: int) -> list[Any]:
    """So many examples, in batches: the first of a source that shuffles by itself, else some of every batch, so that
    each class has its share where the data come sorted."""
    if hasattr(train, "epoch"):
        return list(_first(train, examples))
    return list(_joined(train, examples, seed))


def _first(batches: Any, examples: int) -> Iterator[Any]:
    left = examples
    for batch in batches:
        if left <= 0:
            return
        yield _at(batch, slice(left)) if _size(batch) > left else batch
        left -= _size(batch)


def _joined(train: Source, examples: int, seed: int) -> Iterator[Any]:
    """Batches as large as those of `train`, of examples drawn at random from each of these in equal shares."""
    import torch
    from torch.utils import _pytree as pytree

    generator = torch.Generator().manual_seed(seed)
    many, held = len(train), []
    for i, batch in enumerate(train):
        size, share = _size(batch), (i + 1) * examples // many - i * examples // many
        if share:
            held.append(_at(batch, torch.randperm(size, generator=generator)[:share]))
        if sum(map(_size, held)) >= size:
            yield pytree.tree_map(lambda *parts: torch.cat(parts), *held)
            held = []
    if held:
        yield pytree.tree_map(lambda *parts: torch.cat(parts), *held)


def _at(batch: Any, where: Any) -> Any:
    from torch import Tensor
    from torch.utils import _pytree as pytree

    return pytree.tree_map_only(Tensor, lambda t: t[where], batch)


def _size(batch: Any) -> int:
    from secateur.statistics.batches import CalibrationBatch

    return CalibrationBatch.of(tuple(batch), 0).examples


__all__ = ["Calibration", "CalibrationOptions", "RecoveryOptions", "check_calibration", "drawn", "open_calibration"]
