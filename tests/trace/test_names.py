"""Sizes by other spellings: what runs in C keeps their history, and nothing of that outlives a trace."""

from __future__ import annotations

import copy
import functools
import math
import operator
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy import prod
from torch import Tensor, nn

import secateur
from nets import Parts
from secateur.graph.sizes import Attribute, leaves
from secateur.trace.names import Scalar, followed
from secateur.trace.tracked_ints import Ledger, Num, Shape, expression, open_ledger

SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "-1": lambda y: y.view(y.size(0), -1),
    "math.prod": lambda y: y.view(-1, math.prod(y.shape[1:])),
    "numpy.prod": lambda y: y.view(-1, int(np.prod(y.shape[1:]))),
    "numpy.prod, as it is": lambda y: y.view(-1, np.prod(y.shape[1:])),
    "numpy.prod of a list": lambda y: y.view(-1, np.prod(list(y.shape)[1:])),
    "numpy.prod of a tuple": lambda y: y.view(-1, np.prod((y.size(1), 6, y.size(3)), dtype=np.int64)),
    "numpy.prod along": lambda y: y.view(-1, np.prod(tuple(y.shape[1:]), axis=0)),
    "numpy.prod item": lambda y: y.view(-1, np.prod(y.shape[1:]).item()),
    "numpy.prod astype": lambda y: y.view(-1, np.prod(y.shape[1:]).astype(int)),
    "prod of numpy": lambda y: y.view(-1, prod(y.shape[1:])),
    "reduce": lambda y: y.view(-1, functools.reduce(operator.mul, y.shape[1:])),
    "int": lambda y: y.view(-1, int(y.size(1)) * int(y.size(2)) * int(y.size(3))),
    "numel of a slice": lambda y: y.view(-1, y.size()[1:].numel()),
    "numel of a slice from behind": lambda y: y.view(-1, y.shape[-3:].numel()),
    "numel // batch": lambda y: y.view(y.size(0), y.shape.numel() // y.size(0)),
    "numel of one": lambda y: y.view(-1, y[0].numel()),
    "nelement // len": lambda y: y.view(len(y), y.nelement() // len(y)),
    "len of one": lambda y: y.view(-1, len(y[0].flatten())),
    "sizes joined": lambda y: y.view(operator.add(y.shape[:1], (y.shape[1:].numel(),))),
    "sizes joined in front": lambda y: y.view((len(y), *y.shape[4:], y.shape[1:].numel())),
    "sizes unpacked": lambda y: y.view(*y.shape[:1], y.shape[1:].numel()),
}


def digits(flat: Callable[[Tensor], Tensor]) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.out(self.hidden(self.flat(self.conv(x).relu())).relu())

    parts = {"conv": nn.Conv2d(1, 16, 3), "hidden": nn.Linear(16 * 36, 32), "out": nn.Linear(32, 4)}
    return Parts(run, flat=flat, **parts)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_size_cuts_alike(spelling: str) -> None:
    x = torch.randn(3, 1, 8, 8)
    r = secateur.prune(digits(SPELLINGS[spelling]), (x,), "channels=0.5", verify=True)
    assert {axis.name: axis.size for axis in r.graph.axes} == {"conv": 16, "hidden": 32}
    assert (r.model.conv.out_channels, r.model.hidden.out_features) == (8, 16)


@pytest.mark.parametrize(
    "flat",
    [
        lambda y: y.view(-1, int(torch.tensor(y.shape[1:]).prod())),
        lambda y: y.view(-1, int(np.array(y.shape[1:]).prod())),
        lambda y: y.view(-1, np.multiply.reduce(y.shape[1:])),
        lambda y: y.view(-1, np.prod(y.shape[1:], keepdims=True)[0]),
        lambda y: y.view(-1, np.prod([y.shape[1:], y.shape[1:]], axis=1)[0]),
        lambda y: y.view(-1, y.stride(0)),
    ],
)
def test_what_cannot_be_followed_freezes_with_its_line(flat: Callable[[Tensor], Tensor]) -> None:
    graph = secateur.trace(digits(flat), (torch.randn(3, 1, 8, 8),))
    reasons = {(f.name, f.dim): f.reason for f in graph.frozen}
    assert "reshape(..., 576) is written at" in reasons["conv.weight", 0]
    assert [axis.name for axis in graph.axes] == ["hidden"]


@pytest.mark.parametrize(
    "root",
    [
        lambda q: np.sqrt(np.prod(q.shape[-1:])),
        lambda q: math.sqrt(int(q.shape[-1])),
        lambda q: float(q.shape[-1:].numel()) ** 0.5,
        lambda q: len(q.transpose(0, -1)) ** 0.5,
    ],
)
def test_a_size_that_is_followed_still_escapes_into_arithmetic(root: Callable[[Tensor], float]) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y / float(self.root(y)))

    graph = secateur.trace(Parts(run, a=nn.Linear(4, 8), b=nn.Linear(8, 2), root=root), (torch.randn(3, 4),))
    assert not graph.axes
    assert "its size is used in a computation" in next(f.reason for f in graph.frozen if f.name == "a.weight")


