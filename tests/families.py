"""Hugging Face families in small: those of the coverage survey, made four layers deep, and further ones.

    model, call = FAMILIES["llama"].build(), FAMILIES["llama"].call()

Weights are random and seeded, the model is in evaluation mode, and nothing is downloaded.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from zoo.hf_models import DECODER, ENCODER, GROUPED, MODELS, PIXELS, TOKENS, Model, pixels

DEPTH = 4
COUNTS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "encoder_layers", "decoder_layers")
EMBEDDED = TOKENS | {"vocab_size": 99, "n_embd": 64, "n_layer": DEPTH, "n_head": 4, "n_positions": 64}

GPT_NEO = {"num_layers": DEPTH, "num_heads": 4, "window_size": 6}
MODERN = {"local_attention": 8, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
STAGES = {"num_labels": 5, "hidden_sizes": [16, 32], "depths": [2, 3]}

FURTHER = [
    Model("phi", "PhiForCausalLM", "PhiConfig", GROUPED),
    Model("starcoder2", "Starcoder2ForCausalLM", "Starcoder2Config", GROUPED),
    Model("cohere", "CohereForCausalLM", "CohereConfig", GROUPED),
    Model("olmo2", "Olmo2ForCausalLM", "Olmo2Config", GROUPED),
    Model("granite", "GraniteForCausalLM", "GraniteConfig", GROUPED),
    Model("stablelm", "StableLmForCausalLM", "StableLmConfig", GROUPED),
    Model("gpt_bigcode", "GPTBigCodeForCausalLM", "GPTBigCodeConfig", EMBEDDED),
    Model("gptj", "GPTJForCausalLM", "GPTJConfig", EMBEDDED | {"rotary_dim": 8}),
    Model(
        "gpt_neo",
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        DECODER | GPT_NEO | {"attention_types": [[["global", "local"], DEPTH // 2]]},
    ),
    Model("camembert", "CamembertForTokenClassification", "CamembertConfig", ENCODER | {"pad_token_id": 1}),
    Model("mpnet", "MPNetForSequenceClassification", "MPNetConfig", ENCODER),
    Model("modernbert", "ModernBertForSequenceClassification", "ModernBertConfig", ENCODER | MODERN),
    Model("deit", "DeiTForImageClassification", "DeiTConfig", PIXELS, pixels()),
    Model("beit", "BeitForImageClassification", "BeitConfig", PIXELS, pixels()),
    Model("convnext", "ConvNextForImageClassification", "ConvNextConfig", STAGES | {"num_stages": 2}, pixels(64)),
    Model("resnet", "ResNetForImageClassification", "ResNetConfig", STAGES | {"layer_type": "basic"}, pixels(64)),
]


def _deeper(model: Model) -> Model:
    """The same with as many layers as a depth cut can choose from."""
    parts = {name: (cls, _options(options)) for name, (cls, options) in model.parts.items()}
    return replace(model, options=_options(model.options), parts=parts)


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    stages = {"depths": [2, 3]} if options.get("depths") == [2, 2] else {}  # of Swin; others have stages of one block
    return {**options, **{name: DEPTH for name in COUNTS if name in options}, **stages}


class Family:
    """One architecture: a model with seeded random weights, and the call that its user would give."""

    def __init__(self, model: Model):
        self.name = model.family
        self._model = _deeper(model)

    def build(self, spread: float | None = 0.2) -> nn.Module:
        """The model. Matrices are drawn with this spread, as a fresh model's hardly move its outputs."""
        torch.manual_seed(0)
        model = self._model.build().eval()
        for parameter in model.parameters() if spread is not None else ():
            if parameter.dim() > 1:
                parameter.data.normal_(std=spread)
        return model

    def call(self) -> Any:
        """Positional and keyword arguments, as `secateur.anatomy.calls.Call`."""
        torch.manual_seed(1)
        return self._model.call()


FAMILIES: dict[str, Family] = {model.family: Family(model) for model in [*MODELS, *FURTHER]}
