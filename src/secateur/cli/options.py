"""The options that subcommands share, by what they are about."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Optional

import typer
from typer import Option

# Optional[...], since typer evaluates these at run time.
# ruff: noqa: UP045

SEED = Annotated[int, Option(min=0, help="For random weights, the order of batches, dropout and random importance.")]
OUT = Annotated[Path, Option(help="Folder for the result; written at the end, all of it or nothing.")]

LOSS = Annotated[
    Optional[str], Option(metavar="FILE.PY:FUNCTION", help="(output, targets) -> scalar. Default: cross entropy.")
]

MODEL_HELP = "torchvision:NAME, timm:NAME, path/file.py:factory, or the folder of a run that prune or train made."


@dataclass(frozen=True)
class ModelOptions:
    """Which model, with which weights, called how, and where it runs."""

    panel: ClassVar[str] = "Model"

    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False, help=MODEL_HELP)]
    model_arg: Annotated[
        list[str], Option(metavar="NAME=VALUE", help="Argument of the model's constructor; repeatable.")
    ] = field(default_factory=list)
    weights: Annotated[
        Optional[Path], Option(metavar="FILE", help="A .safetensors file or a torch file with a state dict.")
    ] = None
    input: Annotated[
        Optional[str],
        Option(metavar="SHAPE", help="Example input: 1x3x224x224, 1x16:int64, several joined by commas."),
    ] = None
    device: Annotated[Optional[str], Option(help="cpu, cuda, cuda:1, ... Default: cuda if there is one.")] = None
    threads: Annotated[Optional[int], Option(min=1, help="Threads that PyTorch may use on the CPU.")] = None


@dataclass(frozen=True)
class CutOptions:
    """What is to be cut."""

    panel: ClassVar[str] = "What to cut"

    target: Annotated[
        list[str],
        Option(
            metavar="KIND=NUMBER",
            help="What remains: {targets}; repeatable.",
        ),
    ] = field(default_factory=list)
    uniform: Annotated[
        bool,
        Option(
            "--uniform",
            help="A Hugging Face model stays one that its class builds from a config: layers keep equal widths, and "
            "prune writes a folder for from_pretrained too.",
        ),
    ] = False
    importance: Annotated[
        str,
        Option(
            help="What makes a unit worth keeping: {criteria}. Some need data (--calibrate), as taylor, fisher and "
            "wanda do; taylor/none for other normalisations."
        ),
    ] = "l2"
    scope: Annotated[
        str,
        Option(
            help="global: keep the greatest sum of scores in the whole network; axis: the same share of each; "
            "isomorphic: the same share of each class of axes that play the same part."
        ),
    ] = "global"
    allocation: Annotated[
        Optional[Path],
        Option(metavar="FILE", help="What secateur sensitivity measured: it decides how much each axis loses."),
    ] = None
    protect: Annotated[
        list[str], Option(metavar="SELECTOR", help="Module or parameter (or glob) that stays as it is; repeatable.")
    ] = field(default_factory=list)
    only: Annotated[list[str], Option(metavar="SELECTOR", help="Nothing else is cut; repeatable.")] = field(
        default_factory=list
    )
    align: Annotated[int, Option(help="Widths become multiples of this.")] = 1
    floor: Annotated[float, Option(help="The least that stays of every axis: a share up to 1, or a count.")] = 0.1
    ceiling: Annotated[float, Option(help="The most that stays of every axis: a share up to 1, or a count.")] = 1.0
    select: Annotated[
        list[str],
        Option(
            metavar="RULE",
            help="For chosen axes: 'layer4.*: keep=0.5', 'type=Linear: floor=16 align=8', '*.attn: prune=heads', "
            "or a .yaml or .json file of rules; repeatable, later ones count.",
        ),
    ] = field(default_factory=list)
    width: Annotated[list[str], Option(metavar="NAME=COUNT", help="An exact width: conv1=16; repeatable.")] = field(
        default_factory=list
    )
    drop: Annotated[
        list[str], Option(metavar="NAME=UNITS", help="By hand: conv1=2,6,9, or layer1.1=all; repeatable.")
    ] = field(default_factory=list)


@dataclass(frozen=True)
class DataOptions:
    """Data for training and for measuring how good a model is."""

    panel: ClassVar[str] = "Data"

    data: Annotated[
        Optional[str],
        Option(help="mnist, fashion-mnist, cifar10-jpeg, folder, a folder with train and test, or file.py:function."),
    ] = None
    train_path: Annotated[
        Optional[str], Option(metavar="FOLDER", help="Training images, one sub-folder per class.")
    ] = None
    test_path: Annotated[Optional[str], Option(metavar="FOLDER", help="The same for testing.")] = None
    image_size: Annotated[
        Optional[int],
        Option(help="Side of the images of a folder, in pixels. Default: that of the input."),
    ] = None
    batch_size: Annotated[int, Option(help="Examples per batch.")] = 64
    metric: Annotated[
        Optional[str],
        Option(metavar="FILE.PY:FUNCTION", help="(output, targets) -> mean over the batch. Default: accuracy."),
    ] = None


@dataclass(frozen=True)
class TrainingOptions:
    """How to train."""

    panel: ClassVar[str] = "Training"

    optimizer: Annotated[str, Option(help="sgd or adamw.")] = "sgd"
    lr: Annotated[Optional[float], Option(help="The highest rate. Default: sgd 0.02, adamw 0.001.")] = None
    weight_decay: Annotated[float, Option(help="Of all parameters.")] = 1e-4
    label_smoothing: Annotated[float, Option(help="Share of the targets spread over all classes.")] = 0.0
    loss: LOSS = None
