"""Options for calibration: how many training examples to read, and the loss to evaluate them with."""

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
    """How many training examples are read for calibration."""

    panel: ClassVar[str] = "Data"

    calibrate: Annotated[
        Optional[int],
        Option(min=1, help="Number of training examples to read, for --importance taylor and others by data."),
    ] = None


@dataclass(frozen=True)
class RecoveryOptions:
    """How the remaining weights are adjusted after the cut."""

    panel: ClassVar[str] = "Data"

    recover: Annotated[
        list[str],
        Option(
            metavar="STEP",
            help="Adjust the remaining weights after the cut, without training, on the --calibrate examples: lsq "
            "(least squares layer by layer), lsq_moments, shift or norms; repeatable, in this order.",
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True)
class Calibration:
    """Batches of training examples (empty if not asked for), a loss, and the recovery steps that read the batches."""

    batches: list[Any]
    loss: Callable[[Any, Any], Tensor]
    recover: list[str] = field(default_factory=list)

    def read(self, graph: Graph, importance: str, seed: int) -> Statistics | None:
        """Return the statistics of the batches that the importance needs, or None."""
        from secateur.pruning import calibrated

        return calibrated(
            graph, importance, self.batches or None, self.loss, recover=self.recover, seed=seed, progress=True
        )


def check_calibration(
    options: CalibrationOptions, importance: str, has_data: bool, recover: Sequence[str] = ()
) -> None:
    """Raise `InputError` for options that are wrong in themselves, before a model is built."""
    from secateur.importance import needs_of_importance
    from secateur.recover import named_steps

    needs = needs_of_importance(importance)
    if named_steps(list(recover)):
        if options.calibrate is None:
            raise InputError(f"--recover {recover[0]} needs calibration data: add --data and --calibrate 1024")
        needs = needs | {"data"}
    if needs and options.calibrate is None:
        raise InputError(f"--importance {importance} needs calibration data: add --data and --calibrate 1024")
    if options.calibrate is not None and not has_data:
        raise InputError("--calibrate is given, but no data; add --data mnist, a folder of images, or file.py:function")
    if options.calibrate is not None and not needs:
        raise InputError(
            f"--calibrate is given, but --importance {importance} does not read data; leave out one of them"
        )


def open_calibration(
    options: CalibrationOptions, judge: MetricReader | None, loss: str | None, seed: int, recover: Sequence[str] = ()
) -> Calibration:
    """Return the examples that the options ask for, in batches, with their loss (by default cross entropy)."""
    from secateur.models import load_function
    from secateur.train import cross_entropy

    wanted = options.calibrate if judge is not None else None
    batches = [] if wanted is None or judge is None else drawn(judge.data.train, wanted, seed)
    return Calibration(batches, cross_entropy if loss is None else load_function(loss), list(recover))


def drawn(train: Source, examples: int, seed: int) -> list[Any]:
    """Return `examples` examples in batches.

    They are the first of a source that shuffles by itself. From any other source, every batch contributes some, so that
    each class is represented even if the data are sorted.
    """
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
    """Yield batches as large as those of `train`; their examples are drawn at random, equally many from each batch."""
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
