"""Translation of messages from the names of Python arguments to those of command-line options."""

from __future__ import annotations

import re

WORDS = {
    r"graph\.why\('([^']*)'\)": r"--why '\1'",
    r"\bplan\.(attributes|axes|removed|scales)\b": "--json",
    r"\bgraph\.blocks\b": "--json",
    r"\bselect\.floor\b": "--floor",
    r"\bprint\(graph\)": "secateur inspect",
    r"\bgive trained weights\b": "give trained weights with --weights",
    r"\bverify=True (asks|proves)": r"--verify \1",
    r"\bTrainOptions\(lr=([^)]*)\)": r"--lr \1",
    r"\bDistillation\(teacher, weight=0, features=\[\.\.\.\]\)": "--distill 0 --feature NAME",
    r"\bfeatures (?=names)": "--feature ",
    r"\bwidths (?=sets)": "--width ",
    r"\bdrop (?=names|removes|leaves)": "--drop ",
    r"\b(protect|only) (?=names|keeps)": r"--\1 ",
    r"\bsecateur\.sensitivity\(graph, [^)]*\)": "secateur sensitivity",
    r"\bdrop, recover what is cut \(finish=\), or choose better \(importance=, allocation=\)": (
        "--max-drop, or choose better (--importance, --allocation)"
    ),
    r"\bmax_drop=(?=\S+ is not)": "--max-drop ",
    r"\btolerance=(?=\S+ is not)": "--tolerance ",
    r"\bratios=(?=\S)": "--ratios ",
    r"\bkind=(?=')": "--target ",
    r"drop=\{\.\.\.\} or Select\(widths=\{\.\.\.\}\)": "--drop NAME=UNITS or --width NAME=COUNT",
}
"""A pattern in a message of the library -> its replacement."""


def in_options(text: str) -> str:
    """Return a message of the library with command-line options in place of Python names.

    >>> in_options("graph.why('fc') shows it; lower select.floor")
    "--why 'fc' shows it; lower --floor"
    """
    for pattern, instead in WORDS.items():
        text = re.sub(pattern, instead, text)
    return text
