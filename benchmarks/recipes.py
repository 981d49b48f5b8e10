"""Measure recipes over several seeds, and fill the pages that show the results.

    python benchmarks/recipes.py masked-mlp [--seeds 0,1,2] [--part NAME] [--threads 1] [flags of the recipe]
    python benchmarks/recipes.py pages

Every seed is a run of `secateur recipe NAME --json`. Its output is written at once to
`benchmarks/results/recipe_<name>.json`, or `recipe_<name>_<part>.json` if the recipe runs on several networks. A seed
that the file has with the same flags is not run again, except with `--again`. `pages` fills docs/recipes: the tables
from these files, the code from the lessons.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import record
from secateur.recipes import RECIPES

RUN = "from secateur.cli import main; main()"


def path_of(name: str, part: str = "") -> Path:
    """Return the path of the figures of a recipe, or of a part of it."""
    stem = f"{name}_{part}" if part else name
    return record.RESULTS / f"recipe_{stem.replace('-', '_')}.json"


def read(path: Path) -> dict[str, Any]:
    """Return the figures of a recipe; empty if there are none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run_seed(name: str, seed: int, flags: Sequence[str]) -> dict[str, Any]:
    """Run the recipe with one seed and return its JSON."""
    command = [sys.executable, "-c", RUN, "recipe", name, *flags, "--seed", str(seed), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise SystemExit(f"seed {seed} ended with {done.returncode}: {lines[-1] if lines else 'nothing was printed'}")
    return json.loads(lines[-1])


def measure(name: str, path: Path, seeds: Iterable[int], flags: Sequence[str], again: bool) -> None:
    """Run the seeds that are not in the file."""
    for seed in seeds:
        runs = dict(read(path).get("runs", {}))
        known = runs.get(str(seed))
        if known and not again and known["flags"] == list(flags):
            print(f"{name}, seed {seed}: already in the file")
            continue
        runs[str(seed)] = {"flags": list(flags), "commit": commit(), **run_seed(name, seed, flags)}
        write(path, {key: runs[key] for key in sorted(runs, key=int) if runs[key]["flags"] == list(flags)})
        print(f"{name}, seed {seed}: {runs[str(seed)]['seconds']:.0f} s")


def commit() -> str:
    """Return the commit, with a + if files have changed since."""
    describe = ["git", "describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=10"]
    done = subprocess.run(describe, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip()


def write(path: Path, runs: Mapping[str, Any]) -> None:
    """Write all runs and the summary of their rows; the file is replaced atomically."""
    first = next(iter(runs.values()))
    shared = ("recipe", "claim", "data", "metric", "columns")
    content = {
        "command": record.command(),
        "machine": record.machine(),
        **{key: first[key] for key in shared},
        "commits": list(dict.fromkeys(run.get("commit", "") for run in runs.values())),
        "seeds": [int(seed) for seed in runs],
        "flags": first["flags"],
        "seconds": spread([run["seconds"] for run in runs.values()]),
        "rows": summed_up(list(runs.values())),
        "runs": runs,
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def summed_up(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per method: the mean and the range of every figure over the runs that have it."""
    methods = list(dict.fromkeys(row["method"] for run in runs for row in run["rows"]))
    return [_row(method, [row for run in runs for row in run["rows"] if row["method"] == method]) for method in methods]


def _row(method: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for row in rows for key in row["metric"]))
    figures = {key: [row["metric"][key] for row in rows if row["metric"].get(key) is not None] for key in keys}
    return {
        "method": method,
        "params": spread([row["params"] for row in rows]),
        "macs": spread([row["macs"] for row in rows]),
        "metric": {key: spread(values) for key, values in figures.items() if values},
        "more": rows[0]["more"],
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the mean, the least and the greatest value, and the number of values."""
    return {"mean": mean(values), "low": min(values), "high": max(values), "n": len(values)}


def main() -> None:
    """Measure a recipe, or fill the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=[*RECIPES, "pages"], metavar="NAME|pages")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--part", default="", help="a part of the page, such as the name of a network")
    parser.add_argument("--again", action="store_true", help="also run seeds that the file has")
    args, flags = parser.parse_known_args()
    if args.name == "pages":
        import recipe_pages

        recipe_pages.fill()
        return
    path = path_of(args.name, args.part)
    measure(args.name, path, map(int, args.seeds.split(",")), flags, args.again)
    print(f"wrote {path}  ({shlex.join(['python', 'benchmarks/recipes.py', 'pages'])} shows it)")


if __name__ == "__main__":
    main()
