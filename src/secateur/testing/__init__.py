"""Checks for extensions of secateur: `check_rule`, `check_criterion` and `transplant_error`, for use in your tests.

This package may import `secateur.pruning` and everything below it, but not `secateur.train`. A new kind of extension
gets a module with one check, which raises `AssertionError` or returns an error that the caller compares.
"""

from secateur.testing.criteria import check_criterion
from secateur.testing.rules import check_rule
from secateur.testing.transplants import transplant_error

__all__ = ["check_criterion", "check_rule", "transplant_error"]
