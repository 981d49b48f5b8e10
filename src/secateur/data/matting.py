"""Composites for matting: images of people over photos, with exact alpha as the target.

    image = alpha * person + (1 - alpha) * photo

The people are the emoji of a font (`secateur.data.figures`), the photos are those of scikit-image. Test images
show figures, and parts of photos, that no training image shows. An example depends only on the seed, the number of the
epoch and its position; every epoch has new ones.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.data.batches import Batch
from secateur.data.figures import Figure, cutout, figures
from secateur.errors import InputError

PHOTOS = (
    "brick cell chelsea clock_motion coffee coins grass gravel hubble_deep_field ihc moon motorcycle_left retina rocket"
).split()
"""Photos of scikit-image without people in them."""

PARTS = {"train": (0.0, 0.6), "test": (0.6, 1.0)}
"""Start and end of each split's part of a photo, as shares of its width."""

FIFTH = 5
"""Every fifth figure is a test figure."""

LONGEST = 640
"""Maximum pixels of the longer side of a photo: crops show no more, so more would only cost time."""


@dataclass(frozen=True)
class Composites:
    """Batches of `batch_size` composites of `side` x `side` pixels: images (n, 3, h, w) from -1 to 1, and targets.

    Targets are (n, 5, h, w): alpha, a trimap (0 background, 1 person, 0.5 the edge between) and the image again, since
    the loss of MODNet compares compositions; `parts` splits them.
    """

    figures: tuple[Figure, ...]
    photos: tuple[Tensor, ...]
    side: int
    batches: int
    batch_size: int
    seed: int

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(0)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch `number`, counted from 0, without the first `start`."""
        for batch in range(start, self.batches):
            places = range(batch * self.batch_size, (batch + 1) * self.batch_size)
            made = [self._example(np.random.default_rng([self.seed, number, place])) for place in places]
            image, alpha = (torch.stack(part) for part in zip(*made, strict=True))
            yield image, torch.cat([alpha, trimap(alpha, radius=max(1, self.side // 32)), image], 1)

    def _example(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        figure = self.figures[rng.integers(len(self.figures))]
        person = placed(cutout(figure.texts[rng.integers(len(figure.texts))]), self.side, rng)
        photo = cropped(self.photos[rng.integers(len(self.photos))], self.side, rng)
        alpha = person[3:]
        colours = torch.minimum(person[:3] * _gains(rng), alpha)
        return 2 * (colours + (1 - alpha) * (photo * _gains(rng)).clamp(max=1)) - 1, alpha


def parts(targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split targets: (n, 5, h, w) -> alpha (n, 1, h, w), trimap (n, 1, h, w), image (n, 3, h, w)."""
    alpha, edges, image = targets.split([1, 1, 3], dim=1)
    return alpha, edges, image


def composites(split: str, *, side: int, batches: int, batch_size: int, seed: int = 0) -> Composites:
    """Return batches of the split "train" or "test". Raises `InputError` if the font or scikit-image is missing."""
    chosen = [figure for i, figure in enumerate(figures()) if (i % FIFTH == 0) == (split == "test")]
    photos = [_part(_photo(name), split) for name in PHOTOS]
    return Composites(tuple(chosen), tuple(photos), side, batches, batch_size, seed)


def placed(figure: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Place a figure: (4, h, w) bytes, colours times alpha, at random in (4, side, side), 0 to 1.

    It is 60 to 130 % as high as the image and flipped half the time; the edges of the image may cut it off.
    """
    height = round(side * rng.uniform(0.6, 1.3))
    width = round(height * figure.shape[2] / figure.shape[1])
    small = _resized(figure, height, width)
    small = small.flip(2) if rng.random() < 0.5 else small
    left = round(side * rng.uniform(0.3, 0.7) - width / 2)
    top = round(side * rng.uniform(0.45, 0.75) - height / 2)
    return F.pad(small, (left, side - left - width, top, side - top - height))  # a negative padding cuts off


def cropped(photo: Tensor, side: int, rng: np.random.Generator) -> Tensor:
    """Crop a photo: (3, h, w) bytes to a random square, 40 to 100 % of its shorter side, as (3, side, side), 0 to 1.

    It is flipped in either direction half the time.
    """
    edge = round(min(photo.shape[1:]) * rng.uniform(0.4, 1))
    top, left = (rng.integers(size - edge + 1) for size in photo.shape[1:])
    crop = _resized(photo[:, top : top + edge, left : left + edge], side, side)
    return crop.flip([dim for dim in (1, 2) if rng.random() < 0.5])


def trimap(alpha: Tensor, radius: int) -> Tensor:
    """Return 1 where alpha: (n, 1, h, w) is 1 within `radius` pixels all around, 0 where it is 0 there, else 0.5.

    >>> trimap(torch.tensor([[[[0.0, 0.0, 0.0, 0.7, 1.0, 1.0, 1.0]]]]), radius=1)
    tensor([[[[0.0000, 0.0000, 0.5000, 0.5000, 0.5000, 1.0000, 1.0000]]]])
    """
    greatest = F.max_pool2d(alpha, 2 * radius + 1, 1, radius)
    least = -F.max_pool2d(-alpha, 2 * radius + 1, 1, radius)
    return ((greatest > 0.01).to(alpha) + (least > 0.99).to(alpha)) / 2


def _resized(pixels: Tensor, height: int, width: int) -> Tensor:
    image = pixels.unsqueeze(0).to(torch.float32) / 255
    return F.interpolate(image, (height, width), mode="bilinear", antialias=True, align_corners=False)[0]


def _gains(rng: np.random.Generator) -> Tensor:
    """Return random gains (3, 1, 1): brightness from 60 to 130 %, and each colour within a fifth of it."""
    return torch.tensor(rng.uniform(0.6, 1.3) * rng.uniform(0.8, 1.2, (3, 1, 1)), dtype=torch.float32)


def _part(photo: Tensor, split: str) -> Tensor:
    begin, end = (round(share * photo.shape[2]) for share in PARTS[split])
    return photo[:, :, begin:end]


def _photo(name: str) -> Tensor:
    """Return a photo as (3, h, w) bytes."""
    from PIL import Image

    folder = _photo_folder()
    for path in (folder / f"{name}.png", folder / f"{name}.jpg"):
        if path.is_file():
            with Image.open(path) as image:
                picture = image.convert("RGB")
                picture.thumbnail((LONGEST, LONGEST))
                return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
    raise InputError(f"scikit-image in {folder} lacks the photo {name}; install it with: pip install scikit-image")


def _photo_folder() -> Path:
    # Not imported: the package has dependencies that we do not need.
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("scikit-image, whose photos are the backgrounds, is not installed; pip install scikit-image")
    return Path(spec.submodule_search_locations[0], "data")


__all__ = ["PHOTOS", "Composites", "composites", "parts", "trimap"]
