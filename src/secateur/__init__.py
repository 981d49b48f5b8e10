"""secateur: make trained PyTorch models smaller and faster by removing whole channels, heads and neurons."""

from secateur.plan.plan import Plan  # first, so that the package of that name does not hide the function

# isort: split
from secateur import importance, recover
from secateur.anatomy.calls import Call
from secateur.apply import cut, cut_
from secateur.apply.transplant import transplant
from secateur.cost.count import Count, count
from secateur.errors import FileError, InputError, PruningError, TargetError, TraceError
from secateur.files.model_file import load, save
from secateur.graph.graph import Graph
from secateur.masks import mask
from secateur.planning import Select, plan
from secateur.probing import Sensitivity, search, sensitivity
from secateur.proof.verification import Verification
from secateur.proof.verify import verify
from secateur.pruning import Pruned, prune
from secateur.trace.teach import rule
from secateur.trace.tracing import trace
from secateur.train.iterate import iterate

__version__ = "0.1.0"
__all__ = [
    "Call",
    "Count",
    "FileError",
    "Graph",
    "InputError",
    "Plan",
    "Pruned",
    "PruningError",
    "Select",
    "Sensitivity",
    "TargetError",
    "TraceError",
    "Verification",
    "count",
    "cut",
    "cut_",
    "importance",
    "iterate",
    "load",
    "mask",
    "plan",
    "prune",
    "recover",
    "rule",
    "save",
    "search",
    "sensitivity",
    "trace",
    "transplant",
    "verify",
]
