from __future__ import annotations

import pytest
import torch

from secateur.errors import InputError
from secateur.models.inputs import DTYPES, parse_input


def test_one_input() -> None:
    (x,) = parse_input("1x3x8x8")
    assert (tuple(x.shape), x.dtype) == ((1, 3, 8, 8), torch.float32)


def test_several_inputs() -> None:
    inputs = parse_input("2x5:int64, 2x5:bool,7")
    assert [(tuple(x.shape), x.dtype) for x in inputs] == [
        ((2, 5), torch.int64),
        ((2, 5), torch.bool),
        ((7,), torch.float32),
    ]


def test_the_content_is_always_the_same() -> None:
    torch.manual_seed(1)
    first, state = parse_input("4x4,4x4:int32"), torch.get_rng_state()
    torch.manual_seed(2)
    assert all(map(torch.equal, first, parse_input("4x4,4x4:int32")))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(name: str) -> None:
    (x,) = parse_input(f"3x4:{name}")
    assert str(x.dtype) == f"torch.{name}"
    assert x.dtype.is_floating_point or set(x.flatten().tolist()) == {0, 1}


@pytest.mark.parametrize("text", ["", "x", "1x", "0x3", "1x-3", "1,,2", "1.5x2", "1 x 3", "1x3:", "ax3", "1X3"])
def test_malformed(text: str) -> None:
    with pytest.raises(InputError, match="is not an input shape; write positive sizes joined by x, as in 1x3x224x224"):
        parse_input(text)


def test_unknown_dtype() -> None:
    with pytest.raises(InputError, match=r"'1x3:float' has the unknown dtype 'float'; known are float16, .*int64"):
        parse_input("1x3:float")


def test_too_large() -> None:
    with pytest.raises(InputError, match="has 50000000000 elements, above the limit of 2147483648"):
        parse_input("50000x1000x1000")
