"""Planning: from a Graph, importance scores and targets to a Plan. Nothing is cut here.

May import `graph`, `plan`, `cost`, `importance`, `statistics` and the rooms below them; not `trace`. To extend it: a
new kind of target is a row in `secateur.cost.kinds`, a new setting of a rule a row in `selection/rules.py`, and a new
scope a name in `solver/allocate.py` with the order of its descents.
"""

from secateur.planning.planning import plan
from secateur.planning.selection.select import Select
from secateur.planning.targets import Target, parse_targets

__all__ = ["Select", "Target", "parse_targets", "plan"]
