"""Sizes that pass through cached functions keep their history, and the caches are the user's again afterwards."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from nets import Parts
from secateur.trace.names import followed

X = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
SEEN: list[tuple[int, int]] = []


@functools.lru_cache
def halves(shape: tuple[int, int], parts: int) -> tuple[int, int]:
    SEEN.append((int(shape[0]), parts))
    return parts, shape[1] // parts


@functools.cache
def doubled(size: int) -> int:
    return 2 * size


class WithMethod(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 5)

    @functools.lru_cache  # noqa: B019
    def folded(self, size: int) -> tuple[int, int]:
        return 2, size // 2

    @staticmethod
    @functools.lru_cache
    def whole(size: int) -> int:
        return size + 0

    @classmethod
    @functools.lru_cache
    def named(cls, size: int) -> int:
        assert cls is WithMethod
        return size + 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        x = x.view(x.shape[0], *self.folded(x.shape[1])).flatten(1)
        return self.b(x.reshape(-1, self.whole(x.shape[1])).view(-1, self.named(x.shape[1])))


def by_function(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    return self.b(x.view(x.shape[0], *halves(x.shape, 2)).flatten(1))


def by_helper(self: Any, x: Tensor) -> Tensor:
    return by_function(self, x)


def by_keyword(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    return self.b(torch.cat([x, x], 1).view(x.shape[0], doubled(size=x.shape[1])))


NETS = {
    "function": lambda: Parts(by_function, a=nn.Linear(6, 8), b=nn.Linear(8, 5)),
    "function of a function": lambda: Parts(by_helper, a=nn.Linear(6, 8), b=nn.Linear(8, 5)),
    "keyword": lambda: Parts(by_keyword, a=nn.Linear(6, 8), b=nn.Linear(16, 5)),
    "methods": WithMethod,
}


@pytest.mark.parametrize("name", NETS)
def test_a_size_keeps_its_history(name: str) -> None:
    torch.manual_seed(0)
    result = secateur.prune(NETS[name](), X, "channels=0.5", importance="random", verify=True)
    assert result.model.a.weight.shape == (4, 6)
    assert result.verification.passed


def test_calls_without_sizes_use_the_cache_and_it_is_back_afterwards() -> None:
    halves.cache_clear()
    before = halves, vars(WithMethod)["folded"], vars(WithMethod)["whole"]
    model = Parts(
        lambda self, x: self.b(self.a(x).relu().view(-1, halves((2, 8), 1)[1])), a=nn.Linear(6, 8), b=nn.Linear(8, 5)
    )
    SEEN.clear()
    secateur.trace(model, X)
    secateur.trace(WithMethod(), X)
    assert SEEN == [(2, 1)]
    assert (halves, vars(WithMethod)["folded"], vars(WithMethod)["whole"]) == before
    assert halves.cache_info().currsize == 1


def test_of_two_traces_at_once_the_last_one_puts_the_function_back() -> None:
    original, model = halves, NETS["function"]()
    first, second = followed(model), followed(model)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    still = globals()["halves"]
    second.__exit__(None, None, None)
    assert still is not original
    assert globals()["halves"] is original
