"""Functions that are Python inside, and the plain ops that stand in for them during a trace: the same numbers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.trace.registry import PLAIN

FLAGS = list(itertools.product([False, True], repeat=3))


def _attention(attn: nn.MultiheadAttention, **masks: Any) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(n, 2, 12, generator=generator) for n in (5, 7))
    return attn(query, key, key, **masks)


@pytest.mark.parametrize(("bias", "zero", "averaged"), FLAGS)
@pytest.mark.parametrize("mask", [None, torch.arange(35).view(5, 7) % 3 == 2, torch.arange(210.0).view(6, 5, 7)])
@pytest.mark.parametrize("padding", [None, torch.arange(14).view(2, 7) > 10])
def test_attention(
    bias: bool, zero: bool, averaged: bool, mask: Tensor | None, padding: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attn = nn.MultiheadAttention(12, 3, add_bias_kv=bias, add_zero_attn=zero)
    masks: dict[str, Any] = {"attn_mask": mask, "key_padding_mask": padding, "average_attn_weights": averaged}
    expected = _attention(attn, **masks)
    plain = PLAIN[F.multi_head_attention_forward]
    monkeypatch.setattr(F, "multi_head_attention_forward", plain)
    torch.testing.assert_close(_attention(attn, **masks), expected)