@pytest.mark.parametrize("kept", [(4, 6), [4, 6], torch.Size([4, 6]), (-1, 6), (4, -1), (2, 2, 6)])
@pytest.mark.parametrize("dim", [1, -1])
def test_the_sizes_of_an_unflatten_module_follow(kept: Any, dim: int) -> None:
    model = nn.Sequential(nn.Linear(6, 24), nn.Unflatten(dim, kept), nn.ReLU(), nn.Flatten(1), nn.Linear(24, 2))
    r = secateur.prune(model, (torch.randn(3, 6),), "channels=0.5", verify=True)
    sizes = r.model[1].unflattened_size
    assert r.model[0].out_features == 12
    assert (type(sizes), [n for n in sizes if n < 0]) == (type(kept), [n for n in kept if n < 0])
    assert -1 in sizes or math.prod(sizes) == r.model[0].out_features


def test_a_size_of_torch_in_an_attribute_is_saved_and_loaded(tmp_path: Any) -> None:
    def build() -> nn.Module:
        def run(self: Any, x: Tensor) -> Tensor:
            y = self.a(x).view(self.sizes)
            return self.b(y.reshape(len(y), self.sizes[1:].numel()).relu())

        return Parts(run, a=nn.Linear(5, 24), b=nn.Linear(24, 2), sizes=torch.Size([3, 4, 6]))

    x = torch.randn(3, 5)
    r = secateur.prune(build(), (x,), "channels=0.5", verify=True)
    r.save(tmp_path / "small.safetensors")
    again = secateur.load(build(), tmp_path / "small.safetensors")
    assert (type(again.sizes), again.sizes[1:].numel()) == (torch.Size, 12)
    assert torch.equal(again(x), r.model(x))


WIDTH = Attribute("m", "width")


def shape() -> Shape:
    return Shape((2, Num(12, WIDTH)))


def test_a_shape_is_a_size_to_who_asks() -> None:
    given = shape()
    assert isinstance(given, torch.Size)
    assert (repr(given), torch.zeros(given).shape, given) == ("torch.Size([2, 12])", (2, 12), torch.Size([2, 12]))
    assert [*map(repr, (given[1:], operator.add(given, (3,)), operator.add((3,), given), given * 2))] == [
        f"torch.Size({n})" for n in ([12], [2, 12, 3], [3, 2, 12], [2, 12, 2, 12])
    ]


@pytest.mark.parametrize("part", [lambda s: s[1:], lambda s: operator.add(s[1:], (1,)), lambda s: 1 * s[1:]])
def test_parts_of_a_shape_know_where_they_come_from(part: Callable[[Shape], Shape]) -> None:
    with open_ledger(Ledger()) as ledger:
        number = part(shape()).numel()
    assert {WIDTH} == set(leaves(expression(number)))
    assert (int.__index__(number), ledger.escapes) == (12, [])


