from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from secateur.data.matting import trimap
from secateur.errors import InputError
from secateur.recipes.matting_losses import DETAIL, EDGE, SEMANTIC, coarse, mad, modnet_loss, mse


def scene() -> tuple[Tensor, Tensor]:
    """A true alpha (2, 1, 32, 32), and targets with it."""
    torch.manual_seed(0)
    alpha = torch.zeros(2, 1, 32, 32)
    alpha[..., 8:, 8:] = 1
    return alpha, torch.cat([alpha, trimap(alpha, 2), torch.randn(2, 3, 32, 32)], 1)


def test_the_truth_costs_nothing() -> None:
    alpha, targets = scene()
    truth = (coarse(alpha, (2, 2)), alpha, alpha)
    assert modnet_loss(truth, targets) == mse(truth, targets) == mad(truth, targets) == 0


def test_each_output_adds_its_own_loss() -> None:
    alpha, targets = scene()
    rough, off = coarse(alpha, (2, 2)), 0.25
    edge = (targets[:, 1:2] == 0.5).float()
    image = targets[:, 2:]
    assert_close(modnet_loss((rough + off, alpha, alpha), targets).item(), SEMANTIC * off**2)
    assert_close(modnet_loss((rough, alpha + off, alpha), targets), DETAIL * off * edge.mean())
    composed = ((image * (alpha + off) - image * alpha).abs() * (1 + EDGE * edge)).mean()
    plain = (off * (1 + EDGE * edge)).mean()
    assert_close(modnet_loss((rough, alpha, alpha + off), targets), plain + composed)


def test_what_is_off_by_a_tenth() -> None:
    alpha, targets = scene()
    assert_close(mse((None, None, alpha + 0.1), targets), 0.01)
    assert_close(mad((None, None, alpha + 0.1), targets), 0.1)


def test_coarse_keeps_the_mean_of_what_is_even() -> None:
    assert_close(coarse(torch.full((1, 1, 64, 64), 0.3), (4, 4)), torch.full((1, 1, 4, 4), 0.3))


def test_a_matte_alone_cannot_be_trained_on() -> None:
    alpha, targets = scene()
    with pytest.raises(InputError, match="the model returned only a matte; train it with inference=False"):
        modnet_loss((None, None, alpha), targets)
