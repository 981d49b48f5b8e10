"""Fill docs/recipes from the figures of `benchmarks/recipes.py` and from the recipes themselves.

Blocks end at `<!-- end -->`. `<!-- table NAME -->` begins the table of a recipe, or of a part of it (NAME/PART);
`<!-- code JOB -->` a job of the recipe torch-pruning in both libraries; `<!-- list -->` the list of all recipes. The
rest of a page does not change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import recipes
import record
from secateur.cli.recipe import described
from secateur.recipes import RECIPES, load_recipe

PAGES = Path(__file__).parents[1] / "docs" / "recipes"
BLOCK = re.compile(r"<!-- (table|code|list) ?([\w/-]*) -->.*?<!-- end -->", re.DOTALL)


def fill() -> None:
    """Fill the blocks of every page."""
    for page in sorted(PAGES.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(_block, text), encoding="utf-8")
        print(f"wrote {page.relative_to(PAGES.parents[1])}")


def _block(match: re.Match[str]) -> str:
    kind, name = match[1], match[2]
    content = FILLERS[kind](name)
    head = f"<!-- {kind}{' ' + name if name else ''} -->"
    return f"{head}\n\n{content}\n\n<!-- end -->" if content else f"{head}\n<!-- end -->"


def table(name: str) -> str:
    """Return the table of methods and figures (mean and range over seeds), and how they were measured."""
    found = recipes.read(recipes.path_of(*name.split("/")))
    if not found:
        return ""
    keys = list(dict.fromkeys(key for row in found["rows"] for key in row["metric"]))
    head = ["method", "params", "MACs", *(key.replace("_", " ") for key in keys), *found["columns"]]
    rows = [
        [
            *(row["method"], _whole(row["params"]), _whole(row["macs"])),
            *(_figure(row["metric"].get(key), found["metric"]) for key in keys),
            *(str(row["more"].get(column, "")) for column in found["columns"]),
        ]
        for row in found["rows"]
    ]
    return f"{record.table(head, rows)}\n\n{_how(found)}"


def _how(found: Mapping[str, Any]) -> str:
    seeds = found["seeds"]
    many = f"mean of seeds {', '.join(map(str, seeds))} (lowest to highest)" if len(seeds) > 1 else f"seed {seeds[0]}"
    unit = "accuracy in percent, " if found["metric"] == "accuracy" else ""
    what = f"`secateur recipe {' '.join([found['recipe'], *found['flags']])}`"
    where = f"{found['machine']['processor']}, torch {found['machine']['torch']}"
    return f"{what}: {unit}{many}; {found['data']}. {where}, {found['seconds']['mean']:,.0f} s a seed."


def _whole(value: Mapping[str, float]) -> str:
    low, high = int(value["low"]), int(value["high"])
    return f"{low:,}" if low == high else f"{value['mean']:,.0f} ({low:,}-{high:,})"


def _figure(value: Mapping[str, float] | None, metric: str) -> str:
    if value is None:
        return ""
    shown = _percent if metric == "accuracy" else _short
    alone = shown(value["mean"])
    if value["n"] == 1 or value["low"] == value["high"]:
        return alone
    return f"{alone} ({shown(value['low'])}-{shown(value['high'])})"


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def code(job: str) -> str:
    """Return the code of a job in both libraries."""
    from secateur.recipes.migration import ours, theirs
    from secateur.recipes.migration.lessons import LESSONS, body

    named = [lesson.importance for lesson in LESSONS.values() if lesson.job == job]
    importance = "l2" if "l2" in named else named[0]
    blocks = []
    for title, side, head in (
        ("Torch-Pruning", theirs, "import torch_pruning as tp\nfrom torch import nn"),
        ("secateur", ours, "import secateur\nfrom secateur import Select"),
    ):
        lines = [head, "", body(getattr(side, job))]
        if importance is not None:
            lines.insert(1, f"\nimportance = {IMPORTANCE[title].get(importance)}")
        blocks.append(f"{title}:\n\n```python\n{_tidy(chr(10).join(lines))}\n```")
    return "\n\n".join(blocks)


IMPORTANCE = {
    "Torch-Pruning": {
        "random": "tp.importance.RandomImportance()",
        "l1": "tp.importance.GroupMagnitudeImportance(p=1)",
        "l2": "tp.importance.GroupMagnitudeImportance(p=2)",
    },
    "secateur": {"random": '"random"', "l1": '"group_l1"', "l2": '"group_l2"'},
}


def _tidy(text: str) -> str:
    """Remove imports that the block does not use."""
    used = {"from torch import nn": "nn.", "from secateur import Select": "Select("}
    lines = [line for line in text.splitlines() if line not in used or used[line] in text]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def listed(_: str) -> str:
    """Return the table of all recipes: description, source and command."""
    rows = [
        [f"[{name}]({name}.md)", described(name).rstrip("."), load_recipe(name).SOURCE, f"`secateur recipe {name}`"]
        for name in RECIPES
        if (PAGES / f"{name}.md").exists()
    ]
    head = "| recipe | what it does | source | command |\n| --- | --- | --- | --- |"
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])


FILLERS: dict[str, Callable[[str], str]] = {"table": table, "code": code, "list": listed}
