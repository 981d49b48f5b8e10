"""secateur: make trained PyTorch models smaller and faster by removing whole channels, heads and neurons."""

from .apply import cut, cut_
from .budget import Select, plan
from .calls import Call
from .errors import InputError, PruningError, TargetError, TraceError
from .graph import Graph
from .plan import Plan
from .trace import trace

__all__ = ["Call", "Graph", "InputError", "Plan", "PruningError", "Select", "TargetError", "TraceError", "cut", "cut_", "plan", "trace"]
