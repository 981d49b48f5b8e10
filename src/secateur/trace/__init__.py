"""Stage 1, from a model to a Graph: run it once (or several times) and infer the type of every tensor dimension.

Runs on the meta device where the model allows it, which costs no arithmetic; on the real tensors where `forward` looks
at values. Both give the same Graph. May import the values (`terms`, `plan`, `cost`, `graph`) and `anatomy`, and no
other stage. A new op is one decorated rule in `rules/`, written with the vocabulary of `op.py`.
"""

from secateur.trace.tracing import trace, trace_calls

__all__ = ["trace", "trace_calls"]
