from __future__ import annotations

from pathlib import Path

import pytest

from secateur.data import DATASETS, load_data
from secateur.errors import InputError


@pytest.mark.parametrize("option", ["image_size", "batch_size"])
@pytest.mark.parametrize("name", DATASETS)
def test_sizes_are_positive(name: str, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is 0; it must be at least 1"):
        load_data(name, **{option: 0})


def test_seeds_are_not_negative() -> None:
    with pytest.raises(InputError, match="seed is -1; it must be at least 0"):
        load_data("mnist", seed=-1)


@pytest.mark.parametrize("spec", ["fashion_mnist", "no/such/folder", ""])
def test_an_unknown_name(spec: str) -> None:
    with pytest.raises(
        InputError, match=f"no data '{spec}'; known: mnist, fashion-mnist, cifar10-jpeg, folder, .*py:function"
    ):
        load_data(spec)


def test_a_folder_of_classes_is_none_of_splits(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
    with pytest.raises(
        InputError, match=r"does not contain a folder 'train', but 'cat', 'dog'\ngive a folder that holds"
    ):
        load_data(str(tmp_path))
