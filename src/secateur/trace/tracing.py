"""`trace` and `trace_calls`: run a model under a recorder, and make a Graph of what was noted."""

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
    """Record `model` on `example_inputs` and give its Graph: prunable axes, what is frozen and why, costs.

    `example_inputs`: a tensor, a tuple of arguments (`()` for none), a dict of keyword arguments, or a `Call`; the
    arguments may be containers, dataclasses and other objects that hold tensors. `call`: in their place, a function
    that runs the model, as in `call=lambda model: model(Graph(x, edges))`. `calls`: further calls, or functions, whose
    paths belong to the model too (training mode, other flags). A call in training mode is recorded as well where the
    modes can differ in what a cut touches: something is left unread, modules keep tensors in containers, or their code
    branches on `self.training`; `Graph.untrained` says why it failed, if it did. `outputs`: picks what counts as output
    from what the model returns; the
    dimensions of outputs are never pruned. `run`: "meta", "real", "fake" or "auto" (meta, then real). `uniform`: a
    Hugging Face model stays one that its class builds from a config, so that `save_pretrained` and `from_pretrained`
    work on what is cut: layers that share a number in the config keep equal widths, and the config follows.

    Raises `InputError` for a model that is wrapped, quantised or spread over devices, and for inputs that the model
    refuses; `TraceError` if it fails for another reason. The model is left as it was.

    >>> graph = trace(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.zeros(1, 4))
    >>> [(axis.name, axis.size) for axis in graph.axes]
    [('0', 8)]
    """
    check_model(model)
    if run not in ("auto", *RUNS):
        raise InputError(f"run={run!r}; one of 'auto', {', '.join(map(repr, RUNS))}")
    if outputs is not None and not callable(outputs):
        raise InputError(
            f"outputs={outputs!r}: a function that picks what counts as output from what the model returns"
        )
    wanted = [called(example_inputs, call), *further(calls)]
    if run != "auto":
        return trace_calls(model, wanted, outputs, run, uniform=uniform)
    try:
        return trace_calls(model, wanted, outputs, "meta", uniform=uniform)
    except Exception:  # noqa: BLE001 - forward wants values, which meta tensors lack; the real run has the last word
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
    """One Graph of all these calls, in one kind of run; `lift` makes every float tensor float64."""
    return traced(model, TraceSource(tuple(calls), outputs, run, lift, uniform), Recorder)[0]


def explained(graph: Graph) -> Explanation | None:
    """Trace the model of a graph once more, with note of what made its axes what they are.

    None where the model is no longer the one that was traced, or cannot be run any more.
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
    """prepare: what is to be done to the stand-ins before the model runs."""
    ground, stage, calls, outputs = RunDevice(source.run, lift=source.lift), StandIns(), source.calls, source.outputs
    recorder = kind({id(m): name for name, m in model.named_modules()}, ground.device, lift=source.lift)
    recorder.lent = Lent.of(model)  # a real run computes with these, and any run with what objects of the model hold
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
    """Run one call. Gives what counts as output."""
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
    """What counts as output of what a model gave."""
    if outputs is None:
        return result
    try:
        return outputs(result)
    except Exception as error:
        keys = f" with {', '.join(map(repr, result))}" if isinstance(result, Mapping) else ""
        raise InputError(
            f"outputs= fails on what the model gives, {a_kind(result)}{keys}: {type(error).__name__}: "
            f"{first_line(error)}\ngive a function that picks the outputs from it, or leave outputs= out"
        ) from error


def _check_used(call: Call, stage: StandIns, recorder: Recorder) -> None:
    """A function that runs a model must run the one that it is given."""
    if call.by is not None and not recorder.reached and any(site.kind == "parameter" for site in stage.sites.values()):
        raise ModelIgnored


def _check_given(given: Sequence[Any], call: Call, outputs: Callable[[Any], Any] | None) -> None:
    """Without an output there is nothing that a cut could keep."""
    if any(map(tensors_in, given)):
        return
    told = f"no tensor, but {a_kind(given[0])}"
    if outputs is not None:
        raise InputError(f"outputs= gives {told}\nlet it give the tensors that count: outputs=lambda output: output[0]")
    if call.by is not None:
        raise InputError(f"call= gives {told}\nlet it return what the model gives: call=lambda model: model(x)")
    raise InputError(f"the model gives {told}\nlet its forward return the tensors that count as output")


def _check_found(output: Any) -> None:
    """What leaves the model unseen would not be kept as it is."""
    hidden = next((leaf for leaf in pytree.tree_leaves(output) if is_object(leaf) and not tensors_in(leaf)), None)
    if hidden is not None and not tensors_in(output):
        raise InputError(
            f"no tensor is found in what the model gives, a {type(hidden).__name__}: its dimensions would not be kept\n"
            "say where they are: outputs=lambda output: ..., a function that gives the tensors"
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
    """Auxiliary heads run in training mode only."""
    try:
        _record(model, replace(call, training=True), outputs, recorder, ground)
    except (TraceError, InputError) as error:
        cause = error.__cause__ or error
        recorder.untrained = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"


def _unreached(stage: StandIns, recorder: Recorder) -> list[str]:
    parameters = [name for name, site in stage.sites.items() if site.kind == "parameter"]
    return [name for name in parameters if name not in recorder.reached]
