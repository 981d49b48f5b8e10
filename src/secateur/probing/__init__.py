"""What a cut does to the user's own metric, measured: group by group, or for the whole model at ever larger cuts."""

from .bisection import Found, Probe, search
from .curves import Curve, Point, Sensitivity
from .groupwise import sensitivity

__all__ = ["Curve", "Found", "Point", "Probe", "Sensitivity", "search", "sensitivity"]
