"""Prune every model of the zoo by secateur and by Torch-Pruning; verify the cuts and measure their time.

    python benchmarks/coverage.py                       all models: secateur, Torch-Pruning 1.6.1, and the time of both
    python benchmarks/coverage.py --side ours --only 'hf:*' --jobs 2
    python benchmarks/coverage.py --resume              skip what the file of lines has; with --again
                                                        timeout,crash run tasks with these verdicts again
    python benchmarks/coverage.py --page                results/coverage.json and docs/coverage.md from the lines

Each model runs in a separate process, on one thread. Each result is appended to `--lines` as a line of JSON; a later
line of the same model and side replaces an earlier one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import zoo
from secateur.base.progress import doing, heartbeat
from survey import pool

LINES = Path(__file__).parent / "results" / "coverage.jsonl"
SIDES = ("ours", "theirs", "race")
LIMIT = 180.0


def work(task: str, lines: Path) -> dict[str, Any]:
    """Run one side of one model; `task` is a string such as "ours timm:resnet10t"."""
    warnings.simplefilter("ignore")
    side, name = task.split()
    examine = importlib.import_module(f"survey.{side}").examine
    return examine(name, alone=_theirs_fails(name, lines)) if side == "race" else examine(name)


def _theirs_fails(name: str, lines: Path) -> bool:
    """Return whether an earlier run of Torch-Pruning failed, so that there is nothing to time."""
    return read(lines).get((name, "theirs"), {}).get("verdict") in ("over 60 s", "timeout", "crash")


def survey(tasks: list[str], lines: Path, jobs: int, limit: float) -> None:
    """Run the tasks and append their results."""
    commit = _commit()
    for side in {task.split()[0] for task in tasks}:
        importlib.import_module(f"survey.{side}")  # before any child is forked
    lines.parent.mkdir(parents=True, exist_ok=True)
    with heartbeat(), doing("surveying", len(tasks)) as now:
        for task, found in pool.run(tasks, partial(work, lines=lines), jobs=jobs, limit=limit):
            now.done += 1
            side, name = task.split()
            row = {"name": name, "side": side, **found, "commit": commit, "at_time": time.strftime("%H:%M:%S")}
            with lines.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{now.done}/{len(tasks)} {described(row)}", flush=True)


def described(row: dict[str, Any]) -> str:
    """Return a result as one line of progress."""
    left = f"{row['params_left']:.0%} left" if "params_left" in row else ""
    errors = [f"{row[key]:.0e}" for key in ("silence", "permutation") if key in row]
    seconds = " ".join(f"{side} {row[f'{side}_seconds']:.2f} s" for side in SIDES if f"{side}_seconds" in row)
    message = row.get("error", "").partition("\n")[0][:200] if row["verdict"] != "right" else ""
    return " ".join(filter(None, [row["side"], row["name"], row["verdict"], left, *errors, seconds, message]))


def read(lines: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the last line of every model and side."""
    text = lines.read_text().splitlines() if lines.exists() else []
    rows = (json.loads(line) for line in text)
    return {(row["name"], row["side"]): row for row in rows}


def tasks_of(names: Iterable[str], sides: Iterable[str], done: Iterable[tuple[str, str]]) -> list[str]:
    """Return the tasks, model by model, without those that are done."""
    return [f"{side} {name}" for name in names for side in sides if (name, side) not in set(done)]


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False
    ).stdout.strip()


def main() -> None:
    """Run the survey, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", help="glob of names, such as 'timm:*vit*'; several with commas")
    parser.add_argument("--family", help="only these families, comma-separated")
    parser.add_argument("--side", choices=[*SIDES, "all"], default="all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one side of one model")
    parser.add_argument("--lines", type=Path, default=LINES)
    parser.add_argument("--resume", action="store_true", help="skip results that the file of lines has")
    parser.add_argument(
        "--again", default="", help="with --resume: run tasks with these verdicts again, such as timeout,crash"
    )
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    if args.page:
        from survey import page

        families = {entry.name: entry.family for entry in zoo.entries()}
        return page.write(read(args.lines), families, "python benchmarks/coverage.py")
    warnings.simplefilter("ignore")
    found = {e.name: e for pattern in args.only.split(",") for e in zoo.entries(pattern)}
    families = args.family.split(",") if args.family else None
    names = [name for name, entry in found.items() if families is None or entry.family in families]
    sides = SIDES if args.side == "all" else (args.side,)
    again = args.again.split(",")
    done = [key for key, row in read(args.lines).items() if args.resume and row["verdict"] not in again]
    tasks = tasks_of(names, sides, done)
    print(f"{len(names)} models, {len(tasks)} tasks", file=sys.stderr, flush=True)
    survey(tasks, args.lines, args.jobs, args.limit)


if __name__ == "__main__":
    main()
