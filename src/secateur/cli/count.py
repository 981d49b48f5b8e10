"""`secateur count`: shapes, parameters and MACs of each layer."""

from __future__ import annotations

from secateur.cli.command import CommandResult
from secateur.cli.options import ModelOptions
from secateur.cli.origin import open_model
from secateur.cli.progress import working


def count(source: ModelOptions) -> CommandResult:
    """Count parameters and multiply-accumulates (MACs), layer by layer.

    For memory, which is not a sum over layers, see inspect --json and plan.

    secateur count torchvision:resnet18
    """
    from secateur.cost.count import count as count_layers

    opened = open_model(source)
    with working("counting"):
        counted = count_layers(opened.model, opened.inputs)
    return CommandResult(counted.as_dict(), str(counted))
