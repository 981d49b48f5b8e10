"""Stage 1, from a model to a Graph: run the model on example inputs and infer which units every tensor dimension holds.

The model runs on the meta device, which costs no arithmetic; if `forward` depends on values, it runs on the real
tensors, with the same result. This package may import `graph`, `cost`, `anatomy`, `plan`, `terms`, `base` and `errors`,
but not `apply`. A new op needs one decorated rule in `rules/`, written with the methods of `op.Op`.
"""

from secateur.trace.tracing import trace, trace_calls

__all__ = ["trace", "trace_calls"]
