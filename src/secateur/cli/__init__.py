"""The command line, the top floor: it may import every other package, and nothing imports it.

A subcommand is one file with one function that takes option groups and returns a `CommandResult`; add it to
`SUBCOMMANDS`. Modules that need PyTorch are imported inside functions, so that `--help` is fast.
"""

from __future__ import annotations

from typing import Annotated

import typer

from secateur.cli.command import Subcommand, command
from secateur.cli.count import count
from secateur.cli.export import export
from secateur.cli.inspect import inspect
from secateur.cli.mask import mask
from secateur.cli.plan import plan
from secateur.cli.prune import prune
from secateur.cli.recipe import recipes
from secateur.cli.sensitivity import sensitivity
from secateur.cli.train import train
from secateur.cli.verify import verify

SUBCOMMANDS = (inspect, sensitivity, plan, prune, mask, verify, count, train, export)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _subcommand in SUBCOMMANDS:
    app.command(cls=Subcommand)(command(_subcommand))
app.add_typer(recipes, name="recipe")


def _version(wanted: bool) -> None:
    if wanted:
        from secateur import __version__

        print(f"secateur {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make trained PyTorch models smaller and faster by removing whole channels, heads and neurons.

    A MODEL is torchvision:NAME, timm:NAME, path/file.py:factory, or the --out folder of an earlier run.

    Exit codes: 0 success, 1 a check failed, 2 invalid input.
    """


def main() -> None:
    """Run the command `secateur`."""
    app(prog_name="secateur")


__all__ = ["app", "main"]
