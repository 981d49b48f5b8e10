"""Checks on the user's own model that a cut is right: the original and the pruned model run in float64, and
are compared.

This package may import the stages (`trace`, `planning`, `apply`) and everything below them; it makes a plan only to
reorder units. A new check is a method of `Proof` in `verify.py` and a field of `Verification`.
"""
