"""Write the measured tables into `docs/criteria.md`, from the rows of `benchmarks/accuracy.py`.

    python benchmarks/criteria_page.py

Tables are between `<!-- table NAME -->` and `<!-- end -->`; the rest of the page does not change.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from accuracy import results
from accuracy.results import Row

PAGE = Path(__file__).parents[1] / "docs" / "criteria.md"
RECOVERIES = ("raw", "norms", "shift", "lsq_moments", "lsq")


def grid(times: float) -> str:
    """Return the table of ResNet-20: criteria and recoveries; global, inner widths, 2,000 images, mean over seeds."""
    found = _means(
        results.read(results.path_of("cifar")),
        "top1",
        lambda r: (
            r["task"] == "resnet20"
            and r["side"] == "ours"
            and r["images"] == "subset"
            and r.get("widths") == "inner"
            and r.get("scope") == "global"
            and abs(r["share"] * times - 1) < 1e-3
        ),
        lambda r: r["name"],
    )
    rows = sorted(found.items(), key=lambda item: -max(item[1].values()))
    body = [[f"`{name}`", *(_percent(by.get(step)) for step in RECOVERIES)] for name, by in rows]
    return _markdown(["criterion", *RECOVERIES], body)


def beside(times: float) -> str:
    """Return the table of the best result of each side, raw and recovered; mean over seeds."""
    lines = []
    for task, images in (("resnet20", "subset"), ("resnet20", "all"), ("resnet56", "subset"), ("resnet56", "all")):
        rows = [r for r in results.read(results.path_of("cifar")) if (r["task"], r["images"]) == (task, images)]
        dense = [r["top1"] for r in rows if r["side"] == "dense"]
        at = [r for r in rows if abs(r["share"] * times - 1) < 1e-3]
        for side, steps in (("theirs", ("raw", "norms")), ("ours", RECOVERIES)):
            found = _means(at, "top1", lambda r, s=side: r["side"] == s, _setting)
            if not found or not dense:
                continue
            best = {step: max((by[step], name) for name, by in found.items() if step in by) for step in steps
                    if any(step in by for by in found.values())}  # fmt: skip
            step, (value, name) = max(best.items(), key=lambda item: item[1])
            who = "Torch-Pruning 1.6.1" if side == "theirs" else "secateur"
            cells = [f"{task}, {'2,000' if images == 'subset' else '10,000'} images", _percent(dense[0]), who]
            lines.append(
                [*cells, _percent(best["raw"][0] if "raw" in best else None), _percent(value), f"{name}, {step}"]
            )
    return _markdown(["network", "dense", "", "best raw", "best", "by"], lines)


def _setting(row: Row) -> str:
    return " ".join(filter(None, (row["name"], row.get("scope", ""), row.get("widths", ""))))


def _means(
    rows: Sequence[Row], measure: str, chosen: Callable[[Row], bool], name: Callable[[Row], str]
) -> dict[str, dict[str, float]]:
    """Return the mean of a measure over seeds, by name and recovery."""
    values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if measure in row and "error" not in row and row["side"] != "dense" and chosen(row):
            values[name(row), row["recovery"]].append(row[measure])
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (which, recovery), several in values.items():
        found[which][recovery] = mean(several)
    return found


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "grid2": lambda: grid(2),
    "grid3": lambda: grid(3),
    "beside2": lambda: beside(2),
    "beside3": lambda: beside(3),
}


def main() -> None:
    """Fill the tables of the page."""

    def filled(match: Any) -> str:
        return f"<!-- table {match[1]} -->\n\n{TABLES[match[1]]()}\n\n<!-- end -->"

    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(r"<!-- table (\w+) -->.*?<!-- end -->", filled, text, flags=re.DOTALL), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
