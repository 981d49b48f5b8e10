"""`secateur inspect`: what can be cut, and why the rest cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

from typer import Option

from secateur.cli.command import CommandResult
from secateur.cli.options import ModelOptions
from secateur.cli.origin import Loaded, open_model
from secateur.cli.progress import working

if TYPE_CHECKING:
    from secateur.graph.graph import Graph


def inspect(
    source: ModelOptions,
    why: Annotated[
        Optional[str],  # noqa: UP045
        Option(
            metavar="PATTERN",
            help="Explain one parameter, module or axis (or glob): what it is coupled to, which ops prevent a cut.",
        ),
    ] = None,
    uniform: Annotated[
        bool,
        Option(
            "--uniform",
            help="Keep equal widths in all layers, so that a Hugging Face class can build the result from a config.",
        ),
    ] = False,
) -> CommandResult:
    """Show what can be cut, what cannot, and why.

    secateur inspect torchvision:resnet18
    """
    from secateur.graph.data import overview
    from secateur.graph.text import coverage_lines

    graph = traced(open_model(source), uniform=uniform)
    if why is not None:
        told = graph.why(why)
        return CommandResult({**overview(graph), "why": told.as_dict()}, f"{coverage_lines(graph)}\n\n{told}")
    return CommandResult(graph.as_dict(), str(graph))


def traced(loaded: Loaded, *, uniform: bool = False) -> Graph:
    """Return the Graph of a model, traced on its example inputs."""
    from secateur.trace.tracing import trace

    with working("tracing"):
        return trace(loaded.model, loaded.inputs, uniform=uniform)
