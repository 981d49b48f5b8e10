"""From scores and targets to a Plan."""

from .planning import plan
from .select import Select
from .targets import Target, parse_targets

__all__ = ["Select", "Target", "parse_targets", "plan"]
