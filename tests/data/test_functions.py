from __future__ import annotations

from pathlib import Path

import pytest

from secateur.data import load_data
from secateur.errors import InputError

SOURCE = """
import torch

def generator(split, batch_size=3):
    for i in range(2 if split == "train" else 1):
        yield torch.full((batch_size, 1), float(i)), torch.zeros(batch_size, dtype=torch.int64)

def listed(split, path, seed, image_size):
    return [(path, split), (seed, image_size)]

def everything():
    return []

def single(split):
    yield torch.ones(1)

def nothing(split):
    return None

def broken(split):
    yield torch.ones(1), torch.zeros(1)
    raise KeyError("gone")

def refusing(split):
    raise OSError("no disk")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "batches.py"
    path.write_text(SOURCE)
    return path


def test_a_generator_can_be_gone_through_again(file: Path) -> None:
    data = load_data(f"{file}:generator", batch_size=5)
    assert (len(data.train), len(data.test), data.num_classes) == (2, 1, None)
    assert [tuple(x.shape) for _ in range(2) for x, _ in data.train] == [(5, 1)] * 4


def test_the_batches_of_a_generator_are_counted_once(file: Path) -> None:
    file.write_text(SOURCE + "\ncalls = []\ndef counted(split):\n    calls.append(split)\n    yield calls, calls")
    train = load_data(f"{file}:counted").train
    assert [len(train), len(train), next(iter(train))[0]] == [1, 1, ["train", "train"]]


def test_it_is_given_what_it_names(file: Path) -> None:
    data = load_data(f"{file}:listed", train_path="a", test_path="b", seed=7, image_size=9)
    assert list(data.train) == [("a", "train"), (7, 9)]
    assert list(data.test) == [("b", "test"), (7, 9)]
    assert len(data.train) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("everything", r"everything takes no argument; write def everything\(split\): with split 'train' or 'test'"),
        ("single", r"single yielded a Tensor, not a pair; yield \(inputs, targets\)"),
        ("nothing", r"nothing returned NoneType\nreturn or yield batches of \(inputs, targets\)"),
        ("broken", r"broken failed on the split 'train': KeyError: 'gone'\n  in .*batches.py, line 22: raise KeyError"),
        (
            "refusing",
            r"refusing failed on the split 'train': OSError: no disk\n  in .*batches.py, line 25: raise OS",
        ),
        ("generater", "does not define 'generater'; did you mean 'generator'"),
    ],
)
def test_what_a_function_does_wrong(file: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(load_data(f"{file}:{name}").train)
