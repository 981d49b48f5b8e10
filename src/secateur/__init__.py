"""secateur: make trained PyTorch models smaller and faster by removing whole channels, heads and neurons."""

from . import importance
from .apply import cut, cut_
from .budget import Select, plan
from .calls import Call
from .errors import FileError, InputError, PruningError, TargetError, TraceError
from .graph import Graph
from .plan import Plan
from .trace import trace
from .verify import Verification, verify

__version__ = "0.1.0"
__all__ = [
    *("Call", "FileError", "Graph", "InputError", "Plan", "PruningError", "Select", "TargetError", "TraceError"),
    *("Verification", "cut", "cut_", "importance", "plan", "trace", "verify"),
]
