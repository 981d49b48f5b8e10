"""Least squares of rows: exact where it can be, the ridge by held-out rows, blocks as good as one piece."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

from secateur.graph.consumers import matrix_of, weight_of
from secateur.recover.solving import RIDGES, solved


def rows(n: int, groups: int, features: int, outputs: int, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(n, groups, features, generator=generator, dtype=torch.float64)
    truth = torch.randn(groups, features + 1, outputs, generator=generator, dtype=torch.float64)
    wanted = torch.einsum("rgf,gfo->rgo", seen, truth[:, :-1]) + truth[:, -1]
    return seen, wanted + noise * torch.randn(wanted.shape, generator=generator, dtype=torch.float64), truth


def in_parts(seen: Tensor, wanted: Tensor, parts: int) -> Callable[[], Iterable[tuple[Tensor, Tensor]]]:
    return lambda: zip(seen.chunk(parts), wanted.chunk(parts), strict=True)


@pytest.mark.parametrize(("groups", "features", "outputs"), [(1, 7, 3), (4, 5, 2), (2, 1, 1)])
@pytest.mark.parametrize("parts", [1, 5])
def test_a_linear_map_is_found(groups: int, features: int, outputs: int, parts: int) -> None:
    seen, wanted, truth = rows(400, groups, features, outputs)
    found, ridge = solved(in_parts(seen, wanted, parts), torch.zeros_like(truth))
    torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-4)
    assert ridge == min(RIDGES)


def test_without_a_constant_its_row_stays() -> None:
    seen, wanted, truth = rows(400, 1, 4, 2)
    start = torch.full_like(truth, 0.5)
    found, _ = solved(in_parts(seen, wanted, 1), start, constant=False)
    assert bool((found[:, -1] == 0.5).all())
    assert not torch.allclose(found[:, :-1], start[:, :-1])


def test_noise_and_few_rows_ask_for_a_larger_ridge() -> None:
    seen, wanted, truth = rows(40, 1, 30, 2, noise=5.0)
    _, ridge = solved(in_parts(seen, wanted, 1), truth)
    assert ridge > min(RIDGES)


def test_blocks_find_what_one_piece_finds_where_features_are_independent() -> None:
    seen, wanted, truth = rows(4000, 1, 12, 3)
    seen = torch.linalg.qr(seen[:, 0]).Q.unsqueeze(1) * 60
    wanted = torch.einsum("rgf,gfo->rgo", seen, truth[:, :-1])
    whole, _ = solved(in_parts(seen, wanted, 1), torch.zeros_like(truth))
    blocks, _ = solved(in_parts(seen, wanted, 1), torch.zeros_like(truth), block=5)
    torch.testing.assert_close(blocks, whole, rtol=1e-3, atol=0.2)
    left = [float((wanted - torch.einsum("rgf,gfo->rgo", seen, w[:, :-1])).square().sum()) for w in (whole, blocks)]
    assert left[1] < 0.01 * float(wanted.square().sum())


def test_rows_that_say_nothing_change_nothing() -> None:
    start = torch.randn(1, 4, 2, dtype=torch.float64)
    seen = torch.zeros(10, 1, 3, dtype=torch.float64)
    found, _ = solved(lambda: [(seen, start[:, -1].expand(10, 1, 2))], start)
    torch.testing.assert_close(found, start)


@pytest.mark.parametrize(
    ("shape", "dim", "groups"), [((6, 4), 1, 1), ((4, 6), 0, 1), ((6, 4, 3, 2), 1, 1), ((6, 2, 3), 1, 3)]
)
def test_matrices_and_weights_turn_into_each_other(shape: tuple[int, ...], dim: int, groups: int) -> None:
    weight = torch.randn(shape)
    matrix = matrix_of(weight, dim, groups)
    assert matrix.shape[0] == groups
    assert matrix.numel() == weight.numel()
    assert torch.equal(weight_of(matrix, weight, dim), weight)
