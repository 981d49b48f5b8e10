"""Small random configurations of Hugging Face transformers: two layers, four heads or more, a vocabulary of 99.

Each is the class that a user would bring (a task head where there is one), with its default attention, and called with
the outputs of its tokenizer or image processor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import nn

from secateur.anatomy.calls import Call

from .entry import Entry

VOCAB, WIDTH, HEADS, LAYERS, INNER, LABELS = 99, 64, 4, 2, 128, 5
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PLAIN = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "num_labels": LABELS,
}
DECODER = PLAIN | TOKENS | {"max_position_embeddings": 64}
ENCODER = PLAIN | {"max_position_embeddings": 64, "pad_token_id": 0}
GROUPED = DECODER | {"num_attention_heads": 8, "num_key_value_heads": 4}
GEMMA = GROUPED | {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8}
SEQ2SEQ = {
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": INNER,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
    **TOKENS,
}
PIXELS = {k: v for k, v in PLAIN.items() if k != "vocab_size"} | {"image_size": 32, "patch_size": 8}
CONV = {"num_labels": LABELS}


def text() -> Call:
    """Return two sentences of twelve tokens, as from a tokenizer."""
    return Call((), {"input_ids": _tokens(), "attention_mask": torch.ones(2, 12, dtype=torch.long)})


def pairs() -> Call:
    """A source and a target sentence."""
    return Call((), {**text().kwargs, "decoder_input_ids": _tokens(8)})


def pixels(side: int = 32) -> Callable[[], Call]:
    """Two square images."""
    return lambda: Call((), {"pixel_values": torch.randn(2, 3, side, side)})


def sound() -> Call:
    """A tenth of a second at 16 kHz, twice."""
    return Call((), {"input_values": torch.randn(2, 1600)})


def spectrum() -> Call:
    """Mel features of speech and a target sentence."""
    return Call((), {"input_features": torch.randn(2, 80, 60), "decoder_input_ids": _tokens(8)})


def both() -> Call:
    """Sentences and images."""
    return Call((), {**text().kwargs, **pixels()().kwargs})


def words_and_images() -> Call:
    """Sentences and images, without a mask."""
    return Call((), {"input_ids": _tokens(), **pixels()().kwargs})


def _tokens(length: int = 12) -> torch.Tensor:
    return torch.randint(3, VOCAB, (2, length))


@dataclass(frozen=True, slots=True)
class Model:
    """A class of transformers, the options of its configuration and its example call."""

    family: str
    cls: str
    config: str
    options: Mapping[str, Any]
    call: Callable[[], Call] = text
    parts: Mapping[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Configurations within the configuration: class and options."""

    def build(self) -> nn.Module:
        """The model with random weights."""
        parts = {name: getattr(transformers, cls)(**options) for name, (cls, options) in self.parts.items()}
        config = getattr(transformers, self.config)(**self.options, **parts)
        return getattr(transformers, self.cls)(config)


def _encoder(family: str, prefix: str, options: Mapping[str, Any] = ENCODER) -> Model:
    return Model(family, f"{prefix}ForSequenceClassification", f"{prefix}Config", options)


def _decoder(family: str, prefix: str, options: Mapping[str, Any] = GROUPED, config: str | None = None) -> Model:
    return Model(family, f"{prefix}ForCausalLM", config or f"{prefix}Config", options)


def _picture(family: str, prefix: str, options: Mapping[str, Any] = PIXELS, side: int = 32) -> Model:
    return Model(family, f"{prefix}ForImageClassification", f"{prefix}Config", options, pixels(side))


_GPT2 = TOKENS | {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 64}
_T5 = TOKENS | {
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "d_kv": 16,
    "d_ff": INNER,
    "num_layers": LAYERS,
    "num_heads": HEADS,
    "decoder_start_token_id": 0,
}
_STAGES = {"embed_dim": 32, "depths": [2, 2], "num_heads": [4, 8], "window_size": 4, "image_size": 32, "patch_size": 4}
_RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "layer_type": "basic"}
_CLIP_TEXT = {k: v for k, v in DECODER.items() if k != "num_labels"}
_CLIP_VISION = {k: v for k, v in PIXELS.items() if k != "num_labels"}

