"""secateur: make trained PyTorch models smaller and faster by removing whole channels, heads and neurons.

`prune` does it in one call; `trace`, `plan` and `cut` are its three steps. All names in `__all__` are public.

`secateur.trace` and `secateur.plan` are functions, which hide the packages of the same names as attributes. Reach those
packages by `from`: `from secateur.trace import tracing` and `from secateur.plan.parts import Pick` work, while the
attribute `secateur.trace.tracing` does not exist, even after `import secateur.trace.tracing`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
from secateur.proof.verification import Verification
from secateur.proof.verify import verify
from secateur.pruning import Pruned, prune
from secateur.trace.teach import rule
from secateur.trace.tracing import trace

if TYPE_CHECKING:
    from secateur.probing import Sensitivity, search, sensitivity
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

_LATE = {
    "Sensitivity": "secateur.probing",
    "iterate": "secateur.train.iterate",
    "search": "secateur.probing",
    "sensitivity": "secateur.probing",
}
"""Names whose packages are imported when they are first used, for `import secateur` to take a fifth less time."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_LATE[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
