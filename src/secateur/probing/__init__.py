"""Measurements of a user's metric on cut models: group by group, or for the whole model at increasing cuts.

May import every room below it (`planning`, `recover`, `apply`, `pruning`), but not `train`, `recipes` or `cli`. To
extend it, pass any metric, and a `finish` function that is applied to each cut model before it is measured.
"""

from secateur.probing.bisection import Found, Probe, search
from secateur.probing.curves import Sensitivity
from secateur.probing.groupwise import sensitivity
from secateur.probing.points import Curve, Point

__all__ = ["Curve", "Found", "Point", "Probe", "Sensitivity", "search", "sensitivity"]
