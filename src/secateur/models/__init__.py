"""Model sources: resolving names and files, loading weights, and the small networks of the recipes.

This package imports only `base`, `errors` and PyTorch. To add a source `NAME:...`, register it in
`secateur.models.resolve.SOURCES`.
"""

from secateur.models.checkpoint import load_weights
from secateur.models.functions import load_function
from secateur.models.inputs import parse_input
from secateur.models.resolve import build_model, parse_args

__all__ = ["build_model", "load_function", "load_weights", "parse_args", "parse_input"]
