"""Stage 3, from scores and targets to a Plan. May import the values, `importance` and `statistics`; never `trace`."""

from secateur.planning.planning import plan
from secateur.planning.selection.select import Select
from secateur.planning.targets import Target, parse_targets

__all__ = ["Select", "Target", "parse_targets", "plan"]
