"""Prints what is not prunable, and why: frozen dimensions, parameters that no call reached, ops without a rule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from secateur.base.text import counted, listed, share, wrapped
from secateur.graph.facts import Facts
from secateur.graph.parts import Frozen, Sample
from secateur.terms.equation import guess

ORDINARY = {  # reasons that need no attention: their singular and plural in the summary line
    "kernel size": ("kernel size", "kernel sizes"),
    "spatial": ("spatial size", "spatial sizes"),
    "model input": ("model input", "model inputs"),
    "model output": ("model output", "model outputs"),
}
REASONS = 12


def placeless(reason: str) -> str:
    """Return a reason without the name of its module, so that equal reasons in several blocks count as one."""
    return re.sub(r" in [^\s(),]+(?=\)?$)", "", reason)


def _frozen_block(graph: Facts) -> list[str]:
    groups = _by_reason(graph)
    ordinary = {reason: groups.pop(reason) for reason in ORDINARY if reason in groups}
    ranked = _ranked(graph, groups)
    lines = ["frozen, with the share of the parameters that have such a dimension"] if ranked else []
    for weight, reason, found in ranked[:REASONS]:
        lines += _frozen_lines(share(weight / max(graph.params, 1)), reason, found)
    if len(ranked) > REASONS:
        lines.append(f"  ... and {counted(len(ranked) - REASONS, 'more reason')}: graph.why('*')")
    if ordinary:
        counts = [counted(len(found), *ORDINARY[reason]) for reason, found in ordinary.items()]
        lines += wrapped("", "always frozen: " + ", ".join(counts))
    return lines


def _by_reason(graph: Facts) -> dict[str, list[Frozen]]:
    groups: dict[str, list[Frozen]] = {}
    for frozen in graph.frozen:
        groups.setdefault(placeless(frozen.reason), []).append(frozen)
    return groups


def _ranked(graph: Facts, groups: dict[str, list[Frozen]]) -> list[tuple[int, str, list[Frozen]]]:
    """Return the reasons, with their number of parameters and dimensions; most parameters first."""
    weighed = [(_weight(graph, found), reason, found) for reason, found in groups.items()]
    return sorted(weighed, key=lambda group: -group[0])


def holding_out(graph: Facts, limit: int = 3) -> list[str]:
    """Return one line for each of the reasons that keep the most parameters, without the ordinary ones."""
    groups = {reason: found for reason, found in _by_reason(graph).items() if reason not in ORDINARY}
    return [
        f"{share(weight / max(graph.params, 1))} of the parameters: {found[0].name}[{found[0].dim}] is frozen: {reason}"
        for weight, reason, found in _ranked(graph, groups)[:limit]
    ]


def _weight(graph: Facts, found: Iterable[Frozen]) -> int:
    return sum(math.prod(graph.sites[name].shape) for name in {f.name for f in found})


def _frozen_lines(part: str, reason: str, found: Sequence[Frozen]) -> list[str]:
    names = listed([f"{f.name}[{f.dim}]" for f in found], 1, f"graph.why({found[0].name!r})")
    lines = wrapped(f"  {part:>7}  ", f"{counted(len(found), 'dimension')}: {reason}")
    return [*lines, *wrapped(" " * 11, names)]


def _unreached_block(graph: Facts) -> list[str]:
    if not graph.unreached:
        return []
    count = sum(math.prod(graph.sites[name].shape) for name in graph.unreached)
    head = f"no call reached {counted(len(graph.unreached), 'parameter tensor')}, {share(count / graph.params)} of the "
    advice = "they stay as they are; a call that uses them goes in trace(..., calls=[...])"
    return [*wrapped("", f"{head}parameters: {listed(graph.unreached, 4)}"), advice]


def _unknown_block(graph: Facts) -> list[str]:
    ops = graph.unknown
    if not ops:
        return []
    named = listed([f"{name} (x{n})" for name, n in ops.items()], 12)
    first = next((name for name in ops if name in graph.diagnosis.samples), None)
    if first is None:
        return [*wrapped("no rule for ", f"{named}; the dimensions they touched are frozen")]
    text = f"{named}; the dimensions they touched are frozen. These lines add one, once its letters are right:"
    return [*wrapped("no rule for ", text), *(f"  {line}" for line in lesson(first, graph.diagnosis.samples[first]))]


def _training_block(graph: Facts) -> list[str]:
    if graph.diagnosis.untrained is None:
        return []
    return [
        *wrapped("", f"training mode was not covered, because a call in it failed: {graph.diagnosis.untrained}"),
        *wrapped("", "tensors that only training reads may not fit after a cut; pass a call in training mode:"),
        "trace(..., calls=[Call(args, kwargs, training=True)])",
    ]


def lesson(name: str, sample: Sample) -> list[str]:
    """Return the lines that teach an op, with a first draft of its equation, in which equal sizes share a letter.

    >>> from secateur.trace.recorder import Sample
    >>> print("\\n".join(lesson("mylib::scale", Sample(((2, 8, 4, 4), (8,)), ((2, 8, 4, 4),)))))
    import secateur
    # (2x8x4x4, 8) -> 2x8x4x4. One letter: units that stay or go together. !a: all of them stay
    secateur.rule("mylib::scale", "a b c d, b -> a b c d")
    """
    took, gave = (
        ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
        for shapes in (sample.operands, sample.results)
    )
    return [
        "import secateur",
        f"# ({took}) -> {gave}. One letter: units that stay or go together. !a: all of them stay",
        f'secateur.rule("{name}", "{guess(sample.operands, sample.results)}")',
    ]


def frozen_summary(graph: Facts) -> str:
    """Return the part of the printed Graph below the axes: frozen dimensions, unreached parameters, unknown ops."""
    blocks = (_frozen_block(graph), _unreached_block(graph), _training_block(graph), _unknown_block(graph))
    return "\n\n".join("\n".join(block) for block in blocks if block)
