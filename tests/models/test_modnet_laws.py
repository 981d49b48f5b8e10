"""The matting network: all laws, and the cut that others made by hand in weeks."""

from __future__ import annotations

from pathlib import Path

import torch

import laws
import secateur
from secateur.models.modnet import MODNet


def test_all_laws(tmp_path: Path) -> None:
    plan = laws.check_all(MODNet, torch.randn(1, 3, 64, 64), tmp_path / "m.safetensors")
    assert plan.after.params < 0.75 * plan.before.params


def test_one_call_reaches_both_targets() -> None:
    result = secateur.prune(MODNet().eval(), torch.zeros(1, 3, 512, 512), ["params=1.76e6", "macs=8.98e9"])
    assert result.plan.before.params == 6_487_075
    assert 1.75e6 < result.plan.after.params <= 1.76e6
    assert result.plan.after.macs <= 8.98e9
    splits = [c for c in result.plan.attributes if c.name == "bnorm_channels"]
    assert splits
    assert all(c.new < c.old for c in splits)


def test_outputs_that_are_none() -> None:
    alone = secateur.trace(MODNet(), (torch.zeros(1, 3, 64, 64), True))
    both = secateur.trace(MODNet(), (torch.zeros(1, 3, 64, 64), True), calls=[(torch.zeros(1, 3, 64, 64), False)])
    assert len(alone.unreached) == 8
    assert not set(alone.unreached) & {use.name for axis in alone.axes for use in axis.sites}
    assert both.unreached == ()