@pytest.mark.parametrize("copied", [lambda s: pickle.loads(pickle.dumps(s)), copy.copy, copy.deepcopy])
def test_a_shape_that_may_outlive_the_trace_is_a_plain_size(copied: Callable[[Shape], Any]) -> None:
    again = copied(shape())
    assert (type(again), {type(n) for n in again}) == (torch.Size, {int})


def names() -> dict[str, Any]:
    return {"prod": prod, "np.prod": np.prod, **{name: globals().get(name) for name in ("int", "len")}}


def test_the_names_mean_what_they_did_after_a_trace_and_after_one_that_fails() -> None:
    before, model = names(), digits(SPELLINGS["numpy.prod"])
    with followed(model):
        assert all(now is not old for now, old in zip(names().values(), before.values(), strict=True))
    with pytest.raises(secateur.InputError):
        secateur.trace(model, (torch.randn(3, 2, 8, 8),))
    assert all(now is old for now, old in zip(names().values(), before.values(), strict=True))


def test_traces_that_overlap_leave_nothing_behind() -> None:
    before, model = names(), digits(SPELLINGS["numpy.prod"])
    first, second = followed(model), followed(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert np.prod is not before["np.prod"]
    second.__exit__(None, None, None)
    assert all(now is old for now, old in zip(names().values(), before.values(), strict=True))


def test_other_threads_compute_what_they_did() -> None:
    found: list[Any] = []

    def elsewhere() -> None:
        found.extend([np.prod([2, 3]), np.prod(np.ones((2, 2)), axis=1).tolist(), int("7"), int("11", 2), len([1])])
        found.extend([isinstance(3, int), isinstance(True, int), issubclass(bool, int), int.from_bytes(b"\x05", "big")])

    with followed(digits(SPELLINGS["numpy.prod"])):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert found == [6, [1.0, 1.0], 7, 3, 1, True, True, True, 5]
    assert isinstance(found[0], np.int64)


def test_what_numpy_gives_has_what_its_numbers_have() -> None:
    with open_ledger(Ledger()) as ledger:
        number = Scalar(12, WIDTH)
        assert (expression(number.item()), number.astype("int64") is number) == (WIDTH, True)
        assert not ledger.escapes
        assert (number.astype(np.float32), len(ledger.escapes)) == (12.0, 1)


CLASS = """
def forward(x):
    return {}
"""


@pytest.mark.parametrize(
    ("use", "follows"),
    [
        ("int(x)", True),
        ("[int(n) for n in x]", True),
        ("isinstance(x, int)", True),
        ("isinstance(x.n, (int, float)) and int(x.n) + 1", True),
        ("list(map(int, x))", True),
        ("type(x) == int", True),
        ("type(x) is int", False),
        ("(lambda n: type(n) is not int)(x)", False),
        ("x.to(int)", False),
        ("x.new(3, dtype=int)", False),
        ("zeros(x, int)", False),
    ],
)
def test_a_file_that_asks_for_the_class_itself_keeps_the_real_int(use: str, follows: bool) -> None:
    file: dict[str, Any] = {"__name__": "somebody's"}
    exec(CLASS.format(use), file)
    with followed(Parts(file["forward"])):
        assert (file.get("int", int) is not int) is follows
    assert "int" not in file


def test_the_size_of_nothing_is_zero() -> None:
    """As of detectors that find no box."""

    def run(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        boxes = torch.cat([y[:, :0], y[:, :0]], dim=1)
        assert int(boxes.shape[1]) * 2 == 0
        return self.b(y)

    graph = secateur.trace(Parts(run, a=nn.Linear(4, 8), b=nn.Linear(8, 2)), (torch.randn(3, 4),))
    assert {axis.name: axis.size for axis in graph.axes} == {"a": 8}
