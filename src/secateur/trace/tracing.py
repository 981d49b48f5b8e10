"""`trace` and `trace_calls`: run a model under a recorder, and build a Graph from what was recorded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from secateur.anatomy.calls import Call, ModelIgnored, called, further, refusal
from secateur.anatomy.checks import check_model
from secateur.anatomy.keeping import set_modes
from secateur.base.nested import is_object, tensors_in
from secateur.base.process import trainable
from secateur.base.text import a_kind, first_line
from secateur.errors import InputError, PruningError, TraceError
from secateur.graph.graph import Graph
from secateur.graph.parts import TraceSource
from secateur.trace.bypassing import BlockSearch
from secateur.trace.constructing import construct
from secateur.trace.devices import RUNS, RunDevice
from secateur.trace.explain import Explainer, Explanation
from secateur.trace.gathering import build
from secateur.trace.lending import Lent
from secateur.trace.names import followed
from secateur.trace.recorder import Recorder
from secateur.trace.staging import StandIns, layer_equations, staged
from secateur.trace.tracked_ints import open_ledger
from secateur.trace.training import branches, keeps_tensors, leaves_out
from secateur.trace.typed import Typed, fresh, put
from secateur.trace.unreached import trace_missed
from secateur.trace.unread import note_facts, read_in


@trainable
def trace(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    call: Callable[[nn.Module], Any] | None = None,
    calls: Iterable[Any] = (),
    outputs: Callable[[Any], Any] | None = None,
    run: str = "auto",
    uniform: bool = False,
) -> Graph:
    """Record `model` on `example_inputs` and return its Graph: prunable axes, what is frozen and why, and costs.

    The model itself is not changed. If training mode may use tensors in another way than evaluation mode, one call in
    training mode is recorded as well: when parameters are not reached otherwise, when modules keep tensors in
    containers, or when their code branches on `self.training`. If it fails, `Graph.diagnosis.untrained` says why.

    Args:
        model: the model to trace, in any mode.
        example_inputs: a tensor, a tuple of arguments (`()` for none), a dict of keyword arguments, or a `Call`. The
            arguments may be containers, dataclasses and other objects that hold tensors.
        call: instead of `example_inputs`, a function that runs the model, as in
            `call=lambda model: model(Graph(x, edges))`.
        calls: further calls, or functions that run the model, whose code paths also belong to the model (training
            mode, other flags).
        outputs: a function that picks the output tensors from what the model returns. The dimensions of outputs are
            never pruned.
        run: the kind of tensors to run on: "meta", "real", "fake" or "auto" (meta, then real).
        uniform: keep a Hugging Face model one that its class builds from a config, so that `save_pretrained` and
            `from_pretrained` work after pruning: layers that share a number in the config keep equal widths, and the
            config is updated.

    Returns:
        The Graph of the model.

    Raises:
        InputError: if the model is wrapped, quantised or spread over several devices, or rejects the inputs.
        TraceError: if the model fails for another reason.

    Example:
        >>> graph = trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4))
        >>> [(axis.name, axis.size) for axis in graph.axes]
        [('0', 8)]
    """
    check_model(model)
    if run not in ("auto", *RUNS):
        raise InputError(f"run={run!r}\nknown: 'auto', {', '.join(map(repr, RUNS))}")
    if outputs is not None and not callable(outputs):
        raise InputError(
            f"outputs={outputs!r} is not callable\npass a function that picks the outputs from what the model returns"
        )
    wanted = [called(example_inputs, call), *further(calls)]
    if run != "auto":
        return trace_calls(model, wanted, outputs, run, uniform=uniform)
    try:
        return trace_calls(model, wanted, outputs, "meta", uniform=uniform)
    except Exception:  # noqa: BLE001 - forward needs values, which meta tensors lack; the real run decides
        return trace_calls(model, wanted, outputs, "real", uniform=uniform)


def trace_calls(
    model: nn.Module,
    calls: Sequence[Call],
    outputs: Callable[[Any], Any] | None = None,
    run: str = "real",
    *,
    lift: bool = False,
    uniform: bool = False,
) -> Graph:
    """Record all these calls in one kind of run, and return one Graph.

    Args:
        model: the model to trace.
        calls: the calls to record; the first one determines MACs and memory.
        outputs: a function that picks the output tensors from what the model returns.
        run: the kind of tensors to run on: "meta", "real" or "fake".
        lift: convert every floating-point tensor to float64; only with `run="real"`.
        uniform: as in `trace`.

    Returns:
        The Graph of the model.

    Raises:
        InputError: if the model rejects the inputs.
        TraceError: if the model fails for another reason.
    """
    return traced(model, TraceSource(tuple(calls), outputs, run, lift, uniform), Recorder)[0]


def explained(graph: Graph) -> Explanation | None:
    """Trace the model of a graph once more, and record which ops marked or coupled its axes.

    Returns None if the model has changed since it was traced, or can no longer be run.
    """
    try:
        again, recorder = traced(graph.model, graph.run.source, Explainer)
    except PruningError:
        return None
    alike = _outline(again) == _outline(graph)
    return Explanation(again, recorder) if alike and isinstance(recorder, Explainer) else None


def _outline(graph: Graph) -> Any:
    return [(a.name, a.size, a.sites) for a in graph.axes], [(f.name, f.dim) for f in graph.frozen]


def traced(
    model: nn.Module, source: TraceSource, kind: type[Recorder], prepare: Callable[[StandIns], None] | None = None
) -> tuple[Graph, Recorder]:
    """Return the Graph of a model and its recorder, a `kind`. `prepare` may change the stand-ins before the run."""
    ground, stage, calls, outputs = RunDevice(source.run, lift=source.lift), StandIns(), source.calls, source.outputs
    recorder = kind({id(m): name for name, m in model.named_modules()}, ground.device, lift=source.lift)
    recorder.lent = Lent.of(
        model
    )  # a real run computes with these; any run computes with tensors in the model's objects
    with (
        staged(model, ground, stage),
        ground.running(),
        torch.no_grad(),
        followed(model),
        open_ledger(recorder.ledger),
        recorder.lent.lending(),
    ):
        recorder.life.keep(made for _, made in stage.stand_ins.values())
        for _, made in stage.stand_ins.values():
            recorder.memory.note(made)
        if prepare is not None:
            prepare(stage)
        modes = not any(call.training for call in calls) and (branches(model) or keeps_tensors(model))
        given = []
        for i, call in enumerate(calls):
            recorder.counting = i == 0
            given.append(_record(model, call, outputs, recorder, ground))
            _check_used(call, stage, recorder)
        _check_given(given, calls[0], outputs)
        recorder.numbered = recorder.steps
        trained = any(call.training for call in calls)
        if not trained and (modes or leaves_out(stage.sites, recorder.reached)):
            recorder.counting = False
            _try_training(model, calls[0], outputs, recorder, ground)
        if left := _unreached(stage, recorder):
            recorder.counting = False
            trace_missed(model, left, recorder, lambda: _record(model, calls[0], outputs, recorder, ground))
        unread = stage.attributes.keys() - read_in(recorder.ledger)
        if source.uniform:
            construct(model, recorder.ledger, _unreached(stage, recorder))
        else:
            note_facts(model, stage, unread)
        recorder.ledger.equations += layer_equations(model)
    unread -= read_in(recorder.ledger)
    stage.unread += [attribute for attribute in stage.attributes if attribute in unread]
    graph = build(model, stage, recorder, _unreached(stage, recorder), source)
    return replace(graph, find_blocks=BlockSearch(graph, recorder.watch, recorder.roles), explain=explained), recorder


def _record(
    model: nn.Module, call: Call, outputs: Callable[[Any], Any] | None, recorder: Recorder, ground: RunDevice
) -> Any:
    """Run one call, and return what counts as output."""
    given = call
    call = call.map(lambda t: _input(t, recorder, ground))
    set_modes(model, call.training)
    try:
        with warnings.catch_warnings(), recorder.watch.following(), recorder.running():
            warnings.simplefilter("ignore")
            result = call.run(model)
    except Exception as error:
        raise _refusal(error, call) from error
    picked = _picked(result, outputs)
    _check_found(picked)
    recorder.returned(tensors_in(picked))
    recorder.watch.gave(given, tensors_in(result))
    return picked


def _picked(result: Any, outputs: Callable[[Any], Any] | None) -> Any:
    """Return what counts as output, given what the model returned."""
    if outputs is None:
        return result
    try:
        return outputs(result)
    except Exception as error:
        keys = f" with {', '.join(map(repr, result))}" if isinstance(result, Mapping) else ""
        raise InputError(
            f"outputs= fails on what the model returns, {a_kind(result)}{keys}: {type(error).__name__}: "
            f"{first_line(error)}\npass a function that picks the outputs from it, or leave outputs= out"
        ) from error


def _check_used(call: Call, stage: StandIns, recorder: Recorder) -> None:
    """Raise `ModelIgnored` if a function that runs the model did not use the model that it was passed."""
    if call.by is not None and not recorder.reached and any(site.kind == "parameter" for site in stage.sites.values()):
        raise ModelIgnored


def _check_given(given: Sequence[Any], call: Call, outputs: Callable[[Any], Any] | None) -> None:
    """Raise `InputError` if no call has an output tensor."""
    if any(map(tensors_in, given)):
        return
    instead = f"no tensor, but {a_kind(given[0])}"
    if outputs is not None:
        raise InputError(f"outputs= returns {instead}\nreturn the output tensors: outputs=lambda output: output[0]")
    if call.by is not None:
        raise InputError(f"call= returns {instead}\nreturn what the model returns: call=lambda model: model(x)")
    raise InputError(f"the model returns {instead}\nreturn the output tensors from its forward")


def _check_found(output: Any) -> None:
    """Raise `InputError` if the output is an object in which no tensor can be found."""
    hidden = next((leaf for leaf in pytree.tree_leaves(output) if is_object(leaf) and not tensors_in(leaf)), None)
    if hidden is not None and not tensors_in(output):
        raise InputError(
            f"no tensor is found in what the model returns, a {type(hidden).__name__}: its sizes would not be kept\n"
            "pass outputs=lambda output: ..., a function that returns the tensors"
        )


def _input(tensor: torch.Tensor, recorder: Recorder, ground: RunDevice) -> torch.Tensor:
    made = ground.stand_in(tensor, shared=False)
    put(made, Typed(fresh(tensor.shape, "model input")))
    recorder.memory.note(made)
    if recorder.counting:
        recorder.life.note([made])
    return made


def _refusal(error: Exception, call: Call) -> TraceError | InputError:
    kind = InputError if isinstance(error, (RuntimeError, ValueError, TypeError, IndexError)) else TraceError
    return kind(refusal(error, call))


def _try_training(
    model: nn.Module, call: Call, outputs: Callable[[Any], Any] | None, recorder: Recorder, ground: RunDevice
) -> None:
    """Record a call in training mode, which may run modules (auxiliary heads) that evaluation mode does not."""
    try:
        _record(model, replace(call, training=True), outputs, recorder, ground)
    except (TraceError, InputError) as error:
        cause = error.__cause__ or error
        recorder.untrained = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


def _unreached(stage: StandIns, recorder: Recorder) -> list[str]:
    parameters = [name for name, site in stage.sites.items() if site.kind == "parameter"]
    return [name for name in parameters if name not in recorder.reached]
