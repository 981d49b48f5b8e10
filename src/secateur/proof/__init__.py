"""Proof that a cut is right, on the user's own model: both are run in float64 and compared. May import the stages; it
makes a plan only to reorder units.
"""
