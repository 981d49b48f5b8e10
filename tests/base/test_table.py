from __future__ import annotations

from typing import Any

import pytest

from secateur.base.meta import SHORTCUTS
from secateur.base.table import Table
from secateur.cost.count import FORMULAS, formula
from secateur.data.load import DATASETS
from secateur.export.runtimes import RUNTIMES
from secateur.importance import CRITERIA
from secateur.masks.criteria import CRITERIA as WEIGHT_CRITERIA
from secateur.masks.patterns import PATTERNS
from secateur.models.resolve import SOURCES
from secateur.recipes import RECIPES
from secateur.recover.steps import STEPS
from secateur.trace.registry import ATEN, FUNCTIONS, IN_DOUBLE, PLAIN, PLAINER, rule
from secateur.trace.size_demands import SIZED
from secateur.trace.stacked import CARRIES
from secateur.train.logs import KINDS
from secateur.train.options import OPTIMIZERS
from secateur.train.penalties import PENALTIES
from secateur.train.schedules import SCHEDULES

TABLES: dict[str, tuple[dict[Any, Any], str]] = {
    "aten": (ATEN, "rules for"),
    "functions": (FUNCTIONS, "rules for"),
    "plain": (PLAIN, "plain forms for"),
    "plainer": (PLAINER, "ways to put the arguments of"),
    "double": (IN_DOUBLE, "float64 forms of"),
    "meta": (SHORTCUTS, "shortcuts for"),
    "sized": (SIZED, "handlers for"),
    "carries": (CARRIES, "ways to carry rows through"),
    "formulas": (FORMULAS, "formulas for"),
    "criteria": (CRITERIA, "criteria named"),
    "weight criteria": (WEIGHT_CRITERIA, "criteria named"),
    "patterns": (PATTERNS, "patterns named"),
    "steps": (STEPS, "recovery steps named"),
    "recipes": (RECIPES, "recipes named"),
    "data": (DATASETS, "data sets named"),
    "models": (SOURCES, "sources of models named"),
    "penalties": (PENALTIES, "penalties named"),
    "schedules": (SCHEDULES, "schedules named"),
    "optimizers": (OPTIMIZERS, "optimizers named"),
    "logs": (KINDS, "logs named"),
    "runtimes": (RUNTIMES, "runtimes named"),
}


@pytest.mark.parametrize("table", TABLES)
def test_no_second_row_by_a_name(table: str) -> None:
    rows, what = TABLES[table]
    name, row = next(iter(rows.items()))
    with pytest.raises(ValueError) as refused:
        rows[name] = row
    assert str(refused.value) == f"two {what} {name}"
    assert rows[name] is row


def test_decorators_refuse_too() -> None:
    name = next(iter(FORMULAS))
    with pytest.raises(ValueError, match=f"two formulas for {name}"):
        formula(name)(len)
    with pytest.raises(ValueError, match="two rules for aten::cat"):
        rule("aten::cat")(len)


def test_a_row_that_was_deleted_may_come_back() -> None:
    table = Table("rows named", {"a": 1})
    del table["a"]
    table["a"] = 2
    assert table == {"a": 2}
