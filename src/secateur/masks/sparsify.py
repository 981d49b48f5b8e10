"""From scores to masks: the lowest scores of each pool of competing weights become zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import InputError, nearest
from secateur.masks.patterns import Pattern, lowest, named_pattern

SCOPES = {
    "global": "the weights of all layers compete",
    "layer": "the weights of each layer compete, and each loses the same share",
    "output": "the weights of each output compete, and each loses the same share",
}
"""The words that `scope=` takes."""


@dataclass(frozen=True)
class Rules:
    """The scope and the pattern of the zeros. Raises `InputError` for unknown words."""

    scope: str = "global"
    pattern: str = "unstructured"

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise InputError(f"scope={self.scope!r}{nearest(str(self.scope), SCOPES)}\nknown: {', '.join(SCOPES)}")
        named_pattern(self.pattern)

    def masks(
        self, scores: Mapping[str, Tensor], sparsity: float, held: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return a mask for each weight, bools of shape (o, i, ...), from scores of the same shape.

        Of a pool of n blocks, the round(sparsity * n) with the lowest scores become zero; ties go to the first.
        held: earlier masks whose zeros stay zero. Raises `InputError` where these are already sparser.
        """
        pattern = named_pattern(self.pattern)
        rows = {name: _blocks(pattern, one, held[name] if held else None) for name, one in scores.items()}
        dropped = self._dropped(pattern, list(rows.values()), sparsity)
        made = {}
        for (name, blocks), gone in zip(rows.items(), dropped, strict=True):
            if held and bool((blocks.isneginf() & ~gone).any()):
                raise InputError(_too_sparse(name, held, sparsity))
            made[name] = pattern.spread(~gone, tuple(scores[name].shape))
        return made

    def _dropped(self, pattern: Pattern, rows: Sequence[Tensor], sparsity: float) -> list[Tensor]:
        """Return where each (rows, blocks) becomes zero."""
        if pattern.fixed is not None or self.scope == "output":
            return [lowest(one, _share(sparsity, one.shape[1])) for one in rows]
        if self.scope == "layer":
            return [lowest(one.view(1, -1), _share(sparsity, one.numel())).view_as(one) for one in rows]
        together = torch.cat([one.flatten() for one in rows]).unsqueeze(0)
        gone = lowest(together, _share(sparsity, together.numel()))[0].split([one.numel() for one in rows])
        return [part.view_as(one) for part, one in zip(gone, rows, strict=True)]


def _share(sparsity: float, n: int) -> int:
    """Return the integer nearest to a share of n."""
    return round(sparsity * n)


def _blocks(pattern: Pattern, scores: Tensor, held: Tensor | None) -> Tensor:
    """Return scores of blocks; -inf where a whole block is already zero."""
    blocks = pattern.blocks(scores).contiguous()
    if held is None:
        return blocks
    return blocks.masked_fill(pattern.blocks(held.to(scores.dtype)) == 0, -torch.inf)


def _too_sparse(name: str, held: Mapping[str, Tensor], sparsity: float) -> str:
    zeros = sum(int((mask == 0).sum()) for mask in held.values())
    have = zeros / sum(mask.numel() for mask in held.values())
    return (
        f"the masks are already sparser: {have:.4g} of the weights are zero, and {sparsity:.4g} is asked for"
        f" (first at {name})\n"
        "pass regrow=True to let weights come back"
    )


__all__ = ["SCOPES", "Rules"]
