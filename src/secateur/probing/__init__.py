"""What a cut does to the user's own metric, measured: group by group, or for the whole model at ever larger cuts."""

from secateur.probing.bisection import Found, Probe, search
from secateur.probing.curves import Sensitivity
from secateur.probing.groupwise import sensitivity
from secateur.probing.points import Curve, Point

__all__ = ["Curve", "Found", "Point", "Probe", "Sensitivity", "search", "sensitivity"]
