from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from secateur.data import Batches
from secateur.data.augment import SHIFT, flip_and_shift


def images(n: int = 200) -> Tensor:
    return torch.arange(1.0, n * 3 * 6 * 5 + 1).view(n, 3, 6, 5)


def windows(image: Tensor) -> list[Tensor]:
    """Every place that an image (3, 6, 5) can be shifted to, mirrored or not."""
    wide = [torch.nn.functional.pad(one, (SHIFT,) * 4) for one in (image, image.flip(2))]
    places = range(2 * SHIFT + 1)
    return [one[:, top : top + 6, left : left + 5] for one in wide for top in places for left in places]


def test_every_image_is_a_window_of_itself_or_its_mirror_image() -> None:
    x = images(20)
    for before, after in zip(x, flip_and_shift(x, np.random.default_rng(0)), strict=True):
        assert any(torch.equal(after, window) for window in windows(before))


def test_every_shift_and_both_sides_occur() -> None:
    x = images(1).expand(4000, -1, -1, -1)
    found = {tuple(one.flatten().tolist()) for one in flip_and_shift(x, np.random.default_rng(0))}
    assert found == {tuple(window.flatten().tolist()) for window in windows(x[0])}


def test_what_comes_in_stays_as_it_is() -> None:
    x = images()
    flip_and_shift(x, np.random.default_rng(0))
    assert torch.equal(x, images())


def batches(seed: int | None = 3) -> Batches:
    every = images()
    return Batches(lambda i: every[i], torch.arange(200), 64, seed, flip_and_shift)


def test_an_epoch_is_always_the_same_and_no_two_are_alike() -> None:
    first, again, second = (torch.cat([x for x, _ in batches().epoch(n)]) for n in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first.sort(0).values, second.sort(0).values)


def test_a_batch_does_not_depend_on_those_before_it() -> None:
    skipped = list(batches().epoch(2))[3]
    alone = Batches(lambda i: images()[i], torch.arange(200), 64, 3, lambda x, rng: x + rng.random())
    assert torch.equal(skipped[1], list(alone.epoch(2))[3][1])
    offsets = [float((x - images()[y]).mean()) for x, y in alone.epoch(2)]
    assert len({round(offset, 2) for offset in offsets}) == 4


def test_without_a_number_images_are_as_they_are() -> None:
    assert all(torch.equal(x, images()[y]) for x, y in batches())
    assert [y.tolist() for _, y in batches()] == [y.tolist() for _, y in batches().epoch(0)]
