"""Write the figures of benchmarks.

One JSON file per script, one section per measurement, each with its machine and command.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Return the processor, cores, system and the versions that a figure depends on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("torch", "torchvision", "torch-pruning", "secateur")},
    }


def write(script: str, section: str, figures: Any) -> Path:
    """Replace one section of `results/<script>.json`, and keep the others."""
    path = RESULTS / f"{script}.json"
    path.parent.mkdir(exist_ok=True)
    content = json.loads(path.read_text()) if path.exists() else {}
    content[section] = {"command": command(), "machine": machine(), "figures": figures}
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table: the first column aligned left, the others right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]

    def line(cells: list[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "| " + " | ".join([first, *rest]) + " |"

    return "\n".join([line(header), line(rule), *map(line, rows)])


def command() -> str:
    """Return the running command, relative to the root of the repository."""
    script = Path(sys.argv[0]).resolve()
    return shlex.join(["python", f"{script.parent.name}/{script.name}", *sys.argv[1:]])


def version_of(name: str) -> str | None:
    """Return the version of a package, or None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
