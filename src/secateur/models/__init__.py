"""Where models come from: names and files resolved, weights loaded, and the small networks that recipes use."""

from secateur.models.checkpoint import load_weights
from secateur.models.functions import load_function
from secateur.models.inputs import parse_input
from secateur.models.resolve import build_model, parse_args

__all__ = ["build_model", "load_function", "load_weights", "parse_args", "parse_input"]
