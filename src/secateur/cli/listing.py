"""The names of tables in help texts, read when help is printed: names that other packages added are listed too.

A help text writes `{criteria}` for the names of the criteria. Tables whose modules import PyTorch are read only if it
is imported already, which `import secateur` does; without it, nothing can have been added to them.
"""

from __future__ import annotations

import importlib
import re
import sys

from secateur.cost.kinds import KINDS

TABLES = {
    "criteria": ("secateur.importance.registry", "CRITERIA", "l2, group_l2, bn_scale, taylor, wanda, ..."),
    "runtimes": ("secateur.export.runtimes", "RUNTIMES", "loader"),
}
"""What a help text writes -> the module and the name of a table, and what is listed without PyTorch."""


def listed(help_text: str) -> str:
    """Return a help text with the names of the tables that it mentions.

    Args:
        help_text: The text, with a word in braces for each table.

    Returns:
        The text with the names. Other words in braces stay as they are.

    Example:
        >>> listed("How much to keep: {targets}; {others}.")
        'How much to keep: channels=0.7, params=1.76e6, macs=0.5, memory=20e6, depth=0.75; {others}.'
        >>> listed("The runtime: {runtimes}.")
        'The runtime: loader.'
    """
    return re.sub(r"\{(\w+)\}", lambda found: _names(found[1]) or found[0], help_text)


def _names(table: str) -> str | None:
    if table == "targets":
        return ", ".join(kind.example for kind in KINDS.values())
    if table not in TABLES:
        return None
    module, name, without = TABLES[table]
    return ", ".join(getattr(importlib.import_module(module), name)) if "torch" in sys.modules else without
