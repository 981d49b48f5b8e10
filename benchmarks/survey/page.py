"""Write `results/coverage.json` from the lines of a survey, and `docs/coverage.md` from that file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import record

DATA = record.RESULTS / "coverage.json"
PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
ENOUGH = 0.75
"""A model that keeps more of its parameters than this at `channels=0.7` is listed with the reason."""

LEAST = 0.45
"""A model that keeps less of its parameters than this at `channels=0.7` needs a reason in `WHY_LESS`."""
WHY_LESS = {
    "hf:mixtral": "0.7 of four experts is two, and each of these loses two widths more",
    "timm:xcit_nano_12_p8_224": "four heads are tied to the channels, and 0.7 of four is two: all widths are halved",
    "timm:xcit_nano_12_p8_384": "four heads are tied to the channels, and 0.7 of four is two: all widths are halved",
}

VERDICTS = ("right", "wrong", "unproved", "refused", "crash", "timeout")
TITLES = {"torchvision": "torchvision", "timm": "timm", "hf": "Hugging Face transformers"}
KEPT_FIELDS = {
    "ours": (
        "verdict params params_left macs_left silence permutation visible coverage unknown unreached frozen error"
        " end_to_end commit prune_s proof_s dear"
    ).split(),
    "theirs": ["verdict", "params_left", "silence", "visible", "units_known", "error"],
    "race": ["ours_seconds", "theirs_seconds", "ours_left", "theirs_left", "theirs"],
}

Lines = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """The results of one model: one dict per side."""

    name: str
    family: str
    ours: Mapping[str, Any]
    theirs: Mapping[str, Any]
    race: Mapping[str, Any]

    @property
    def source(self) -> str:
        return self.name.partition(":")[0]

    @property
    def right(self) -> bool:
        return self.ours["verdict"] == "right"

    @property
    def enough(self) -> bool:
        return self.right and self.ours["params_left"] <= ENOUGH

    @property
    def ratio(self) -> float | None:
        """Their seconds over ours, or None unless both cut models run forward."""
        both = self.right and self.theirs.get("verdict") in ("right", "wrong")
        seconds = self.race.get("ours_seconds"), self.race.get("theirs_seconds")
        return seconds[1] / seconds[0] if both and all(seconds) else None  # type: ignore[operator]


def write(lines: Lines, families: Mapping[str, str], command: str) -> None:
    """Write both files. `families`: the family of every model of the zoo, in the order of the page."""
    DATA.parent.mkdir(exist_ok=True)
    earlier = json.loads(DATA.read_text()) if DATA.exists() else {}
    DATA.write_text(json.dumps(gathered(lines, families, command, earlier), indent=1) + "\n")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(json.loads(DATA.read_text())))
    print(f"wrote {DATA} and {PAGE}")


def gathered(
    lines: Lines, families: Mapping[str, str], command: str, earlier: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the committed form: machine, command, and for every model that was run the fields that the page needs.

    `earlier`: the form that is replaced. Its results of Torch-Pruning are kept if the lines have none.
    """
    models = {
        name: {
            "family": family,
            **{
                side: {key: line[key] for key in keys if key in line}
                for side, keys in KEPT_FIELDS.items()
                if (line := lines.get((name, side))) is not None
            },
        }
        for name, family in families.items()
        if (name, "ours") in lines
    }
    libraries = {name: record.version_of(name) for name in ("timm", "transformers")}
    found = {"command": command, "machine": record.machine() | libraries, "models": models}
    if earlier and not any(side != "ours" for _, side in lines):
        for name, model in models.items():
            before = earlier["models"].get(name, {})
            model.update({side: before[side] for side in ("theirs", "race") if side in before})
        found["beside"] = earlier.get("beside", earlier["machine"])
    return found


def text(data: Mapping[str, Any]) -> str:
    """Return the text of the page."""
    rows = [
        Row(name, model["family"], model["ours"], model.get("theirs", {}), model.get("race", {}))
        for name, model in data["models"].items()
    ]
    parts = [INTRODUCTION, _run(data), _totals(rows), _proofs(rows), _time(rows), _exceptions(rows), _least(rows)]
    parts += [_theirs(rows), *(_models(source, rows) for source in TITLES)]
    return "\n\n".join(filter(None, parts)) + "\n"


