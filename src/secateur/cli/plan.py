"""`secateur plan`: a dry run that shows what a target would cut."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from secateur.cli.calibration import CalibrationOptions, check_calibration, open_calibration
from secateur.cli.command import CommandResult
from secateur.cli.inspect import traced
from secateur.cli.measuring import open_judge
from secateur.cli.options import LOSS, SEED, CutOptions, DataOptions, ModelOptions
from secateur.cli.origin import loaded, origin_of
from secateur.cli.progress import working
from secateur.errors import InputError

if TYPE_CHECKING:
    from secateur.graph.graph import Graph
    from secateur.plan.plan import Plan
    from secateur.planning import Select
    from secateur.probing import Sensitivity
    from secateur.statistics.sums import Statistics


def plan(
    source: ModelOptions,
    cutting: CutOptions,
    data: DataOptions,
    reading: CalibrationOptions,
    loss: LOSS = None,
    seed: SEED = 0,
) -> CommandResult:
    """Show what a target would cut, without cutting anything.

    secateur plan torchvision:resnet18 --target macs=0.5
    """
    check(cutting)
    origin = origin_of(source, seed)
    judge = open_judge(data, seed, origin.input)
    check_calibration(reading, cutting.importance, judge is not None)
    dense = loaded(origin, origin.load(), source, judge.example() if judge else None)
    graph = traced(dense, uniform=cutting.uniform)
    statistics = open_calibration(reading, judge, loss, seed).read(graph, cutting.importance, seed)
    made = planned(graph, cutting, statistics, seed)
    return CommandResult(json.loads(made.to_json()), str(made))


def planned(graph: Graph, options: CutOptions, statistics: Statistics | None, seed: int) -> Plan:
    """Return the Plan that the options ask for."""
    from secateur.planning import plan as make

    asked = plan_options(options, statistics, seed)
    with working("planning"):
        return make(graph, options.target, **asked)


def plan_options(options: CutOptions, statistics: Statistics | None, seed: int) -> dict[str, Any]:
    """Return the arguments for `secateur.plan`, except the target."""
    return {
        "importance": options.importance,
        "select": selection(options),
        "drop": dropped(options.drop) or None,
        "scope": options.scope,
        "allocation": allocation(options),
        "statistics": statistics,
        "seed": seed,
    }


def allocation(options: CutOptions) -> Sensitivity | None:
    """Return the measurements in the --allocation file, if there is one."""
    from secateur.probing import Sensitivity

    return None if options.allocation is None else Sensitivity.read(options.allocation)


def check(options: CutOptions) -> None:
    """Raise `InputError` for options that are wrong in themselves, before a model is built."""
    from secateur.planning import parse_targets

    if not (options.target or options.width or options.drop or options.select or options.ceiling != 1):
        raise InputError("nothing to do: give --target macs=0.5, or --width NAME=COUNT, or --select RULE")
    parse_targets(options.target)
    selection(options)
    allocation(options)
    dropped(options.drop)


def selection(options: CutOptions) -> Select:
    """Return the rules for chosen axes in the options and in the files that they name."""
    from secateur.planning import Select
    from secateur.planning.selection.selection_file import is_selection

    select = Select()
    for text in options.select:
        select = select.then(Select.read(text) if is_selection(text) else Select.of(text))
    words = {word: getattr(options, word) for word in ("protect", "only", "align", "floor", "ceiling")}
    return select.then(Select(widths=widths(options.width), **words))


def widths(texts: Iterable[str]) -> dict[str, int]:
    """Return `NAME=COUNT` strings as exact widths.

    >>> widths(["conv1=16"])
    {'conv1': 16}
    """
    return {name: numbers[0] for name, numbers in _named(texts, "--width", "conv1=16", most=1)}


def dropped(texts: Iterable[str]) -> dict[str, list[int] | str]:
    """Return `NAME=UNIT,UNIT,...` strings as units to cut, `NAME=all` as blocks.

    >>> dropped(["conv1=2,6,9", "layer1.1=all"])
    {'conv1': [2, 6, 9], 'layer1.1': 'all'}
    """
    texts = list(texts)
    blocks = [text[: -len("=all")] for text in texts if text.endswith("=all")]
    units = dict(_named((text for text in texts if not text.endswith("=all")), "--drop", "conv1=2,6,9", most=None))
    twice = next((name for i, name in enumerate(blocks) if name in units or name in blocks[:i]), None)
    if twice is not None:
        raise InputError(f"--drop names {twice!r} twice; keep one")
    return {**units, **dict.fromkeys(blocks, "all")}


def _named(texts: Iterable[str], option: str, example: str, most: int | None) -> Iterator[tuple[str, list[int]]]:
    seen: set[str] = set()
    for text in texts:
        name, equals, listed = text.rpartition("=")
        numbers = [part.strip() for part in listed.split(",")]
        if not (name and equals):
            raise InputError(f"{option} {text!r}; write {option} {example}")
        if name in seen:
            raise InputError(f"{option} names {name!r} twice; keep one")
        if not all(number.isdecimal() for number in numbers) or len(numbers) > (most or len(numbers)):
            raise InputError(f"{option} {text!r}: {listed!r} is not a number; write {option} {example}")
        seen.add(name)
        yield name, list(map(int, numbers))
