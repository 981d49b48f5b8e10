"""Checks for those who extend secateur: does a rule, a criterion, or an optimizer through a cut, keep the laws?"""

from secateur.testing.criteria import check_criterion
from secateur.testing.rules import check_rule
from secateur.testing.transplants import transplant_error

__all__ = ["check_criterion", "check_rule", "transplant_error"]
