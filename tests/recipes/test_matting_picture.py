from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import FileError
from secateur.recipes.matting_picture import GAP, HEAD, write_picture


class Constant(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> tuple[None, None, Tensor]:
        assert not self.training
        return None, None, torch.full_like(x[:, :1], self.value)


def test_columns_are_image_alpha_and_mattes(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    models = {"dense": Constant(0.2), "tuned": Constant(0.8)}
    path = write_picture(tmp_path / "m.png", models, torch.full((2, 3, 8, 8), -1.0), torch.ones(2, 1, 8, 8))
    picture = image.open(path)
    centres = [GAP + place * (8 + GAP) + 4 for place in range(4)]
    for row in range(2):
        seen = [picture.getpixel((x, HEAD + GAP + row * (8 + GAP) + 4))[0] for x in centres]
        assert seen == [0, 255, 51, 204]
    assert all(model.training for model in models.values())
    assert [file.name for file in tmp_path.iterdir()] == ["m.png"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="Pillow is not installed")
    with pytest.raises(FileError, match=r"m\.png cannot be written: .*; name another folder"):
        write_picture(tmp_path / "none" / "m.png", {}, torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
