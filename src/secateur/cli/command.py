"""Turns a function into a subcommand.

A subcommand is a function of option groups (dataclasses whose fields are typer options) that returns a
`CommandResult`. Here the groups become one flat list of options, and `--json` is added. The result is printed on stdout
and errors, without traceback, on stderr. The exit code is 0 for success, 1 for a failed check, 2 for invalid input.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import IO, Annotated, Any, get_args, get_type_hints

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand
from typer.models import OptionInfo

from secateur.cli.listing import listed
from secateur.cli.option_names import in_options
from secateur.cli.progress import lively, working
from secateur.errors import PruningError

JSON = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")]


class CheckFailed(PruningError):
    """The result is not what was asked for: exit code 1."""


@dataclass(frozen=True)
class CommandResult:
    """The result of a subcommand, as data for `--json` and as a string, and whether its checks passed."""

    document: Mapping[str, Any]
    text: str = ""
    passed: bool = True


class Subcommand(TyperCommand):
    """A command that also accepts options spelled with underscores, as the original scripts of some recipes do."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [dashed(argument) for argument in args])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print help, in which options list the names that are in the tables now."""
        for parameter in self.params:
            if getattr(parameter, "help", None):
                parameter.help = listed(parameter.help)  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)


def dashed(argument: str) -> str:
    """Return an option with dashes in its name.

    >>> dashed("--train_path=my_images"), dashed("my_images")
    ('--train-path=my_images', 'my_images')
    """
    return re.sub(r"^--[^=]*", lambda name: name[0].replace("_", "-"), argument)


def command(function: Callable[..., CommandResult]) -> Callable[..., None]:
    """Return `function` as typer expects it: with flat options for its dataclasses, printing results and errors."""
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return")
    flat = [*_flattened(function, hints), _parameter("as_json", JSON, False)]

    def run(**values: Any) -> None:
        as_json: bool = values.pop("as_json")
        _finish(lambda: function(**_grouped(hints, values)), as_json)

    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__signature__ = inspect.Signature(flat)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return run


def _flattened(function: Callable[..., CommandResult], hints: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    defaults = inspect.signature(function).parameters
    for name, kind in hints.items():
        if is_dataclass(kind):
            yield from _options_of(kind)
        else:
            yield _parameter(name, kind, defaults[name].default)


def _options_of(group: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for option in fields(group):
        default = option.default if option.default is not MISSING else inspect.Parameter.empty
        if option.default_factory is not MISSING:
            default = option.default_factory()
        yield _parameter(option.name, _in_panel(hints[option.name], group.panel), default)


def _in_panel(annotation: Any, panel: str) -> Any:
    kind, info = get_args(annotation)
    info = copy.copy(info)
    if isinstance(info, OptionInfo):
        info.rich_help_panel = panel
    return Annotated[kind, info]


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _grouped(hints: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: kind(**{option.name: values[option.name] for option in fields(kind)})
        if is_dataclass(kind) and isinstance(kind, type)
        else values[name]
        for name, kind in hints.items()
    }


def _finish(work: Callable[[], CommandResult], as_json: bool) -> None:
    out = sys.stdout
    try:
        # What a model's own code prints is not part of the result.
        with contextlib.redirect_stdout(sys.stderr), lively():
            with working("loading PyTorch"):
                importlib.import_module("torch")
            result = work()
    except PruningError as error:
        raise _told(error, out if as_json else None) from None
    _print(result, out, as_json)
    if not result.passed:
        raise typer.Exit(1)


def _told(error: PruningError, out: IO[str] | None) -> typer.Exit:
    message = in_options(str(error))
    if out is not None:
        print(json.dumps({"error": {"kind": type(error).__name__, "message": message}}), file=out)
    line = Text.assemble(("error: ", "bold red"), message)
    Console(stderr=True, highlight=False).print(line, soft_wrap=True)
    return typer.Exit(1 if isinstance(error, CheckFailed) else 2)


def _print(result: CommandResult, out: IO[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(plain(result.document), allow_nan=False), file=out)
    elif result.text:
        print(in_options(result.text), file=out)


def plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: tuples become lists, numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