INTRODUCTION = """# Which models it can cut

`python benchmarks/coverage.py` measures, and with `--page` writes this page.

Every model has seeded random weights and buffers (nothing is downloaded) and is pruned by one call without hints:
`secateur.prune(model, inputs, "channels=0.7", importance="random")`. It is **right** if, in float64 and relative to the
largest value, the cut model computes what the original computes with the dropped units silenced, and reordering the
units of every axis changes nothing, both to 1e-9; means and variances over units read the kept ones only. Detectors are
compared by the raw outputs of all their heads on the same images. **Left** is the share of the parameters that remain.
`unproved`: silencing the dropped units does not change the outputs; `timeout`: not finished within the limit.

torchvision: every model up to 100 M parameters except the quantised ones. timm: the two smallest models of each family
(a module of `timm.models`). Hugging Face: small random configurations. All run in evaluation mode, on small inputs if
the model accepts them; `benchmarks/zoo` has the lists.

**Torch-Pruning** 1.6.1 gets the same models, the same share of channels, and the hints that its README and examples
require: the output layers to ignore, the heads of attention layers, the attributes to repair after the cut. `right` has
the same meaning: its result equals the original with the dropped slices zeroed."""


def _run(data: Mapping[str, Any]) -> str:
    commits = Counter(model["ours"].get("commit") for model in data["models"].values())
    beside = sum("theirs" in model for model in data["models"].values())
    where = "at one commit" if len(commits) == 1 else f"at {len(commits)} commits of one day"
    lines = [
        f"{len(data['models'])} models were measured, {where} (see the JSON);"
        f" Torch-Pruning was run on {beside} of them.",
        "",
        f"Measured on {_machine(data['machine'])}.",
    ]
    if "beside" in data:
        lines.append(f"Torch-Pruning and the times of both were measured earlier, on {_machine(data['beside'])}.")
    return "\n".join([*lines, f"Command: `{data['command']}`."])


def _machine(machine: Mapping[str, Any]) -> str:
    versions = ("python", "torch", "torchvision", "timm", "transformers", "torch-pruning")
    named = ", ".join(f"{name} {machine[name]}" for name in versions if machine.get(name))
    return f"{machine['cores']} cores of {machine['processor']} ({machine['system']}), one thread per model; {named}"


def _totals(rows: Sequence[Row]) -> str:
    header = ["", "models", *VERDICTS, "right and lose 25 % or more"]
    body = [_total(TITLES[source], [r for r in rows if r.source == source]) for source in TITLES]
    return "## Totals\n\n" + record.table(header, [*body, _total("all", rows)])


def _total(title: str, rows: Sequence[Row]) -> list[str]:
    verdicts = Counter(row.ours["verdict"] for row in rows)
    enough = sum(row.enough for row in rows)
    counts = [len(rows), *(verdicts[verdict] for verdict in VERDICTS)]
    return [title, *map(str, counts), f"{enough} ({_percent(enough, len(rows))})"]


def _percent(part: int, whole: int) -> str:
    return f"{part / max(whole, 1):.1%}"


def _proofs(rows: Sequence[Row]) -> str:
    """Return the time of a proof relative to the rest of `prune`, and the models without a proof by default."""
    costs = [row.ours["proof_s"] / row.ours["prune_s"] for row in rows if row.ours.get("proof_s") and row.right]
    if not costs:
        return ""
    dear = [row.name for row in rows if row.ours.get("dear")]
    return (
        "## Proofs\n\n"
        f"Proving a cut takes **{median(costs):.2f}** times as long as the rest of `prune` (median of {len(costs)}"
        f" models, processor time, one thread). By default `prune` skips the proof on {len(dear)} models"
        + (f": {', '.join(dear)}." if dear else ".")
    )


def _time(rows: Sequence[Row]) -> str:
    timed = [(row.ratio, row) for row in rows if row.ratio is not None]
    if not timed:
        return ""
    slower = sorted((ratio, row.name) for ratio, row in timed if ratio < 1)
    right = [ratio for ratio, row in timed if row.theirs["verdict"] == "right"]
    stopped = sum(row.theirs.get("verdict") == "over 60 s" for row in rows)
    lines = [
        "## Time",
        "",
        "Our trace, plan and cut, and their graph building and pruning, alternate in one process. Figures are processor"
        " time: the median of up to three runs, each stopped after 60 s.",
        "",
        f"- On the {len(timed)} models that both can cut and run, the median of their time over ours is"
        f" **{median(ratio for ratio, _ in timed):.1f}**.",
        f"- On the {len(right)} of them that both cut right, it is {median(right):.1f}." if right else "",
        f"- {stopped} models take them over 60 s." if stopped else "",
        f"- Ours is slower on {len(slower)}: {', '.join(f'{name} ({ratio:.2f})' for ratio, name in slower)}."
        if slower
        else "- Ours is slower on none.",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or i in (1, 3))


