"""Runs the quick starts of Torch-Pruning 1.6.1 next to ours, line by line, as a migration guide.

Each lesson does one task with both libraries, on the same model with the same random weights. It says what it took and
whether the small model computes the same as the original with the cut units silenced. Without torch-pruning, only our
side runs. With --out, the plan printed by each side is saved in the folder.

    secateur recipe torch-pruning --quick
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType
from typing import Annotated, Optional

from typer import Option

from secateur.errors import InputError, nearest
from secateur.recipes.framework import Options, Result, Row, size
from secateur.recipes.migration import ours
from secateur.recipes.migration.lessons import LESSONS, Attempt

# ruff: noqa: UP045

NAME = "torch-pruning"
SOURCE = "Fang et al., DepGraph, CVPR 2023: the README and the examples of Torch-Pruning 1.6.1"
CLAIM = "ResNet, DenseNet, DeepLab and transformers can be pruned, by random, L1 and L2, with round_to=16 and a plan"
DATA = "none: random weights, norms too; what is measured is what the cut takes and whether it is right"
ALONE = "torch-pruning is not installed, so our side runs alone; pip install torch-pruning==1.6.1"


def run(
    options: Options,
    *,
    lesson: Annotated[
        Optional[list[str]], Option(help=f"One of {', '.join(LESSONS)}; repeatable. Default: all.")
    ] = None,
) -> Result:
    """Run every lesson with both libraries."""
    for name in lesson or ():
        if name not in LESSONS:
            raise InputError(f"no lesson {name!r}{nearest(name, LESSONS)}\nknown: {', '.join(LESSONS)}")
    sides = {"secateur": ours}
    if find_spec("torch_pruning"):
        sides = {"torch-pruning": importlib.import_module("secateur.recipes.migration.theirs"), **sides}
    else:
        options.say(ALONE)
    for module in sides.values():  # late imports of a library are not part of a lesson
        Attempt(LESSONS["resnet18-by-hand"], module, *LESSONS["resnet18-by-hand"].build(True)).row("")
    rows = [row for name in lesson or LESSONS for row in _taught(name, sides, options)]
    data = DATA if len(sides) > 1 else f"{DATA}; {ALONE}"
    return Result(NAME, CLAIM, data, tuple(rows), metric="figure", columns=("right",))


def _taught(name: str, sides: dict[str, ModuleType], options: Options) -> list[Row]:
    lesson = LESSONS[name]
    model, inputs = lesson.build(options.quick)
    rows = [Row(f"{name}, dense", *size(model, inputs), {})]
    for side, module in sides.items():
        row, printed = Attempt(lesson, module, model, inputs, options.seed).row(f"{name}, {side}")
        options.say(f"{row.method}: right? {row.more['right']}")
        if options.out:
            (options.out / f"{name}-{side}.txt").write_text(printed, encoding="utf-8")
        rows.append(row)
    return rows
