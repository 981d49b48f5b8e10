"""Measure the time of secateur and of Torch-Pruning 1.6.1, on one thread.

    python benchmarks/speed.py                              both, in alternation, on eight torchvision models
    python benchmarks/speed.py --models resnet50,swin_t     the same on some of them
    python benchmarks/speed.py --linear                     time per block on chains of 50, 500 and 5,000 blocks
    python benchmarks/speed.py --cost                       one evaluation of the cost of a plan on densenet201
    python benchmarks/speed.py --import                     `import secateur` after `import torch`
    python benchmarks/speed.py --earlier ../older/src       this version and another one, with an A/A pair

A run starts with the model in memory and ends with the pruned model in memory: ours is trace + plan + `cut_`, theirs is
graph building and pruning in place. Imports and the construction of the model are not measured. Each side is stopped
after 60 s; the figure is the median of its runs. Each measurement replaces one section of
`benchmarks/results/speed.json`; a comparison of only some models is printed, not written.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import chains
import incumbent
import record
import worker


def against(names: list[str], limit: float) -> None:
    """Measure both sides on every model, in alternation."""
    rows: list[list[str]] = []
    figures: dict[str, Any] = {"removed": incumbent.RATIO, "limit": limit, "models": {}}
    with worker.Worker("incumbent") as theirs, worker.Worker("ours") as ours:
        for name in names:
            runs = worker.alternate({"incumbent": theirs, "ours": ours}, name, limit)
            sides = {side: asdict(r) | {"value": r.value} for side, r in runs.items()}
            figures["models"][name] = sides | _ratio(runs)
            rows.append([name, _cell(runs["incumbent"]), _cell(runs["ours"]), _times(runs)])
            print(f"{name}: {' against '.join(r.describe() for r in runs.values())}", file=sys.stderr, flush=True)
    print(record.table(["model", "Torch-Pruning 1.6.1", "secateur", "faster by"], rows))
    if names == list(incumbent.MODELS):
        print(record.write("speed", "against", figures))


def earlier(names: list[str], limit: float, source: Path) -> None:
    """Measure another version and this one on every model, in alternation; this one twice, to show the noise."""
    here = Path(__file__).resolve().parents[1] / "src"
    rows: list[list[str]] = []
    figures: dict[str, dict[str, float]] = {}
    with (
        worker.Worker("ours", source) as older,
        worker.Worker("ours", here) as newer,
        worker.Worker("ours", here) as again,
    ):
        for name in names:
            runs = worker.alternate({"older": older, "newer": newer, "again": again}, name, limit)
            value = {side: median(r.seconds) for side, r in runs.items()}
            found = {**value, "ratio": value["newer"] / value["older"], "A/A": value["again"] / value["newer"]}
            figures[name] = found
            rows.append([name, *(f"{found[key]:.3f}" for key in found)])
            print(rows[-1], file=sys.stderr, flush=True)
    imports = _imports({"older": source, "newer": here, "again": here})
    rows.append(["import secateur", *(f"{value:.3f}" for value in imports.values())])
    print(record.table(["model", "older, s", "newer, s", "again, s", "newer / older", "A/A"], rows))
    print(record.write("speed", "earlier", {**figures, "import": imports}))


def _imports(sources: dict[str, Path], rounds: int = 9) -> dict[str, float]:
    """Return the median seconds of `import secateur` by version, measured in alternation."""
    seconds: dict[str, list[float]] = {side: [] for side in sources}
    for _ in range(rounds):
        for side, source in sources.items():
            seconds[side].append(_import_once(source))
    value = {side: median(some) for side, some in seconds.items()}
    return {**value, "ratio": value["newer"] / value["older"], "A/A": value["again"] / value["newer"]}


def _import_once(source: Path | None = None) -> float:
    """Return the seconds of `import secateur` in a new interpreter that has imported torch."""
    code = "import time, torch; t = time.perf_counter(); import secateur; print(time.perf_counter() - t)"
    env = {**os.environ, **({"PYTHONPATH": str(source)} if source else {})}
    return float(subprocess.check_output([sys.executable, "-c", code], env=env))


def _cell(runs: worker.Runs) -> str:
    if runs.value is None:
        return "fails"
    left = f" ({runs.remaining:.0%} left)" if runs.remaining is not None else ""
    return f"{'> ' if runs.timed_out else ''}{runs.value:.2f} s{left}"


def _ratio(runs: dict[str, worker.Runs]) -> dict[str, Any]:
    """Return their time over ours: a lower bound if they were stopped at the limit, None if ours did not end."""
    theirs, ours = runs["incumbent"], runs["ours"]
    if theirs.value is None or ours.value is None or ours.timed_out:
        return {"ratio": None}
    return {"ratio": theirs.value / ours.value, "ratio_is_lower_bound": theirs.timed_out}


def _times(runs: dict[str, worker.Runs]) -> str:
    ratio = _ratio(runs)
    if ratio["ratio"] is None:
        return "-"
    return f"{'> ' if ratio['ratio_is_lower_bound'] else ''}{ratio['ratio']:.1f}x"


def linear() -> None:
    """Measure the time per block on chains of several lengths."""
    header = ["blocks", "number", "trace s", "plan s", "cut_ s", "ms per block", f"relative to {chains.LENGTHS[0]}"]
    rows: list[list[str]] = []
    figures: dict[str, list[dict[str, float]]] = {}
    for kind in chains.CHAINS:
        stages = [chains.measure(kind, length) for length in chains.LENGTHS]
        figures[kind] = [asdict(s) | {"ms_per_block": s.per_block} for s in stages]
        for s in stages:
            numbers = [*(f"{v:.3f}" for v in (s.trace, s.plan, s.cut)), f"{s.per_block:.2f}"]
            rows.append([kind, f"{s.length:,}", *numbers, f"{s.per_block / stages[0].per_block:.2f}"])
    print(record.table(header, rows))
    print(record.write("speed", "linear", figures))


def cost(name: str = "densenet201", repeats: int = 101) -> None:
    """Measure one evaluation of the cost of a plan (parameters and MACs), without building the model."""
    import secateur

    model, x = incumbent.build(name)
    graph = secateur.trace(model, (x,))
    plan = secateur.plan(graph, f"channels={1 - incumbent.RATIO:g}", importance="l2")
    seconds: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        _cost_of(graph, plan)
        seconds.append(time.perf_counter() - start)
    figures = {"model": name, "first_ms": seconds[0] * 1000, "median_ms": median(seconds) * 1000, "repeats": repeats}
    rows = [[name, f"{figures['first_ms']:.2f}", f"{figures['median_ms']:.2f}"]]
    print(record.table(["cost of a plan", "first call, ms", "median, ms"], rows))
    print(record.write("speed", "cost", figures))


def _cost_of(graph: Any, plan: Any) -> tuple[int, int]:
    """Return the parameters and MACs of a plan, from the unit counts that remain."""
    counts = np.array([plan.axes[axis.name].kept_count for axis in graph.axes])
    return graph.cost.params(counts), graph.cost.macs(counts)


def import_time(repeats: int = 7) -> None:
    """Measure `import secateur` in a new interpreter that has imported torch."""
    seconds = [_import_once() for _ in range(repeats)]
    rows = [["after torch", f"{median(seconds):.3f}", f"{max(seconds):.3f}"]]
    print(record.table(["import secateur", "median, s", "worst, s"], rows))
    print(record.write("speed", "import", {"median_s": median(seconds), "seconds": seconds}))


def main() -> None:
    """Run the measurements that the options name, by default the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(incumbent.MODELS), help="comma-separated torchvision names")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a run is stopped")
    for part in ("linear", "cost", "import"):
        parser.add_argument(f"--{part}", action="store_true")
    parser.add_argument("--earlier", type=Path, metavar="SRC", help="the src folder of another version")
    args = vars(parser.parse_args())
    torch.set_num_threads(1)
    parts = {"linear": linear, "cost": cost, "import": import_time}
    names = args["models"].split(",")
    if args["earlier"]:
        return earlier(names, args["limit"], args["earlier"])
    chosen = [run for part, run in parts.items() if args[part]]
    for run in chosen or [lambda: against(names, args["limit"])]:
        run()


if __name__ == "__main__":
    main()