def _exceptions(rows: Sequence[Row]) -> str:
    odd = [row for row in rows if not row.enough]
    if not odd:
        return "## Exceptions\n\nNone: every model is right and loses at least 25 % of its parameters."
    told = [f"- **{row.name}**, {_outcome(row)}: {_reason(row)}" for row in odd]
    return "\n".join(["## Exceptions", "", "Every model that is not right, or keeps more than 75 %.", "", *told])


def _outcome(row: Row) -> str:
    return f"{row.ours['params_left']:.1%} left" if row.right else row.ours["verdict"]


def _reason(row: Row) -> str:
    ours = row.ours
    if not row.right:
        errors = ", ".join(f"{key} {ours[key]:.0e}" for key in ("silence", "permutation", "visible") if key in ours)
        return " ".join(ours.get("error", errors).split("\n")[:2])
    reasons = [(reason, share) for reason, share in ours.get("frozen", []) if share >= 0.01]
    held = [f"{share:.0%} of the parameters by `{reason}`" for reason, share in reasons[:2]]
    if ours.get("unreached", 0) > 0.01:
        held.append(f"{ours['unreached']:.0%} are reached by no call")
    return "; ".join(held) or "nothing is frozen; the rest belongs to units that must stay"


def _least(rows: Sequence[Row]) -> str:
    """Return the models that keep less than `LEAST`, with the reasons."""
    found = sorted((row.ours["params_left"], row.name) for row in rows if row.right and row.ours["params_left"] < LEAST)
    if not found:
        return ""
    lines = [f"- **{name}**, {left:.1%} left: {WHY_LESS.get(name, 'no reason is known')}." for left, name in found]
    head = f"Every model that keeps less than {LEAST:.0%}; two widths of 0.7 leave 49 % of a matrix."
    return "\n".join(["## Least left", "", head, "", *lines])


def _theirs(rows: Sequence[Row]) -> str:
    run = [row for row in rows if row.theirs]
    if not run:
        return ""
    kinds = ("right", "wrong", "no run", "nothing cut", "crash", "over 60 s")
    header = ["Torch-Pruning", "models", *kinds, "right and lose 25 %"]
    body = []
    for title, some in [*((TITLES[s], [r for r in run if r.source == s]) for s in TITLES), ("all", run)]:
        verdicts = Counter(_kind(row.theirs["verdict"]) for row in some)
        enough = sum(r.theirs["verdict"] == "right" and r.theirs["params_left"] <= ENOUGH for r in some)
        numbers = [str(verdicts[kind]) for kind in kinds]
        body.append([title, str(len(some)), *numbers, f"{enough} ({_percent(enough, len(some))})"])
    note = (
        "`no run`: the cut model raises an error when it is called; `wrong`: it runs, but does not compute what the"
        " original computes without the dropped units; `crash`: pruning raises an error."
    )
    return "## Torch-Pruning on the same models\n\n" + record.table(header, body) + f"\n\n{note}"


def _kind(verdict: str) -> str:
    return "over 60 s" if verdict == "timeout" else verdict


COLUMNS: dict[str, Callable[[Row], str]] = {
    "parameters": lambda r: f"{r.ours['params'] / 1e6:.2f} M" if "params" in r.ours else "",
    "verdict": lambda r: r.ours["verdict"],
    "left": lambda r: f"{r.ours['params_left']:.0%}" if "params_left" in r.ours else "",
    "MACs left": lambda r: f"{r.ours['macs_left']:.0%}" if "macs_left" in r.ours else "",
    "error": lambda r: f"{max(r.ours['silence'], r.ours['permutation']):.0e}" if "silence" in r.ours else "",
    "seconds": lambda r: _seconds(r.race.get("ours_seconds")),
    "theirs": lambda r: _kind(r.theirs.get("verdict", "")),
    "their left": lambda r: f"{r.theirs['params_left']:.0%}" if "params_left" in r.theirs else "",
    "their seconds": lambda r: _seconds(r.race.get("theirs_seconds")),
}


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f}"


def _models(source: str, rows: Iterable[Row]) -> str:
    """Return one table per source, grouped by family."""
    some = [row for row in rows if row.source == source]
    if not some:
        return ""
    families = len({row.family for row in some}) < len(some)
    header = [*(["family"] if families else []), "model", *COLUMNS]
    body = [
        [*([row.family] if families else []), row.name.partition(":")[2], *(cell(row) for cell in COLUMNS.values())]
        for row in some
    ]
    return f"## {TITLES[source]}\n\n" + record.table(header, body)
