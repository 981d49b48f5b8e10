from __future__ import annotations

import pytest
import torch

from secateur.base.precision import narrow, wide

WIDER = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
    torch.float64: torch.float64,
    torch.int64: torch.int64,
    torch.bool: torch.bool,
}


@pytest.mark.parametrize("dtype", WIDER)
def test_copies_hold_the_same_values_in_their_own_memory(dtype: torch.dtype) -> None:
    x = torch.ones(3).to(dtype).requires_grad_(dtype.is_floating_point)
    for copy, expected in ((wide(x), WIDER[dtype]), (narrow(x), dtype)):
        assert copy.dtype == expected
        assert not copy.requires_grad
        assert copy.data_ptr() != x.data_ptr()
        assert torch.equal(copy.to(dtype), x)
