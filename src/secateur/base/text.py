"""Plain text for tables and messages: aligned columns, percentages, shortened lists, and names folded into globs."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence

WIDTH = 110  # of running text
PAGE = 120  # of tables
NO_BREAK = "\u00a0"
_TAIL = re.compile(r"[\d*]*$")
_INDEX = re.compile(r"(?<!\[)\d+(?!\d*\])")  # a number in a name, but not the [0] that distinguishes axes of one module


def columns(rows: Sequence[Sequence[str]], right: Collection[int] = (), gap: str = "  ") -> list[str]:
    """Return one line per row, with every column as wide as its widest cell; columns in `right` are right-aligned.

    >>> columns([["a", "1"], ["bc", "10"]], right=[1])
    ['a    1', 'bc  10']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        return gap.join(cells).rstrip().replace(NO_BREAK, " ")

    return [line(row) for row in rows]


def numeral(value: float) -> str:
    """Return a number with thousands separators; a float in four digits.

    >>> numeral(1_234_567), numeral(3.14159)
    ('1,234,567', '3.142')
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def share(value: float) -> str:
    """Return a fraction in percent. It shows 0 % and 100 % only where they are exact.

    >>> share(0.4957), share(0.99999), share(1.0), share(0.0)
    ('49.6 %', '>99.9 %', '100 %', '0 %')
    """
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    if value < 0.0005:
        return "<0.1 %"
    return ">99.9 %" if 0.9995 <= value < 1 else f"{100 * value:.1f} %"


def counted(n: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "axis", "axes"), counted(1200, "axis", "axes")
    ('1 axis', '1,200 axes')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def span(values: Iterable[int]) -> str:
    """Return one number, or the smallest and the largest of several.

    >>> span([3, 3]), span([5, 3, 4])
    ('3', '3-5')
    """
    values = list(values)
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"


def listed(items: Iterable[str], limit: int, rest: str = "") -> str:
    """Return the first `limit` items and how many more there are; `rest` names the place where all of them are listed.

    >>> listed("abcde", 3, "graph.why('*')")
    "a, b, c, ... and 2 more: graph.why('*')"
    """
    items = list(items)
    if len(items) <= limit:
        return ", ".join(items)
    return f"{', '.join(items[:limit])}, ... and {len(items) - limit:,} more" + (f": {rest}" if rest else "")


def a_kind(value: object) -> str:
    """Return the type of a value with its article.

    >>> a_kind(3), a_kind([]), a_kind(None)
    ('an int', 'a list', 'None')
    """
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'AEIOUaeiou' or name == 'ndarray' else 'a'} {name}"


def brief(value: object, limit: int = 60) -> str:
    """Return the `repr` of a value on one line, shortened if it is long.

    >>> brief("x" * 20, 10), brief([1, 2])
    ("'xxxxxx...", '[1, 2]')
    """
    line = " ".join(repr(value).split())
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error.

    >>> first_line(ValueError("no\\nfor three reasons"))
    'no'
    """
    return (str(error).strip().splitlines() or [""])[0]


def abbreviated(name: str, width: int) -> str:
    """Shorten a dotted name to `width` characters, if possible, by cutting all parts but the last to their initials.

    >>> abbreviated("encoder.layers.block_12.attention.query", 28)
    'e.l.block_12.attention.query'
    >>> abbreviated("encoder.layers.block_12.attention.query", 24)
    'e.l.b12.attention.query'
    """
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if len(".".join(parts)) <= width:
            break
        parts[i] = part if part.isdecimal() else part[:1] + _TAIL.findall(part[1:])[0]
    return ".".join(parts)


def paged(rows: Sequence[Sequence[str]], right: Collection[int] = (), page: int = PAGE) -> list[str]:
    """Return `columns`, with the dotted names of the first column abbreviated as far as the page width requires."""
    rest = max(map(len, columns([row[1:] for row in rows]))) + 2

    def first(name: str) -> str:
        indent = name[: len(name) - len(name.lstrip())]
        return indent + abbreviated(name.lstrip(), page - rest - len(indent))

    return columns([[first(row[0]), *row[1:]] for row in rows], right)


def wrapped(head: str, body: str, width: int = WIDTH) -> list[str]:
    """Return `head` and `body` in lines of `width` characters, the body indented to the head; names are not broken.

    >>> wrapped("  input  ", "a.weight[1], b.weight[1]", width=22)
    ['  input  a.weight[1],', '         b.weight[1]']
    """
    wrapper = textwrap.TextWrapper(
        width, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(NO_BREAK, " ") for line in wrapper.wrap(body)] or [head.rstrip()]


def times(name: str, n: int) -> str:
    """Return a folded name and the number of names it stands for, joined by a no-break space.

    >>> times("block.*", 3).replace(NO_BREAK, " "), times("head", 1)
    ('block.* (x3)', 'head')
    """
    return f"{name}{NO_BREAK}(x{n})" if n > 1 else name


def folded(names: Sequence[str], alike: Sequence[Hashable], least: int = 3) -> list[tuple[str, list[int]]]:
    """Fold names that differ in one number, and whose entries in `alike` are equal, into one glob; keep the others.

    Returns pairs of a name or glob and the indices of the names that it stands for.

    >>> folded(["block.0.conv", "block.1.conv", "block.2.conv", "head"], [64, 64, 64, 10])
    [('block.*.conv', [0, 1, 2]), ('head', [3])]
    """
    options = [_globs(name) for name in names]
    sizes = Counter((glob, kind) for globs, kind in zip(options, alike, strict=True) for glob in globs)

    def best(place: int) -> str:
        return max(options[place], key=lambda glob: sizes[glob, alike[place]], default=names[place])

    chosen = [best(place) for place in range(len(names))]
    final = Counter(zip(chosen, alike, strict=True))
    groups: dict[tuple[str, Hashable], list[int]] = {}
    for place, (glob, kind) in enumerate(zip(chosen, alike, strict=True)):
        key = (glob, kind) if final[glob, kind] >= least else (names[place], place)
        groups.setdefault(key, []).append(place)
    return [(name, places) for (name, _), places in groups.items()]


def _globs(name: str) -> list[str]:
    return [f"{name[: run.start()]}*{name[run.end() :]}" for run in _INDEX.finditer(name)]
