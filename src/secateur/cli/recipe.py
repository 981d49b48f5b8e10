"""`secateur recipe NAME`: reproductions of well-known pruning methods, with their figures.

A recipe is imported only when it is named, so that the list of recipes is fast; the description in the list is the
first line of the module, read without importing it.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Optional, get_type_hints

import typer
from typer import Option
from typer.core import TyperGroup

from secateur.cli.command import CommandResult, Subcommand, command, plain
from secateur.cli.options import SEED
from secateur.recipes import RECIPES, load_recipe

if TYPE_CHECKING:
    from secateur.recipes.framework import Options

# ruff: noqa: UP045

RAW = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""A recipe parses all of its arguments itself, including --help."""


@dataclass(frozen=True)
class RecipeOptions:
    """The options of every recipe."""

    panel: ClassVar[str] = "Every recipe"

    quick: Annotated[bool, Option("--quick", help="A smaller version that takes at most 3 minutes on 2 cores.")] = False
    out: Annotated[
        Optional[Path], Option(metavar="FOLDER", help="Folder for result.json and other files; created if missing.")
    ] = None
    seed: SEED = 0
    threads: Annotated[Optional[int], Option(min=1, help="Threads that PyTorch may use on the CPU.")] = None


class RecipeGroup(TyperGroup):
    """The recipes that are in the table when the command starts, those of other packages included."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name in RECIPES:
            if find_spec(RECIPES[name]):
                self.add_command(_subcommand_of(name), name)


recipes = typer.Typer(
    cls=RecipeGroup,
    no_args_is_help=True,
    help="Run a well-known pruning method and measure its results.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def described(name: str) -> str:
    """Return the first line of a recipe's docstring."""
    spec = find_spec(RECIPES[name])
    assert spec, f"{RECIPES[name]} is registered but does not exist"
    text = ast.get_docstring(ast.parse(Path(spec.origin or "").read_text(encoding="utf-8")))
    assert text, f"{RECIPES[name]} has no docstring"
    return text.splitlines()[0]


def _subcommand_of(name: str) -> Any:
    outer = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @outer.command(name, help=described(name), context_settings=RAW)
    def run(context: typer.Context) -> None:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        settings = {"help_option_names": ["-h", "--help"]}
        made = command(subcommand(load_recipe(name), context.args))
        app.command(cls=Subcommand, context_settings=settings)(made)
        app(context.args, prog_name=context.command_path)

    return typer.main.get_command(outer)


def subcommand(module: ModuleType, arguments: list[str]) -> Callable[..., CommandResult]:
    """Return `run` of a recipe as `command` expects it, with the options of every recipe before its own."""
    flags = dict(_flags(module.run))

    def recipe(shared: RecipeOptions, **own: Any) -> CommandResult:
        return _ran(module, shared, own, shlex.join(["secateur", "recipe", module.NAME, *arguments]))

    recipe.__doc__ = _unwrapped(inspect.cleandoc(f"{module.__doc__}\n\nSource: {module.SOURCE}"))
    recipe.__annotations__ = {name: flag.annotation for name, flag in flags.items()}
    recipe.__annotations__ |= {"shared": RecipeOptions, "return": CommandResult}
    shared = inspect.Parameter("shared", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    recipe.__signature__ = inspect.Signature([shared, *flags.values()])
    return recipe


def _unwrapped(text: str) -> str:
    """Return each paragraph on one line, for the terminal to wrap; indented commands stay as they are.

    >>> _unwrapped("It is\\nlong.\\n\\n    secateur a\\n    secateur b")
    'It is long.\\n\\n    secateur a\\n    secateur b'
    """
    return re.sub(r"(?<=\S)\n(?=\S)", " ", text)


def _flags(run: Callable[..., Any]) -> Iterator[tuple[str, inspect.Parameter]]:
    """Yield the keyword parameters after `options`, with their annotations as objects."""
    hints = get_type_hints(run, include_extras=True)
    for name, parameter in [*inspect.signature(run).parameters.items()][1:]:
        kind = inspect.Parameter.KEYWORD_ONLY
        yield name, inspect.Parameter(name, kind, default=parameter.default, annotation=hints[name])


def _ran(module: ModuleType, shared: RecipeOptions, own: Mapping[str, Any], typed: str) -> CommandResult:
    from secateur.recipes.document import document, open_folder, write

    options = _options(shared, open_folder(shared.out) if shared.out else None)
    started = time.perf_counter()
    found = module.run(options, **own)
    content = plain(document(found, typed, options, time.perf_counter() - started))
    text = f"{found}"
    if options.out:
        text += f"\n\nwrote {write(options.out, content)}"
    return CommandResult(content, text)


def _options(shared: RecipeOptions, out: Path | None) -> Options:
    import torch

    from secateur.recipes.framework import Options

    if shared.threads:
        torch.set_num_threads(shared.threads)
    return Options(quick=shared.quick, out=out, seed=shared.seed)


__all__ = ["recipes"]
