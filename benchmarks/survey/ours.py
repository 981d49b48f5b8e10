"""secateur on a model of the zoo at `channels=0.7`: laws 1 and 2 in float64, the shares left, and frozen parameters."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from typing import Any

from torch import nn

import secateur
import zoo
from secateur.anatomy.calls import Call
from secateur.graph.facts import covered
from secateur.graph.graph import Graph
from secateur.proof.verify import prove
from secateur.pruning import too_dear

from .common import TARGET, params_of, subject
from .pool import told

ORDINARY = ("kernel size", "spatial", "model input", "model output")
REASONS = 6


def examine(name: str) -> dict[str, Any]:
    """Return the results of one model; an error is a result too.

    verdict: right, wrong, unproved (the outputs do not show the cut), refused (an error of secateur), crash.
    """
    entry, model, call = subject(name)
    try:
        started = time.process_time()
        with_units = secateur.prune(model, call, TARGET, importance="random", verify=False)
        seconds = time.process_time() - started
    except secateur.PruningError as error:
        return {"verdict": "refused", "params": params_of(model), **told(error), **_graph_of(model, call)}
    found = {**_left(with_units.plan), **_held(with_units.graph), "prune_s": seconds}
    try:
        found |= _proved(entry, model, with_units, call)
    except Exception as error:
        kind = "refused" if isinstance(error, secateur.PruningError) else "crash"
        found |= {"verdict": kind, "stage": "verify", **told(error)}
    return found


def _graph_of(model: nn.Module, call: Call) -> dict[str, Any]:
    """Return the frozen parameters of a refused model, if it can be traced."""
    try:
        return _held(secateur.trace(model, call))
    except secateur.PruningError:
        return {}


def _left(plan: secateur.Plan) -> dict[str, Any]:
    before, after = plan.before, plan.after
    return {
        "params": before.params,
        "macs": before.macs,
        "params_left": after.params / before.params,
        "macs_left": after.macs / max(before.macs, 1),
    }


def _proved(entry: zoo.Entry, model: nn.Module, result: secateur.Pruned, call: Call) -> dict[str, Any]:
    if entry.raw is None:
        started, unasked = time.process_time(), result.verification is None
        check = prove(result.graph, result.model, result.plan)
        seconds = time.process_time() - started if unasked else None  # otherwise `prune` has proved the cut
        return {"verdict": _verdict(check), "proof_s": seconds, "dear": too_dear(result.graph), **check.as_dict()}
    check = secateur.verify(entry.raw(model), entry.raw(result.model), result.plan, call)
    whole = secateur.verify(model, result.model, result.plan, call)
    return {"verdict": _verdict(check), **check.as_dict(), "end_to_end": whole.as_dict()}


def _verdict(check: secateur.Verification) -> str:
    if check.passed:
        return "right"
    return "wrong" if check.wrong else "unproved"


def _held(graph: Graph) -> dict[str, Any]:
    """Return coverage, unknown ops, and the reasons that freeze parameters, with the share that each freezes."""
    live = {axis.term for axis in graph.axes}
    reasons: dict[str, list[str]] = {}
    for frozen in graph.frozen:
        if frozen.reason not in ORDINARY:
            reasons.setdefault(frozen.name, []).append(_placeless(frozen.reason))
    lost: Counter[str] = Counter()
    for name, why in reasons.items():
        site = graph.sites[name]
        for reason in dict.fromkeys(why):
            lost[reason] += round(math.prod(site.shape) * (1 - covered(site.dims, live)))
    return {
        "axes": len(graph.axes),
        "coverage": graph.coverage.params,
        "unknown": dict(graph.unknown),
        "unreached": sum(math.prod(graph.sites[name].shape) for name in graph.unreached) / max(graph.params, 1),
        "frozen": [[reason, count / max(graph.params, 1)] for reason, count in lost.most_common(REASONS)],
    }


def _placeless(reason: str) -> str:
    return re.sub(r" in [^\s(),]+(?=\)?$)", "", reason)
