"""The options that subcommands share, grouped by topic."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Optional

import typer
from typer import Option

# Optional[...], since typer evaluates these at run time.
# ruff: noqa: UP045

SEED = Annotated[int, Option(min=0, help="Seed for random weights, batch order, dropout and random importance.")]
OUT = Annotated[Path, Option(help="Folder for the result. It is written at the end, completely or not at all.")]

LOSS = Annotated[
    Optional[str], Option(metavar="FILE.PY:FUNCTION", help="Loss (output, targets) -> scalar. Default: cross entropy.")
]

MODEL_HELP = "torchvision:NAME, timm:NAME, path/file.py:factory, or the --out folder of prune, mask or train."


@dataclass(frozen=True)
class ModelOptions:
    """Which model, with which weights and example input, and on which device."""

    panel: ClassVar[str] = "Model"

    model: Annotated[str, typer.Argument(metavar="MODEL", show_default=False, help=MODEL_HELP)]
    model_arg: Annotated[
        list[str], Option(metavar="NAME=VALUE", help="Argument for the model's constructor; repeatable.")
    ] = field(default_factory=list)
    weights: Annotated[
        Optional[Path],
        Option(metavar="FILE", help="Weights to load: a .safetensors file, or a torch file with a state dict."),
    ] = None
    input: Annotated[
        Optional[str],
        Option(
            metavar="SHAPE", help="Shape of the example input: 1x3x224x224 or 1x16:int64; separate several by commas."
        ),
    ] = None
    device: Annotated[Optional[str], Option(help="cpu, cuda, cuda:1, ... Default: cuda if available.")] = None
    threads: Annotated[Optional[int], Option(min=1, help="Threads that PyTorch may use on the CPU.")] = None


@dataclass(frozen=True)
class CutOptions:
    """What to cut, and by which rules."""

    panel: ClassVar[str] = "What to cut"

    target: Annotated[
        list[str],
        Option(
            metavar="KIND=NUMBER",
            help="How much to keep: {targets}; repeatable.",
        ),
    ] = field(default_factory=list)
    uniform: Annotated[
        bool,
        Option(
            "--uniform",
            help="Keep equal widths in all layers, so that a Hugging Face class can build the result from a config. "
            "prune then also writes a folder for from_pretrained.",
        ),
    ] = False
    importance: Annotated[
        str,
        Option(
            help="How to score units: {criteria}. Some, such as taylor, fisher and wanda, need data (--calibrate). "
            "Append /none or another normalisation, as in taylor/none."
        ),
    ] = "l2"
    scope: Annotated[
        str,
        Option(
            help="global: keep the highest total score in the whole network. axis: keep the same share of each axis. "
            "isomorphic: keep the same share of each class of axes with the same role."
        ),
    ] = "global"
    allocation: Annotated[
        Optional[Path],
        Option(metavar="FILE", help="Output of secateur sensitivity; decides how much to cut from each axis."),
    ] = None
    protect: Annotated[
        list[str], Option(metavar="SELECTOR", help="Module or parameter (or glob) to leave unchanged; repeatable.")
    ] = field(default_factory=list)
    only: Annotated[list[str], Option(metavar="SELECTOR", help="Cut only this; repeatable.")] = field(
        default_factory=list
    )
    align: Annotated[int, Option(help="Round widths to multiples of this.")] = 1
    floor: Annotated[float, Option(help="Minimum to keep of every axis: a share up to 1, or a count.")] = 0.1
    ceiling: Annotated[float, Option(help="Maximum to keep of every axis: a share up to 1, or a count.")] = 1.0
    select: Annotated[
        list[str],
        Option(
            metavar="RULE",
            help="Rule for some axes: 'layer4.*: keep=0.5', 'type=Linear: floor=16 align=8', '*.attn: prune=heads', "
            "or a .yaml or .json file of rules; repeatable, later rules override.",
        ),
    ] = field(default_factory=list)
    width: Annotated[list[str], Option(metavar="NAME=COUNT", help="Exact width of an axis: conv1=16; repeatable.")] = (
        field(default_factory=list)
    )
    drop: Annotated[
        list[str], Option(metavar="NAME=UNITS", help="Units to cut: conv1=2,6,9, or a block: layer1.1=all; repeatable.")
    ] = field(default_factory=list)


@dataclass(frozen=True)
class DataOptions:
    """Data for training and evaluation."""

    panel: ClassVar[str] = "Data"

    data: Annotated[
        Optional[str],
        Option(
            help="mnist, fashion-mnist, cifar10-jpeg, a folder with train and test, file.py:function, or folder for "
            "the images of --train-path and --test-path."
        ),
    ] = None
    train_path: Annotated[
        Optional[str], Option(metavar="FOLDER", help="Folder of training images, one sub-folder per class.")
    ] = None
    test_path: Annotated[
        Optional[str], Option(metavar="FOLDER", help="Folder of test images, one sub-folder per class.")
    ] = None
    image_size: Annotated[
        Optional[int],
        Option(help="Resize images from a folder to this side, in pixels. Default: the side of the input."),
    ] = None
    batch_size: Annotated[int, Option(help="Examples per batch.")] = 64
    metric: Annotated[
        Optional[str],
        Option(metavar="FILE.PY:FUNCTION", help="Metric (output, targets) -> mean over the batch. Default: accuracy."),
    ] = None


@dataclass(frozen=True)
class TrainingOptions:
    """How to train."""

    panel: ClassVar[str] = "Training"

    optimizer: Annotated[str, Option(help="sgd or adamw.")] = "sgd"
    lr: Annotated[Optional[float], Option(help="Peak learning rate. Default: 0.02 for sgd, 0.001 for adamw.")] = None
    weight_decay: Annotated[float, Option(help="Weight decay, applied to all parameters.")] = 1e-4
    label_smoothing: Annotated[float, Option(help="Share of each target that is spread over all classes.")] = 0.0
    loss: LOSS = None
