"""The table that `print(plan)` shows: what remains, and what each axis loses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from secateur.base.text import columns, counted, folded, listed, numeral, paged, share, span, times, wrapped
from secateur.plan.choice import UNREAD, Choice
from secateur.plan.parts import AttributeChange, AxisPlan, Code, Recovery

ROWS = 40
FOLD_ABOVE = 24  # up to this many cut axes are listed one by one
MAY_CHANGE = "equal to a size that changes, and kept as it was; pass a call that reads it, calls=[...]"
SHOWN = 5  # dropped units of an axis


def table(plan: Choice) -> str:
    """Return the totals before and after, and the axes that lose units, as text.

    >>> import secateur, torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> print(table(secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]})))
    plan by hand (importance l2, scope global, seed 0)
    <BLANKLINE>
                    before  after  remains
    parameters          58     44   75.9 %
    MACs                48     36   75.0 %
    memory (bytes)     288    224   77.8 %
    <BLANKLINE>
    1 of 1 axis is cut  units  keeps  remains  tensors  drops
      0                     8      6   75.0 %        3  1, 5
    <BLANKLINE>
    2 attributes change: 0.out_features 8 -> 6, 1.in_features 8 -> 6
    """
    blocks = [[_head(plan)], _totals(plan), _removed(plan), _axis_table(plan), _changes(plan)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _head(plan: Choice) -> str:
    goal = f"plan for {', '.join(plan.target)}" if plan.target else "plan by hand"
    notes = ", ".join(f"{key} {value}" for key, value in plan.notes.items() if key != UNREAD)
    return f"{goal} ({notes})" if notes else goal


def _totals(plan: Choice) -> list[str]:
    rows = []
    for kind, (old, heading) in plan.before.amounts.items():
        new = plan.after[kind]
        if old is not None and new is not None:
            rows.append((heading, numeral(old), numeral(new), share(new / old) if old else ""))
    return columns([("", "before", "after", "remains"), *rows], right=(1, 2, 3))


def _removed(plan: Choice) -> list[str]:
    count = len(plan.removed)
    if not count:
        return []
    names = listed(plan.removed, 12, "plan.removed")
    whole = "dropped whole, and those behind renumbered" if plan.names else "dropped whole"
    return wrapped("", f"{counted(count, 'block')} {'is' if count == 1 else 'are'} {whole}: {names}")


def _axis_table(plan: Choice) -> list[str]:
    cut = list(plan.dropped())
    if not cut:
        return [] if plan.removed else ["nothing is cut"]
    own = sum(axis.kept is not None for axis in plan.axes.values())
    head = f"{len(cut)} of {counted(own, 'axis', 'axes')} {'is' if len(cut) == 1 else 'are'} cut"
    tensors = _tensors(plan)
    folds = _folds(cut, tensors)
    lines = [(head, "units", "keeps", "remains", "tensors", "drops")]
    for name, places in folds[:ROWS]:
        label = f"  {times(name, len(places))}"
        members = [cut[place] for place in places]
        lines.append(
            (label, *_cells([axis for _, axis in members]), span(tensors[n] for n, _ in members), _drops(members))
        )
    more = sum(len(places) for _, places in folds[ROWS:])
    return [*paged(lines, right=(1, 2, 3, 4)), *([f"  ... and {more:,} more: plan.axes"] if more else [])]


def _folds(cut: Sequence[tuple[str, AxisPlan]], tensors: Mapping[str, int]) -> list[tuple[str, list[int]]]:
    """Return the lines of the table: one per axis if there are few, else equal axes folded, else equal sizes."""
    names = [name for name, _ in cut]
    if len(names) <= FOLD_ABOVE:
        return [(name, [place]) for place, name in enumerate(names)]
    equal = folded(names, [(axis.size, axis.kept_count, _outer_size(axis), tensors[name]) for name, axis in cut])
    return equal if len(equal) <= ROWS else folded(names, [(axis.size, _outer_size(axis)) for _, axis in cut])


def _cells(members: Sequence[AxisPlan]) -> tuple[str, str, str]:
    """Return the number of units, how many stay, and what share that is."""
    first, counts = members[0], [axis.kept_count for axis in members]
    each = "" if first.outer is None else f"{_outer_size(first)}x"
    remains = share(sum(counts) / (first.size * len(members)))
    return f"{each}{first.size}", each + span(counts), remains


def _outer_size(axis: AxisPlan) -> int:
    return 1 if axis.outer is None else len(axis.kept or ())


def _drops(members: Sequence[tuple[str, AxisPlan]]) -> str:
    """Return the dropped units, or their number where several axes or outer units drop different ones."""
    axis = members[0][1]
    if len(members) > 1 or axis.outer is not None:
        return f"{span(axis.size - axis.kept_count for _, axis in members)} of each"
    kept = set(axis.kept or ())
    return listed([str(unit) for unit in range(axis.size) if unit not in kept], SHOWN)


def _tensors(plan: Choice) -> Counter[str]:
    """Return in how many tensors each axis occurs."""
    return Counter(name for codes in plan.sites.values() for name in {n for code in codes for n in _names(code)})


def _names(code: Code) -> Iterator[str]:
    if isinstance(code, str):
        yield code
    elif not isinstance(code, int):
        for parts in code.values():
            for part in parts:
                yield from _names(part)


def _changes(plan: Choice) -> list[str]:
    lines = []
    if plan.attributes:
        verb = "changes" if len(plan.attributes) == 1 else "change"
        head = f"{counted(len(plan.attributes), 'attribute')} {verb}: "
        lines += wrapped("", head + listed(map(_change, plan.attributes), 4, "plan.attributes"))
    if plan.renorms:
        names = [renorm.name for renorm in plan.renorms]
        lines += wrapped("", f"{counted(len(names), 'gain')} of normalised weights rescaled: {listed(names, 3)}")
    if plan.scales:
        names = [f"{scale.name} x {scale.factor:.4g}" for scale in plan.scales]
        lines += wrapped("", f"{counted(len(names), 'tensor')} scaled: {listed(names, 3, 'plan.scales')}")
    if plan.added:
        names = [added.name for added in plan.added]
        lines += wrapped("", f"{counted(len(names), 'parameter')} added: {listed(names, 3, 'plan.added')}")
    if UNREAD in plan.notes:
        lines += wrapped("", f"no call read {plan.notes[UNREAD]}: {MAY_CHANGE}")
    if plan.recovery:
        lines += wrapped("", f"weights recovered by {', then '.join(map(_step, plan.recovery))}")
    return lines


def _step(recovery: Recovery) -> str:
    options = ", ".join(f"{name} {value}" for name, value in recovery.options.items())
    return f"{recovery.step} ({options})" if options else recovery.step


def _change(change: AttributeChange) -> str:
    module = f"{change.module}." if change.module else ""
    place = "" if change.index is None else f"[{change.index}]"
    return f"{module}{change.name}{place} {change.old} -> {change.new}"
