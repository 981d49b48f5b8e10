"""The workshop of the matting recipe, on drawn discs: neither the font nor the photos are needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.data.matting import Composites, parts
from secateur.recipes import matting
from secateur.recipes.framework import Options
from secateur.recipes.matting import Errors, MattingSizes, MattingWorkshop

SIZES = MattingSizes(side=16, batch=4, dense=6, tuning=8, calibration=1, test=2, calls=5)


@dataclass(frozen=True)
class Discs(Composites):
    """White discs on black."""

    def _example(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        x, y = torch.meshgrid(torch.arange(self.side), torch.arange(self.side), indexing="ij")
        middle = rng.integers(4, self.side - 4, 2)
        alpha = ((x - middle[0]) ** 2 + (y - middle[1]) ** 2 <= rng.integers(9, 20)).float()[None]
        return 2 * alpha.expand(3, -1, -1) - 1, alpha


class Matte(nn.Module):
    """Returns what MODNet returns; `inference` leaves out the first two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor, inference: bool = False) -> tuple[Tensor | None, Tensor | None, Tensor]:
        matte = self.conv(x).sigmoid()
        return (None, None, matte) if inference else (nn.functional.avg_pool2d(matte, 4), matte, matte)


class Exact(Matte):
    def forward(self, x: Tensor, inference: bool = False) -> tuple[Tensor | None, Tensor | None, Tensor]:
        return None, None, (x[:, :1] + 1) / 2 + 0 * self.conv(x)


def workshop(said: list[str], seed: int = 0) -> MattingWorkshop:
    train = Discs((), (), SIZES.side, SIZES.dense, SIZES.batch, seed)
    test = list(Discs((), (), SIZES.side, SIZES.test, SIZES.batch, 99))
    return MattingWorkshop(SIZES, Options(seed=seed, say=said.append), train, test, torch.zeros(1, 3, 16, 16))


def test_training_brings_the_mattes_nearer_and_leaves_the_mode() -> None:
    said: list[str] = []
    shop = workshop(said)
    torch.manual_seed(0)
    model = Matte().train()
    before = shop.errors(model)
    shop.fitted(model, shop.batches(40, kind=2), lr=0.1)
    after = shop.errors(model)
    assert model.training
    assert after.mse < before.mse / 4
    assert after.mad < before.mad / 2
    assert [line.split(":")[0] for line in said] == [f"  step {step} of 40" for step in (10, 20, 30, 40)]


def test_errors_are_means_over_the_test_images() -> None:
    shop = workshop([])
    assert shop.errors(Exact()) == Errors(0, 0)
    half = Matte()
    nn.init.zeros_(half.conv.weight)
    nn.init.zeros_(half.conv.bias)
    assert shop.errors(half) == Errors(pytest.approx(0.25), pytest.approx(0.5))


def test_every_kind_has_other_batches_and_the_same_ones_again() -> None:
    shop = workshop([])
    first, other, later = (list(shop.batches(2, kind)) for kind in (1, 2, 1))
    assert len(first) == 2
    assert all(torch.equal(a, b) for one, two in zip(first, later, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    assert not torch.equal(first[0][0], next(iter(shop.train))[0])
    alpha, _, image = parts(first[0][1])
    assert torch.equal(image, 2 * alpha.expand_as(image) - 1)


def test_a_row_has_sizes_and_errors_and_is_said() -> None:
    said: list[str] = []
    row = workshop(said).row("dense", Matte(), dense=Errors(0.25, 0.5))
    assert (row.params, row.macs) == (4, 16 * 16 * 3)
    assert row.metric == {"dense": 0.25, "dense_mad": 0.5}
    assert said == ["dense: dense 0.2500, dense_mad 0.5000"]


def test_latency_is_that_of_a_matte_alone() -> None:
    figures = workshop([]).latency(Matte(), Exact())
    assert (figures["dense_macs"], figures["pruned_macs"]) == (16 * 16 * 3, 16 * 16 * 3)
    assert figures["dense_ms"] >= 0
    assert figures["speedup"] > 0
    assert figures["threads"] == torch.get_num_threads()


def test_the_dense_network_says_what_its_encoder_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    fitted: list[float] = []
    monkeypatch.setattr(matting, "trunk_path", lambda: None)
    monkeypatch.setattr(MattingWorkshop, "fitted", lambda self, model, batches, lr: fitted.append(lr))
    one, again = workshop(said, seed=3).dense(), workshop(said, seed=3).dense()
    assert said == ["encoder: random weights"] * 2
    assert fitted == [matting.LR] * 2
    assert not one.training
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
