"""Adjacencies that are sparse tensors: nodes stay, channels pass through, and entries are what is multiplied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import secateur
from nets import Parts
from secateur.errors import InputError

NODES = 12
X = torch.randn(NODES, 6, generator=torch.Generator().manual_seed(0))
MADE = torch.rand(NODES, NODES, generator=torch.Generator().manual_seed(1))
DENSE = MADE * (MADE < 0.3)  # 42 of 144 entries
Product = Callable[[Tensor, Tensor], Tensor]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "coo": Tensor.to_sparse,
    "csr": Tensor.to_sparse_csr,
    "csc": Tensor.to_sparse_csc,
}
PRODUCTS: dict[str, Product] = {
    "@": lambda adjacency, x: adjacency @ x,
    "sparse.mm": torch.sparse.mm,
    "spmm": torch.spmm,
    "addmm": lambda adjacency, x: torch.addmm(x.new_zeros(NODES, x.shape[1]), adjacency, x),
    "sparse.addmm": lambda adjacency, x: torch.sparse.addmm(x, adjacency, x),
    "transposed": lambda adjacency, x: adjacency.t() @ x,
    "dense first": lambda adjacency, x: (x.t() @ adjacency).t(),
    "scaled": lambda adjacency, x: (adjacency * 2) @ x,
}


def net(product: Product, **parts: Any) -> nn.Module:
    def run(self: Any, x: Tensor, adjacency: Tensor | None = None) -> Tensor:
        at = self.adjacency if adjacency is None else adjacency
        return product(at, self.b(product(at, self.a(x)).relu()))

    return Parts(run, a=nn.Linear(6, 16), b=nn.Linear(16, 4), **parts)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_law_holds_with_a_sparse_adjacency(layout: str, product: str, tmp_path: Path) -> None:
    inputs = X, LAYOUTS[layout](DENSE)
    model = laws.randomized(net(PRODUCTS[product]))
    graph = secateur.trace(model, inputs)
    assert {axis.name: axis.size for axis in graph.axes} == {"a": 16}
    assert not graph.unknown
    plan = secateur.plan(graph, "channels=0.7", importance="random")
    pruned = secateur.cut(model, plan)
    laws.check_verified(model, pruned, plan, inputs)
    laws.check_cost(pruned, plan, inputs)
    laws.check_round_trip(lambda: net(PRODUCTS[product]), pruned, plan, inputs, tmp_path / "pruned.safetensors")
    laws.check_purity(model, plan, inputs)
    laws.check_conservation(model, graph, plan, inputs)
    assert (pruned.a.out_features, pruned.b.in_features) == (11, 11)


def test_macs_count_the_entries_and_not_the_zeros() -> None:
    entries = int(DENSE.count_nonzero())
    count = secateur.count(net(PRODUCTS["@"]), (X, DENSE.to_sparse_csr()))
    assert count.macs == NODES * (6 * 16 + 16 * 4) + entries * (16 + 4)


@pytest.mark.parametrize("reduce", ["sum", "mean", "amax"])
def test_neighbours_are_reduced(reduce: str) -> None:
    def product(adjacency: Tensor, x: Tensor) -> Tensor:
        return torch.sparse.mm(adjacency, x, reduce)

    result = secateur.prune(net(product), (X, DENSE.to_sparse_csr()), "channels=0.7", verify=True)
    assert result.plan.after.params < 0.75 * result.plan.before.params
    assert secateur.count(result.model, (X, DENSE.to_sparse_csr())).macs == result.plan.after.macs


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_buffer_may_be_sparse(layout: str) -> None:
    model = net(PRODUCTS["sparse.mm"])
    model.register_buffer("adjacency", LAYOUTS[layout](DENSE))
    result = secateur.prune(model, X, "channels=0.7", verify=True)
    assert result.model.a.out_features == 11
    assert result.model.adjacency is not model.adjacency
    assert torch.equal(result.model.adjacency.to_dense(), DENSE)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_adjacency_may_be_made_in_forward(compressed: bool) -> None:
    def run(self: Any, x: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
        adjacency = torch.sparse_coo_tensor(edges, weights, (x.shape[0], x.shape[0])).coalesce()
        if compressed:
            adjacency = adjacency.to_sparse_csr()
        return adjacency @ self.b(torch.sparse.mm(adjacency, self.a(x)).relu())

    held = DENSE.to_sparse().coalesce()
    model = Parts(run, a=nn.Linear(6, 16), b=nn.Linear(16, 4))
    result = secateur.prune(model, (X, held.indices(), held.values()), "channels=0.7", verify=True)
    assert result.model.a.out_features == 11


def test_what_becomes_sparse_stays_whole() -> None:
    model = Parts(
        lambda self, x: self.b(self.a(x).relu().to_sparse().to_dense()), a=nn.Linear(6, 16), b=nn.Linear(16, 4)
    )
    reasons = {frozen.reason for frozen in secateur.trace(model, X).frozen}
    assert any("the entries of a sparse tensor are data (aten::_to_sparse" in reason for reason in reasons)


def test_sparse_weights_stay_whole() -> None:
    model = Parts(
        lambda self, x: self.b(torch.sparse.mm(self.w, x).t()), w=nn.Parameter(DENSE.to_sparse()), b=nn.Linear(NODES, 4)
    )
    reasons = {(frozen.name, frozen.dim): frozen.reason for frozen in secateur.trace(model, X).frozen}
    assert reasons["w", 0] == "w is sparse"


@pytest.mark.parametrize("run", ["meta", "fake"])
def test_a_run_without_values_refuses_sparse_tensors(run: str) -> None:
    with pytest.raises(InputError, match=rf"run='{run}' has no stand-in for a sparse tensor.*\nuse run='real'"):
        secateur.trace(net(PRODUCTS["@"]), (X, DENSE.to_sparse()), run=run)


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused(layout: torch.layout) -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    ragged = torch.nested.nested_tensor([torch.randn(3, 6), torch.randn(5, 6)], layout=layout)
    with pytest.raises(InputError, match=r"a nested tensor cannot be traced.*\n.*to_padded_tensor\(x, 0.0\)"):
        secateur.prune(model, ragged, "channels=0.5")
    assert secateur.prune(model, torch.nested.to_padded_tensor(ragged, 0.0), "channels=0.5", verify=True).proved