MODELS = [
    _encoder("bert", "Bert"),
    _encoder("roberta", "Roberta", ENCODER | {"pad_token_id": 1}),
    _encoder(
        "distilbert",
        "DistilBert",
        {"vocab_size": VOCAB, "dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER},
    ),
    _encoder("albert", "Albert", ENCODER | {"embedding_size": 32}),
    _encoder("electra", "Electra", ENCODER | {"embedding_size": 32}),
    _encoder(
        "deberta_v2",
        "DebertaV2",
        ENCODER
        | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "share_att_key": True},
    ),
    Model("gpt2", "GPT2LMHeadModel", "GPT2Config", _GPT2),
    _decoder("gpt_neox", "GPTNeoX", DECODER),
    _decoder("opt", "OPT", DECODER | {"ffn_dim": INNER, "word_embed_proj_dim": WIDTH}),
    _decoder("llama", "Llama"),
    _decoder("mistral", "Mistral"),
    _decoder("qwen2", "Qwen2"),
    _decoder("qwen3", "Qwen3", GROUPED | {"head_dim": 16}),
    _decoder("gemma2", "Gemma2", GEMMA),
    _decoder("gemma3", "Gemma3", GEMMA, "Gemma3TextConfig"),
    _decoder("phi3", "Phi3"),
    _decoder("falcon", "Falcon", DECODER),
    _decoder(
        "bloom", "Bloom", TOKENS | {"vocab_size": VOCAB, "hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    ),
    Model("t5", "T5ForConditionalGeneration", "T5Config", _T5, pairs),
    Model("bart", "BartForConditionalGeneration", "BartConfig", SEQ2SEQ, pairs),
    Model(
        "whisper",
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        SEQ2SEQ | {"max_source_positions": 30, "max_target_positions": 20, "num_mel_bins": 80},
        spectrum,
    ),
    Model(
        "wav2vec2",
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        PLAIN
        | {
            "conv_dim": [32, 32, 32],
            "conv_stride": [5, 2, 2],
            "conv_kernel": [10, 3, 3],
            "num_feat_extract_layers": 3,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 4,
        },
        sound,
    ),
    Model(
        "clip",
        "CLIPModel",
        "CLIPConfig",
        {"projection_dim": 32},
        both,
        {"text_config": ("CLIPTextConfig", _CLIP_TEXT), "vision_config": ("CLIPVisionConfig", _CLIP_VISION)},
    ),
    Model(
        "siglip",
        "SiglipModel",
        "SiglipConfig",
        {},
        words_and_images,
        {"text_config": ("SiglipTextConfig", _CLIP_TEXT), "vision_config": ("SiglipVisionConfig", _CLIP_VISION)},
    ),
    _picture("vit", "ViT"),
    _picture("dinov2", "Dinov2"),
    _picture("swin", "Swin", CONV | _STAGES),
    Model(
        "segformer",
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        CONV
        | {"hidden_sizes": [32, 64, 64, 96], "depths": [1, 1, 1, 1], "num_attention_heads": [4, 4, 4, 4]}
        | {"decoder_hidden_size": 48},
        pixels(64),
    ),
    Model(
        "detr",
        "DetrForObjectDetection",
        "DetrConfig",
        {k: v for k, v in SEQ2SEQ.items() if k.startswith(("encoder", "decoder", "d_model"))}
        | {"num_queries": 10, "use_timm_backbone": False, "use_pretrained_backbone": False, "num_labels": LABELS},
        pixels(64),
        {"backbone_config": ("ResNetConfig", _RESNET | {"out_features": ["stage4"]})},
    ),
    _decoder("mixtral", "Mixtral", GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}),
]

ENTRIES = [Entry(f"hf:{model.family}", model.family, model.build, model.call) for model in MODELS]
