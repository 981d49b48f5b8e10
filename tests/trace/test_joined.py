"""Every op with a rule that joins two or more tensors ties all of their dimensions that belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import secateur
from joined import Net, alone, folds, in_pairs, wrong
from joined_ops import APART, JOINED, SAME, STAYS
from nets import Parts
from secateur.terms import Term
from secateur.trace import stacked
from secateur.trace.op import Op
from secateur.trace.registry import ATEN, FUNCTIONS, OpRule


def own(rule: OpRule) -> bool:
    """Not one that another test has taught."""
    return rule.__module__.startswith("secateur.trace.rules.")


def operands(name: str) -> int:
    """How many tensors an aten op takes at most; a list counts for two, an op that torch does not know too."""
    schemas = [*torch._C._jit_get_schemas_for_operator(name), *torch._C._jit_get_schemas_for_operator(f"{name}_")]
    counts = [
        sum(2 if "List" in str(a.type) else 1 for a in schema.arguments if "Tensor" in str(a.type))
        for schema in schemas
        if not any(a.is_out for a in schema.arguments)
    ]
    return max(counts, default=2)


def joining() -> set[str]:
    """The names in the registry of all that takes two or more tensors."""
    return {name for name, rule in ATEN.items() if own(rule) and operands(name) > 1} | {
        function.__name__ for function, (rule, _) in FUNCTIONS.items() if own(rule)
    }


@contextmanager
def met(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The names of all ops on several tensors whose rules run within, without failing."""
    names: set[str] = set()
    apply = stacked.apply

    def noting(rule: OpRule, op: Op) -> None:
        apply(rule, op)
        if len(op.tensors()) > 1:
            names.add(op.name if op.name in ATEN else op.name.rstrip("_"))

    with monkeypatch.context() as patch:
        patch.setattr(stacked, "apply", noting)
        yield names


def faults(nets: Iterable[tuple[str, Callable[[], Net]]]) -> Iterator[str | None]:
    """What is wrong about a cut of each net of which units are free, and None where the laws hold."""
    for folded, build in nets:
        net = build()
        graph = secateur.trace(net, net.start)
        assert not any("failed" in op for op in graph.unknown), (folded, graph.unknown)
        if graph.axes:
            fault = wrong(net, graph)
            yield f"{folded}: {fault}" if fault is not None else None


@pytest.mark.parametrize("name", JOINED)
def test_units_folded_into_each_dimension(name: str) -> None:
    """One way of two for each dimension; both where everything is tried."""
    found = list(faults(list(alone(JOINED[name]))[i] for i in range(len(folds(JOINED[name]))) if (i // 2 + i) % 2))
    assert (not found) == (name in STAYS)
    assert not any(found), found


@pytest.mark.slow
@pytest.mark.parametrize("name", JOINED)
def test_units_folded_either_way_and_into_two_dimensions(name: str) -> None:
    """Where units of two dimensions are the same, what goes may be dead."""
    found = [*faults(alone(JOINED[name])), *faults(in_pairs(JOINED[name]))]
    assert not [fault for fault in found if fault is not None and "not proved" not in fault]


def test_every_rule_that_joins_is_tried_or_set_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new rule on two tensors needs an example."""
    with met(monkeypatch) as names:
        for joined in JOINED.values():
            net = next(iter(alone(joined)))[1]()
            secateur.trace(net, net.start)
    wanted = {name for name in joining() if not name.startswith("torchvision::") or "deformed" in JOINED}
    assert len(wanted) > 80
    assert wanted - names - SAME.keys() - APART.keys() == set()
    assert names.isdisjoint(APART), "what is tried need not be set apart"


def test_what_is_tried_by_another_name_has_its_rule_and_arguments() -> None:
    def tensors(name: str) -> set[str]:
        schemas = torch._C._jit_get_schemas_for_operator(name)
        return {a.name for s in schemas for a in s.arguments if "Tensor" in str(a.type) and not a.is_out}

    for name, other in SAME.items():
        assert ATEN[name] is ATEN[other], name
        assert tensors(name) == tensors(other), name


PLANTED = {
    "grid_sample": "aten::grid_sampler_2d",
    "bmm": "aten::bmm",
    "index_add": "aten::index_add",
    "cat": "aten::cat",
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_dimension_that_is_not_tied_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit can fail: here a rule leaves out its ties."""
    unify = Op.unify

    def untied(self: Op, x: Term, y: Term) -> None:
        if self.name != PLANTED[name]:
            unify(self, x, y)

    monkeypatch.setattr(Op, "unify", untied)
    assert any(faults(alone(JOINED[name])))


def test_prelu_in_inference_mode() -> None:
    """There it is seen whole: its weight lies along the channels, not along the last dimension, which is as long."""
    run = lambda self, x: self.c(self.act(self.a(x).transpose(1, 2)).transpose(1, 2))  # noqa: E731
    net = Parts(run, a=nn.Linear(5, 6), act=nn.PReLU(6), c=nn.Linear(6, 2))
    with torch.inference_mode():
        graph = secateur.trace(net, torch.randn(2, 6, 5))
    assert [{use.name for use in axis.sites} for axis in graph.axes] == [
        {"a.weight", "a.bias", "act.weight", "c.weight"}
    ]
