"""A picture of mattes: a row for each image; columns for the image, the true alpha and each model's matte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.anatomy.running import call, mode
from secateur.errors import FileError

GAP, HEAD = 4, 14
"""Pixels between pictures, and above the first row for column names."""


def write_picture(path: Path, models: Mapping[str, nn.Module], image: Tensor, alpha: Tensor) -> Path:
    """Write a PNG of image: (n, 3, h, w) from -1 to 1, alpha: (n, 1, h, w) and each model's mattes.

    The file is written atomically. Raises `FileError` if it cannot be written.
    """
    from PIL import Image, ImageDraw

    columns = {"image": (image + 1) / 2, "true alpha": alpha, **{name: matte(m, image) for name, m in models.items()}}
    pixels = (grid(list(columns.values())) * 255).round().to(torch.uint8)
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    draw = ImageDraw.Draw(picture)
    for place, name in enumerate(columns):
        draw.text((GAP + place * (image.shape[3] + GAP), 1), name, fill="black")
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        picture.save(part, format="PNG", optimize=True)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FileError(f"{path} cannot be written: {error}; name another folder") from error
    return path


def matte(model: nn.Module, image: Tensor) -> Tensor:
    """Return the mattes (n, 1, h, w) of images, in evaluation mode."""
    with mode(model, training=False), torch.no_grad():
        return call(model, image)[2].cpu()


def grid(columns: list[Tensor]) -> Tensor:
    """Arrange columns of pictures (n, 1 or 3, h, w), 0 to 1, on a white sheet (3, H, W) with room above.

    >>> grid([torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8)]).shape
    torch.Size([3, 42, 28])
    """
    rows, _, height, width = columns[0].shape
    sheet = torch.ones(3, HEAD + rows * (height + GAP) + GAP, len(columns) * (width + GAP) + GAP)
    for column, pictures in enumerate(columns):
        for row, picture in enumerate(pictures):
            top, left = HEAD + GAP + row * (height + GAP), GAP + column * (width + GAP)
            sheet[:, top : top + height, left : left + width] = picture.clamp(0, 1)
    return sheet


__all__ = ["write_picture"]
