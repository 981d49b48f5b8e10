from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secateur.data import matting as module
from secateur.data.matting import Composites, composites, cropped, parts, placed, trimap
from secateur.errors import InputError

SIZE: dict[str, Any] = {"side": 32, "batches": 2, "batch_size": 3}


@pytest.fixture(scope="module")
def train() -> Composites:
    try:
        return composites("train", **SIZE, seed=3)
    except InputError as error:
        pytest.skip(str(error))


def test_a_batch(train: Composites) -> None:
    image, targets = next(iter(train))
    alpha, edges, again = parts(targets)
    assert [tuple(t.shape) for t in (image, alpha, edges)] == [(3, 3, 32, 32), (3, 1, 32, 32), (3, 1, 32, 32)]
    assert image.min() >= -1 - 1e-6
    assert image.max() <= 1 + 1e-6
    assert alpha.amin((1, 2, 3)).max() == 0
    assert alpha.amax((1, 2, 3)).min() > 0.9
    assert set(edges.unique().tolist()) == {0.0, 0.5, 1.0}
    assert torch.equal(image, again)


def test_the_image_is_the_photo_where_alpha_is_0(train: Composites) -> None:
    black = replace(train, photos=tuple(torch.zeros_like(photo) for photo in train.photos))
    for (image, targets), (dark, _) in zip(train, black, strict=True):
        background = (parts(targets)[0] == 0).expand_as(image)
        assert (dark[background] == -1).all()
        assert not torch.equal(image[background], dark[background])
        assert torch.equal(image[(targets[:, :1] == 1).expand_as(image)], dark[(targets[:, :1] == 1).expand_as(image)])


def test_seed_epoch_and_place_decide(train: Composites) -> None:
    first, again, later, other = (
        torch.cat([x for x, _ in source]) for source in (train, train.epoch(0), train.epoch(1), replace(train, seed=4))
    )
    assert torch.equal(first, again)
    images = torch.cat([first, later, other])
    assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_an_epoch_that_goes_on_in_its_middle(train: Composites) -> None:
    (_, second), (rest,) = train.epoch(1), train.epoch(1, 1)
    assert torch.equal(second[0], rest[0])


def test_splits_share_no_figure(train: Composites) -> None:
    test = composites("test", **SIZE)
    known = {text for figure in train.figures for text in figure.texts}
    assert test.figures
    assert known.isdisjoint(text for figure in test.figures for text in figure.texts)
    assert len(test.photos) == len(train.photos) == len(module.PHOTOS)


def test_splits_see_different_parts_of_a_photo(monkeypatch: pytest.MonkeyPatch, train: Composites) -> None:
    numbered = torch.arange(100).expand(3, 4, 100)
    monkeypatch.setattr(module, "_photo", lambda name: numbered)
    seen = [set(composites(split, **SIZE).photos[0].unique().tolist()) for split in ("train", "test")]
    assert seen[0].isdisjoint(seen[1])
    assert seen[0] | seen[1] == set(range(100))


@pytest.mark.parametrize("seed", range(5))
def test_sizes_come_out(seed: int) -> None:
    rng = np.random.default_rng(seed)
    figure = torch.full((4, 16, 17), 255, dtype=torch.uint8)
    assert placed(figure, 32, rng).shape == (4, 32, 32)
    assert cropped(torch.full((3, 20, 50), 255, dtype=torch.uint8), 32, rng).eq(1).all()


def test_a_trimap_widens_with_its_radius() -> None:
    alpha = torch.zeros(1, 1, 24, 24)
    alpha[..., 8:, :] = 1
    unknown = [int((trimap(alpha, radius)[0, 0, :, 0] == 0.5).sum()) for radius in (1, 2, 3)]
    assert unknown == [2, 4, 6]


def test_without_scikit_image(monkeypatch: pytest.MonkeyPatch, train: Composites) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else find(name))
    with pytest.raises(InputError, match=r"scikit-image, .* is not installed; pip install scikit-image"):
        composites("train", **SIZE)


def test_a_photo_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, train: Composites) -> None:
    monkeypatch.setattr(module, "_photo_folder", lambda: tmp_path)
    with pytest.raises(InputError, match=r"lacks the photo brick; install it with: pip install scikit-image"):
        composites("train", **SIZE)
