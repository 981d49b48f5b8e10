"""Checks for those who extend secateur: does a rule, or a criterion, keep the laws?"""

from .criteria import check_criterion
from .rules import check_rule

__all__ = ["check_criterion", "check_rule"]
