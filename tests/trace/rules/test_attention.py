"""Torch's own attention modules: cut like any other, and right on their fast paths too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laws
import secateur
from nets import Parts
from secateur.trace.rules.attention import multi_head_attention

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(2, 5, 6, generator=GENERATOR), torch.randn(2, 7, 6, generator=GENERATOR)
PADDING = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]).bool()
SHAPES: dict[str, Any] = {"dim_feedforward": 24, "batch_first": True}


def between(run: Callable[..., Any], **parts: nn.Module) -> nn.Module:
    """Modules of width 12, four heads, between two linear layers."""
    ends = {"start": nn.Linear(6, 12), "end": nn.Linear(12, 5)}
    return Parts(lambda self, x, *more: self.end(run(self, self.start(x), *more)), **ends, **parts)


def layer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(12, 4, **{**SHAPES, **options})


def encoder() -> nn.Module:
    stack = nn.TransformerEncoder(layer(activation="gelu"), 2)
    return between(lambda self, x, padding: self.stack(x, src_key_padding_mask=padding), stack=stack)


def causal() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        return self.stack(x, mask=mask, is_causal=True)

    return between(run, stack=nn.TransformerEncoder(layer(norm_first=True), 2, enable_nested_tensor=False))


def decoder() -> nn.Module:
    stack = nn.TransformerDecoder(nn.TransformerDecoderLayer(12, 4, **SHAPES), 1, norm=nn.LayerNorm(12))
    return between(lambda self, x, y: self.stack(x, self.memory(y)), stack=stack, memory=nn.Linear(6, 12))


def both() -> nn.Module:
    whole = nn.Transformer(12, 4, 1, 1, **SHAPES)
    return between(lambda self, x, y: self.whole(x, self.target(y)), whole=whole, target=nn.Linear(6, 12))


def attention(**options: Any) -> nn.Module:
    def run(self: Any, x: Tensor, padding: Tensor) -> Tensor:
        out, weights = self.attend(x, x, x, key_padding_mask=padding)
        return out + weights.square().sum(-1, keepdim=True)

    return between(run, attend=nn.MultiheadAttention(12, 4, batch_first=True, **options))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[Any, ...]]] = {
    "layer": (lambda: between(lambda self, x: self.layer(x), layer=layer()), (X,)),
    "layer, length first": (lambda: between(lambda self, x: self.layer(x), layer=layer(batch_first=False)), (X,)),
    "encoder": (encoder, (X, PADDING)),
    "causal": (causal, (X,)),
    "decoder": (decoder, (X, Y)),
    "transformer": (both, (X, Y)),
    "attention": (attention, (X, PADDING)),
    "attention with one more key": (lambda: attention(add_bias_kv=True, add_zero_attn=True), (X, PADDING)),
}


@pytest.mark.parametrize("name", NETS)
def test_transformers_are_cut_and_right(name: str) -> None:
    build, inputs = NETS[name]
    model = laws.randomized(build())
    result = secateur.prune(model, inputs, "channels=0.6", importance="random", verify=True)
    assert not result.graph.unknown
    assert result.plan.after.params < 0.5 * result.plan.before.params
    laws.check_cost(result.model, result.plan, inputs)
    laws.check_trains(result.model, inputs)


@pytest.mark.parametrize("name", ["layer", "encoder", "attention"])
def test_fast_paths_compute_the_same(name: str) -> None:
    build, inputs = NETS[name]
    small = secateur.prune(laws.randomized(build()), inputs, "channels=0.6", importance="random").model.eval()
    with torch.no_grad():
        fast = small(*inputs)  # without gradients, fused ops run
    real = ~PADDING[..., None] if name == "encoder" else torch.ones(1, dtype=torch.bool)
    torch.testing.assert_close(fast * real, small(*inputs).detach() * real)


@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"kdim": 6, "vdim": 6}])
def test_the_plain_form_is_torchs_own(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    module = laws.randomized(nn.MultiheadAttention(12, 4, batch_first=True, **options))
    other = Y if "kdim" in options else torch.cat([Y, Y], -1)
    arguments = torch.cat([X, X], -1), other, other, torch.arange(14).view(2, 7) % 5 == 3
    mask = torch.arange(35).view(5, 7) % 4 == 3
    expected = module(*arguments, attn_mask=mask)
    monkeypatch.setattr(F, "multi_head_attention_forward", multi_head_attention)
    for a, b in zip(module(*arguments, attn_mask=mask), expected, strict=True):
        torch.testing.assert_close(a, b)
