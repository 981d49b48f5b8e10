"""What `verify` says of plans that change nothing: it must be able to fail there too."""

from __future__ import annotations

import torch
from torch import nn

import secateur
from secateur.masks import mask, masks_of

X = torch.zeros(2, 3, 6, 6)  # constant, so random numbers are taken in its place


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    ).eval()


def silent(model: nn.Sequential, units: list[int], weight: str = "7.weight") -> nn.Sequential:
    """The model in masks that let nothing read these units of its second convolution."""
    kept = torch.ones_like(model.get_parameter(weight))
    kept[:, units] = 0
    mask(model, 0.0, only=weight).assign({weight: kept})
    return model


def test_a_cut_of_dead_units_is_proved() -> None:
    model = silent(net(), [1, 4, 5])
    plan = masks_of(model).plan(X)
    proof = secateur.verify(model, secateur.cut(model, plan), plan, X)
    assert proof.passed
    assert proof.visible == 0
    assert proof.others is not None
    assert proof.others > 0.01
    assert "so they are dead: silencing the units that stay of their axes changes them by" in str(proof)
    assert str(proof).startswith("proved: pruned equals silenced to")


def test_a_cut_of_more_than_half_is_proved() -> None:
    model = silent(net(), [0, 1, 2, 3, 4, 5, 6])
    plan = masks_of(model).plan(X)
    assert plan.axes["3"].kept_count == 1
    assert secateur.verify(model, secateur.cut(model, plan), plan, X).passed


def test_a_cut_of_dead_units_that_is_wrong_fails() -> None:
    """Another unit than the plan says goes: of the same shapes, and with nothing to see in the silenced model."""
    model = silent(net(), [1, 4])
    plan = masks_of(model).plan(X)
    wrong = secateur.plan(secateur.trace(model, X), drop={"3": [1, 2]})
    proof = secateur.verify(model, secateur.cut(model, wrong), plan, X)
    assert not proof.passed
    assert str(proof).startswith("FAILED: pruned equals silenced to")


def test_outputs_that_no_unit_reaches_prove_nothing() -> None:
    model = silent(net(), list(range(8)))
    plan = secateur.plan(secateur.trace(model, X), drop={"3": [1, 2]})
    proof = secateur.verify(model, secateur.cut(model, plan), plan, X)
    assert (proof.passed, proof.visible, proof.others) == (False, 0, 0)
    assert "not proved: silencing the dropped units changes the outputs by only 0.0e+00" in str(proof)
