"""`secateur sensitivity`: measure the effect of cutting each group of axes alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

from typer import Option

from secateur.cli.command import CommandResult
from secateur.cli.inspect import traced
from secateur.cli.measuring import MetricReader, open_judge
from secateur.cli.options import SEED, DataOptions, ModelOptions
from secateur.cli.origin import loaded, origin_of
from secateur.errors import InputError

if TYPE_CHECKING:
    from torch import nn


def sensitivity(
    source: ModelOptions,
    data: DataOptions,
    out: Annotated[
        Path, Option(metavar="FILE", help="JSON file of measured values; a run that was interrupted continues from it.")
    ],
    plot: Annotated[
        Optional[Path],  # noqa: UP045
        Option(metavar="FILE", help="Write an .html page with a line per axis; needs the extra 'plot'."),
    ] = None,
    ratios: Annotated[str, Option(help="Shares to keep, separated by commas.")] = "0.9,0.75,0.5,0.25",
    importance: Annotated[str, Option(help="How to score units; see plan.")] = "l2",
    select: Annotated[
        list[str] | None,
        Option(metavar="RULE", help="Rule, as for plan; axes that it protects or fixes are not measured; repeatable."),
    ] = None,
    calibrate: Annotated[int, Option(min=1, help="Number of training examples to evaluate on.")] = 1024,
    higher_is_better: Annotated[
        bool, Option("--higher-is-better", help="Higher values of --metric are better.")
    ] = False,
    seed: SEED = 0,
) -> CommandResult:
    """Measure how cutting each group of axes alone changes the loss, or --metric, on training examples.

    secateur sensitivity examples/mnist_net.py:build --weights w.pt --data mnist --out s.json --plot s.html
    """
    import secateur

    shares = _shares(ratios)
    origin = origin_of(source, seed)
    judge = calibrated(open_judge(data, seed, origin.input), calibrate, own=data.metric is not None)
    dense = loaded(origin, origin.load(), source, judge.example())
    judge.rehearse(dense.model)
    found = secateur.sensitivity(
        traced(dense),
        judging(judge),
        ratios=shares,
        importance=importance,
        select=list(select or ()),
        higher_is_better=higher_is_better,
        path=out,
        key=f"{data.metric or judge.name} on {contents(judge)}",
        progress=True,
        seed=seed,
    )
    if plot is not None:
        found.plot(plot)
    told = [f"{judge.name} on {calibrate} examples", str(found), "", f"saved {out}: prune with --allocation {out}"]
    return CommandResult(json.loads(found.to_json()), "\n".join([*told, *([f"drawn in {plot}"] if plot else [])]))


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--ratios {text!r}; write shares separated by commas, as 0.75,0.5") from None


def calibrated(judge: MetricReader | None, examples: int, *, own: bool) -> MetricReader:
    """Return a judge on the first training batches with so many examples; its metric is the loss, unless `own`."""
    from secateur.train import cross_entropy

    if judge is None:
        raise InputError("measuring needs data: add --data mnist, a folder of images, or file.py:function")
    batches: list[Any] = []
    for batch in judge.data.train:
        if sum(len(targets) for _, targets in batches) >= examples:
            break
        batches.append(batch)
    judge = replace(judge, data=replace(judge.data, test=batches))
    return judge if own else replace(judge, metric=cross_entropy, name="cross entropy")


def judging(judge: MetricReader, scale: float = 1.0) -> Callable[[nn.Module], float]:
    """Return the metric as a function of a model, without a progress bar."""
    from secateur.train import evaluate

    def judged(model: nn.Module) -> float:
        return scale * evaluate(model, judge.data.test, judge.metric)

    return judged


def contents(judge: MetricReader) -> str:
    """Return a short hash of the test batches."""
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    from secateur.base.hashing import of_tensors

    leaves = (leaf for batch in judge.data.test for leaf in tree_leaves(batch))
    return of_tensors(("", leaf) for leaf in leaves if isinstance(leaf, Tensor))
