"""How models are called: objects that hold tensors, functions that run the model, no arguments at all."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils import _pytree as pytree

import secateur
from secateur.anatomy.calls import Call, further
from secateur.base.nested import changed, tensors_in
from secateur.errors import InputError

X, EDGES = (
    torch.randn(6, 8, generator=torch.Generator().manual_seed(0)),
    torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 5, 0]]),
)


@dataclasses.dataclass
class Graph:
    x: torch.Tensor
    edges: torch.Tensor


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: torch.Tensor
    edges: torch.Tensor
    note: str = "kept"


@dataclasses.dataclass
class Outer:
    inner: Frozen
    scale: float = 1.0

    @property
    def x(self) -> torch.Tensor:
        return self.inner.x * self.scale

    @property
    def edges(self) -> torch.Tensor:
        return self.inner.edges


class Named(NamedTuple):
    x: torch.Tensor
    edges: torch.Tensor


class Plain:
    """As DETR's NestedTensor: tensors in attributes."""

    def __init__(self, x: torch.Tensor, edges: torch.Tensor):
        self.x, self.edges, self.itself = x, edges, self


class Slotted:
    __slots__ = ("edges", "unset", "x")

    def __init__(self, x: torch.Tensor, edges: torch.Tensor):
        self.x, self.edges = x, edges


class Stored:
    """As PyTorch Geometric's Data: attributes live in a store below, and calling it does something."""

    def __init__(self, x: torch.Tensor, edges: torch.Tensor):
        self.__dict__["_store"] = UserDict(x=x, edges=edges)

    def __getattr__(self, name: str) -> Any:
        if name == "_store" or name not in self._store:
            raise AttributeError(name)
        return self._store[name]

    def __call__(self) -> None:
        raise AssertionError("a batch is not a function")


class Registered:
    def __init__(self, x: torch.Tensor, edges: torch.Tensor):
        self.x, self.edges = x, edges


pytree.register_pytree_node(Registered, lambda g: ([g.x, g.edges], None), lambda parts, _: Registered(*parts))

KINDS: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "dataclass": Graph,
    "frozen": Frozen,
    "nested": lambda x, e: Outer(Frozen(x, e), 0.5),
    "named tuple": Named,
    "attributes": Plain,
    "slots": Slotted,
    "store": Stored,
    "pytree": Registered,
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, g: Any) -> torch.Tensor:
        h = self.a(g.x).relu()
        return self.b(torch.zeros_like(h).index_add(0, g.edges[1], h[g.edges[0]]))


@pytest.mark.parametrize("run", ["meta", "real"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_holds_tensors_is_an_argument(kind: str, run: str) -> None:
    given = KINDS[kind](X, EDGES)
    for inputs in (given, (given,), {"g": given}):
        graph = secateur.trace(Net(), inputs, run=run)
        assert [(axis.name, axis.size) for axis in graph.axes] == [("a", 32)]
    assert given.x is X or kind == "nested"


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_objects_is_cut_and_proved(kind: str) -> None:
    given, net = KINDS[kind](X, EDGES), Net()
    result = secateur.prune(net, given, "macs=0.5")
    assert result.model.a.out_features < 32
    assert secateur.verify(net, result.model, result.plan, given).passed
    assert secateur.count(result.model, given).macs == result.plan.after.macs


@pytest.mark.parametrize("run", ["meta", "real"])
def test_a_function_runs_the_model(run: str) -> None:
    def call(model: nn.Module) -> Any:
        return model(Graph(X, EDGES))

    graph = secateur.trace(Net(), call=call, run=run)
    assert [axis.name for axis in graph.axes] == ["a"]
    assert next(f.reason for f in graph.frozen if f.name == "a.weight" and f.dim == 1) == "model input"
    assert secateur.trace(Net(), call, run=run).axes[0].size == 32  # a function is an example input too


def test_a_function_runs_the_model_in_every_step() -> None:
    def call(model: nn.Module) -> Any:
        return model(Graph(x=X, edges=EDGES))

    net = Net()
    result = secateur.prune(net, call=call, target="macs=0.5")
    assert secateur.count(result.model, call=call).macs == result.plan.after.macs == result.plan.before.macs // 2
    assert secateur.verify(net, result.model, result.plan, call).passed
    assert not net._forward_pre_hooks
    assert not result.model._forward_pre_hooks


def test_a_function_may_call_the_model_twice_and_by_other_methods() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 3)

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            return self.a(x).relu()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.encode(x))

    result = secateur.prune(Two(), call=lambda m: (m(X), m(x=X + 1), m.c(m.encode(X))), target="channels=0.5")
    assert result.graph.unreached == ()
    assert (result.model.a.out_features, result.model.c.in_features) == (8, 8)


def test_further_calls_are_functions_too() -> None:
    class Either(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor, deep: bool = False) -> torch.Tensor:
            return self.b(self.a(x)) if deep else self.a(x)

    calls = [lambda model: model(X, deep=True)]
    assert secateur.trace(Either(), X, calls=calls).unreached == ()
    assert further(calls)[0].by is calls[0]


def test_what_a_function_gives_again_becomes_the_same_again() -> None:
    made = Call(by=lambda model: model(X)).map(torch.rand_like)
    one, two = made.run(nn.Identity()), made.run(nn.Identity())
    assert torch.equal(one, two)
    assert not torch.equal(one, X)


class Nothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.randn(2, 6))
        self.net = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 2))

    def forward(self) -> torch.Tensor:
        return self.net(self.z)


@pytest.mark.parametrize("inputs", [(), {}, []])
def test_a_model_without_arguments(inputs: Any) -> None:
    net = Nothing()
    result = secateur.prune(net, inputs, "channels=0.5")
    assert result.model.net[0].out_features == 8
    assert secateur.verify(net, result.model, result.plan, inputs).passed
    assert secateur.count(result.model, inputs).macs == result.plan.after.macs


def test_the_way_out_is_named() -> None:
    for wrong in (3, "x", None, (3,)):
        with pytest.raises(InputError, match=r"call=lambda model: model\(\.\.\.\)"):
            secateur.trace(Net(), wrong)
    with pytest.raises(InputError, match=r"these example inputs: none\nit says: TypeError(.|\n)*call=lambda"):
        secateur.trace(Net(), ())
    with pytest.raises(InputError, match=r"does not run as call= runs it\nit says: TypeError: .*'g'"):
        secateur.trace(Net(), call=lambda model: model())
    with pytest.raises(InputError, match=r"example_inputs and call= both say .*\n?.*target='macs=0.5'"):
        secateur.prune(Net(), "macs=0.5", call=lambda model: model(Graph(X, EDGES)))
    with pytest.raises(InputError, match="call=3: it must be a function that runs the model"):
        secateur.trace(Net(), call=3)  # type: ignore[arg-type]


GIVES: dict[str, Callable[[torch.Tensor], Any]] = {
    "dataclass": lambda y: Graph(y, EDGES),
    "frozen": lambda y: Frozen(y, EDGES),
    "nested": lambda y: {"out": [Outer(Frozen(y, EDGES))]},
    "named tuple": lambda y: Named(y, EDGES),
    "attributes": lambda y: Plain(y, EDGES),
    "slots": lambda y: Slotted(y, EDGES),
    "store": lambda y: Stored(y, EDGES),
    "pytree": lambda y: Registered(y, EDGES),
    "mapping": lambda y: UserDict(logits=y),
    "distribution": lambda y: torch.distributions.Normal(y, 1.0, validate_args=False),
    "maximum": lambda y: y.max(0),
}


@pytest.mark.parametrize("kind", GIVES)
def test_outputs_are_found_in_objects(kind: str) -> None:
    class Giving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return GIVES[kind](self.b(self.a(x)))

    graph = secateur.trace(Giving(), X)
    assert [axis.name for axis in graph.axes] == ["a"]
    assert [f.reason for f in graph.frozen if f.name == "b.bias"] == ["model output"]


def test_hugging_face_outputs_are_found() -> None:
    outputs = pytest.importorskip("transformers.modeling_outputs")
    given = outputs.BaseModelOutput(last_hidden_state=X, hidden_states=(X, X + 1))
    assert len(tensors_in(given)) == 3


def test_an_output_in_which_nothing_is_found_is_refused() -> None:
    class Hidden:
        """Keeps its tensor where nobody looks."""

        def __init__(self, y: torch.Tensor):
            self.read = lambda: y

    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return Hidden(self.b(self.a(x)))

    with pytest.raises(InputError, match=r"no tensor is found in what the model returns, a Hidden(.|\n)*outputs=lamb"):
        secateur.trace(Hiding(), X)
    graph = secateur.trace(Hiding(), X, outputs=lambda out: out.read())
    assert [axis.name for axis in graph.axes] == ["a"]


def test_copies_leave_what_was_given() -> None:
    packed = pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    doubled = changed([packed, Plain(X, EDGES)], lambda t: t * 2)
    assert isinstance(doubled[0], PackedSequence)
    assert torch.equal(doubled[0].data, packed.data * 2)
    assert torch.equal(doubled[1].x, X * 2)
    assert doubled[1].itself is doubled[1]


def test_a_packed_sequence_is_one_argument() -> None:
    packed = pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    assert Call.of(packed).args[0] is packed


def test_modules_and_functions_in_outputs_are_no_tensors() -> None:
    assert tensors_in([nn.Linear(2, 2), lambda: X, Graph, torch.float32, Plain]) == []
