"""Models of diffusers in small, with random weights: what their classes are built with, and what they are called with.

    model, call = MODELS["unet2d"].build(), MODELS["unet2d"].call()

Parameters that constructors leave at zero, such as the last layers of a ControlNet, are random too: with zeros there,
no cut could be told from another. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

Sizes = tuple[int, ...]
STEP = torch.tensor([7])
SHARE = torch.tensor([0.5])


@dataclass(frozen=True)
class Model:
    """A class of diffusers by name, the arguments of its constructor, and its inputs: tensors, or sizes of random
    ones."""

    kind: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Any]

    def build(self, seed: int = 0) -> Any:
        import diffusers

        torch.manual_seed(seed)
        model = getattr(diffusers, self.kind)(**self.config).eval()
        for parameter in model.parameters():
            if parameter.dim() == 1 or not parameter.any():
                parameter.data += 0.1 * torch.randn(parameter.shape)
        return model

    def call(self) -> dict[str, Any]:
        torch.manual_seed(1)
        return _filled(self.inputs)


def _filled(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in inputs.items()}


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _filled(value)
    return torch.randn(value) if isinstance(value, tuple) else value


IMAGE = {"in_channels": 3, "out_channels": 3}
LATENT = {"in_channels": 4, "out_channels": 4}
SMALL = {"block_out_channels": (32, 64), "norm_num_groups": 8, "layers_per_block": 1}
UNET = {**SMALL, "sample_size": 16, "attention_head_dim": 8}
CODER = {
    **(SMALL | IMAGE),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
CROSSED = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 24,
}
ATTENDED = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
LARGE = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 24,
    "transformer_layers_per_block": (1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
    "attention_head_dim": (4, 8),
}
HEADS = {"num_attention_heads": 4, "attention_head_dim": 8}
PATCHES = {**HEADS, **LATENT, "num_layers": 2, "sample_size": 8, "patch_size": 2}
TEXT: dict[str, Any] = {"timestep": STEP, "encoder_hidden_states": (1, 7, 24)}
WORDS: dict[str, Any] = {"timestep": STEP, "encoder_hidden_states": (1, 7, 16)}
GRID = {"hidden_states": (1, 4, 8, 8)}

MODELS: dict[str, Model] = {
    "unet2d": Model("UNet2DModel", UNET | IMAGE | ATTENDED, {"sample": (1, 3, 16, 16), "timestep": STEP}),
    "unet2d, 32 groups": Model(
        "UNet2DModel",
        UNET | IMAGE | ATTENDED | {"block_out_channels": (64, 128), "norm_num_groups": 32},
        {"sample": (1, 3, 16, 16), "timestep": STEP},
    ),
    "unet2d condition": Model(
        "UNet2DConditionModel",
        UNET | LATENT | CROSSED | {"attention_head_dim": 4},
        {"sample": (1, 4, 16, 16), **TEXT},
    ),
    "unet2d condition, xl": Model(
        "UNet2DConditionModel",
        UNET | LATENT | LARGE,
        {
            "sample": (1, 4, 16, 16),
            **TEXT,
            "added_cond_kwargs": {"text_embeds": (1, 16), "time_ids": torch.arange(6.0)[None]},
        },
    ),
    "controlnet": Model(
        "ControlNetModel",
        SMALL
        | {"in_channels": 4, "attention_head_dim": 4, "conditioning_embedding_out_channels": (8, 16)}
        | {name: CROSSED[name] for name in ("down_block_types", "cross_attention_dim")},
        {"sample": (1, 4, 16, 16), **TEXT, "controlnet_cond": (1, 3, 32, 32)},
    ),
    "unet1d": Model(
        "UNet1DModel",
        {
            "in_channels": 14,
            "out_channels": 14,
            "block_out_channels": (32, 32, 64),
            "extra_in_channels": 0,
            "time_embedding_type": "positional",
            "use_timestep_embedding": True,
            "flip_sin_to_cos": False,
            "freq_shift": 1.0,
            "act_fn": "swish",
            "out_block_type": "OutConv1DBlock",
            "mid_block_type": "MidResTemporalBlock1D",
            "down_block_types": ("DownResnetBlock1D",) * 3,
            "up_block_types": ("UpResnetBlock1D",) * 2,
        },
        {"sample": (1, 14, 16), "timestep": STEP},
    ),
    "unet, video": Model(
        "UNetSpatioTemporalConditionModel",
        {
            "sample_size": 16,
            "in_channels": 8,
            "out_channels": 4,
            "block_out_channels": (32, 64),
            "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            "cross_attention_dim": 24,
            "num_attention_heads": (2, 4),
            "layers_per_block": 1,
            "projection_class_embeddings_input_dim": 24,
            "addition_time_embed_dim": 8,
        },
        {
            "sample": (1, 2, 8, 16, 16),
            "timestep": STEP,
            "encoder_hidden_states": (1, 1, 24),
            "added_time_ids": torch.arange(3.0)[None],
        },
    ),
    "autoencoder kl": Model("AutoencoderKL", CODER | {"latent_channels": 4}, {"sample": (1, 3, 32, 32)}),
    "vq": Model("VQModel", CODER | {"latent_channels": 3, "num_vq_embeddings": 32}, {"sample": (1, 3, 32, 32)}),
    "autoencoder tiny": Model(
        "AutoencoderTiny",
        {
            "encoder_block_out_channels": (16, 16),
            "decoder_block_out_channels": (16, 16),
            "latent_channels": 4,
            "num_encoder_blocks": (1, 2),
            "num_decoder_blocks": (2, 1),
        },
        {"sample": (1, 3, 32, 32)},
    ),
    "autoencoder dc": Model(
        "AutoencoderDC",
        {
            "in_channels": 3,
            "latent_channels": 4,
            "attention_head_dim": 8,
            "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "encoder_block_out_channels": (16, 32),
            "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
            "decoder_block_out_channels": (16, 32),
            "encoder_qkv_multiscales": ((), (5,)),
            "decoder_qkv_multiscales": ((), (5,)),
            "encoder_layers_per_block": (1, 1),
            "decoder_layers_per_block": (1, 1),
            "downsample_block_type": "conv",
            "upsample_block_type": "interpolate",
            "decoder_norm_types": "rms_norm",
            "decoder_act_fns": "silu",
        },
        {"sample": (1, 3, 16, 16)},
    ),
    "autoencoder wan": Model(
        "AutoencoderKLWan",
        {
            "base_dim": 8,
            "z_dim": 4,
            "dim_mult": [1, 1, 2, 2],
            "num_res_blocks": 1,
            "temperal_downsample": [False, True, True],
            "latents_mean": [0.0] * 4,
            "latents_std": [1.0] * 4,
        },
        {"sample": (1, 3, 5, 16, 16)},
    ),
    "dit": Model(
        "DiTTransformer2DModel",
        PATCHES | {"out_channels": 8, "num_embeds_ada_norm": 10},
        {**GRID, "timestep": STEP, "class_labels": torch.tensor([3])},
    ),
    "sd3": Model(
        "SD3Transformer2DModel",
        PATCHES
        | {"joint_attention_dim": 24, "caption_projection_dim": 32, "pooled_projection_dim": 20}
        | {"pos_embed_max_size": 16},
        {**GRID, **TEXT, "pooled_projections": (1, 20)},
    ),
    "flux": Model(
        "FluxTransformer2DModel",
        {
            "patch_size": 1,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "num_attention_heads": 2,
            "attention_head_dim": 16,
            "joint_attention_dim": 24,
            "pooled_projection_dim": 20,
            "axes_dims_rope": (4, 4, 8),
        },
        {
            "hidden_states": (1, 16, 4),
            **TEXT,
            "timestep": SHARE,
            "pooled_projections": (1, 20),
            "img_ids": torch.zeros(16, 3),
            "txt_ids": torch.zeros(7, 3),
        },
    ),
    "pixart": Model(
        "PixArtTransformer2DModel",
        PATCHES
        | {"out_channels": 8, "cross_attention_dim": 32, "caption_channels": 24, "use_additional_conditions": False},
        {**GRID, **TEXT, "added_cond_kwargs": {"resolution": None, "aspect_ratio": None}},
    ),
    "auraflow": Model(
        "AuraFlowTransformer2DModel",
        HEADS
        | LATENT
        | {"sample_size": 8, "patch_size": 2, "num_mmdit_layers": 1, "num_single_dit_layers": 1}
        | {"caption_projection_dim": 32, "joint_attention_dim": 24, "pos_embed_max_size": 64},
        {**GRID, **TEXT},
    ),
    "lumina": Model(
        "Lumina2Transformer2DModel",
        {
            "sample_size": 8,
            "patch_size": 2,
            "in_channels": 4,
            "hidden_size": 32,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "multiple_of": 16,
            "scaling_factor": 1.0,
            "axes_dim_rope": (4, 2, 2),
            "axes_lens": (32, 32, 32),
            "cap_feat_dim": 24,
        },
        {**GRID, **TEXT, "timestep": SHARE, "encoder_attention_mask": torch.ones(1, 7, dtype=torch.bool)},
    ),
    "sana": Model(
        "SanaTransformer2DModel",
        HEADS
        | LATENT
        | {"patch_size": 1, "num_layers": 1, "num_cross_attention_heads": 4, "cross_attention_head_dim": 8}
        | {"cross_attention_dim": 32, "caption_channels": 16, "sample_size": 8},
        {**GRID, **WORDS},
    ),
    "qwen image": Model(
        "QwenImageTransformer2DModel",
        {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 4,
            "num_layers": 2,
            "num_attention_heads": 3,
            "attention_head_dim": 16,
            "joint_attention_dim": 16,
            "axes_dims_rope": (8, 4, 4),
        },
        {
            "hidden_states": (1, 16, 16),
            **WORDS,
            "timestep": SHARE,
            "img_shapes": [(1, 4, 4)],
            "encoder_hidden_states_mask": torch.ones(1, 7, dtype=torch.long),
        },
    ),
    "wan": Model(
        "WanTransformer3DModel",
        LATENT
        | {"patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 16}
        | {"freq_dim": 64, "ffn_dim": 32, "num_layers": 2, "cross_attn_norm": True, "rope_max_seq_len": 32}
        | {"qk_norm": "rms_norm_across_heads"},
        {"hidden_states": (1, 4, 2, 8, 8), **WORDS},
    ),
    "ltx": Model(
        "LTXVideoTransformer3DModel",
        HEADS
        | LATENT
        | {"cross_attention_dim": 32, "num_layers": 2, "caption_channels": 16, "qk_norm": "rms_norm_across_heads"},
        {
            "hidden_states": (1, 16, 4),
            **WORDS,
            "encoder_attention_mask": torch.ones(1, 7),
            "num_frames": 1,
            "height": 4,
            "width": 4,
        },
    ),
    "cogvideox": Model(
        "CogVideoXTransformer3DModel",
        HEADS
        | LATENT
        | {"time_embed_dim": 8, "text_embed_dim": 16, "num_layers": 2, "sample_width": 8, "sample_height": 8}
        | {"sample_frames": 9, "patch_size": 2, "temporal_compression_ratio": 4, "max_text_seq_length": 7},
        {"hidden_states": (1, 3, 4, 8, 8), **WORDS},
    ),
    "hunyuan video": Model(
        "HunyuanVideoTransformer3DModel",
        LATENT
        | {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1, "num_single_layers": 1}
        | {"num_refiner_layers": 1, "patch_size": 1, "patch_size_t": 1, "guidance_embeds": True}
        | {"text_embed_dim": 16, "pooled_projection_dim": 8, "rope_axes_dim": (4, 4, 4)},
        {
            "hidden_states": (1, 4, 1, 6, 6),
            **WORDS,
            "pooled_projections": (1, 8),
            "encoder_attention_mask": torch.ones(1, 7),
            "guidance": torch.tensor([1000.0]),
        },
    ),
    "mochi": Model(
        "MochiTransformer3DModel",
        {
            "patch_size": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": 2,
            "pooled_projection_dim": 16,
            "in_channels": 4,
            "text_embed_dim": 16,
            "time_embed_dim": 8,
            "activation_fn": "swiglu",
            "max_sequence_length": 16,
        },
        {
            "hidden_states": (1, 4, 2, 8, 8),
            **WORDS,
            "encoder_attention_mask": torch.ones(1, 7, dtype=torch.bool),
        },
    ),
    "stable cascade": Model(
        "StableCascadeUNet",
        LATENT
        | {"patch_size": 1, "timestep_ratio_embedding_dim": 8, "conditioning_dim": 32, "block_out_channels": (32, 64)}
        | {"num_attention_heads": (4, 8), "clip_text_in_channels": 16, "clip_text_pooled_in_channels": 16}
        | {"down_num_layers_per_block": (1, 1), "up_num_layers_per_block": (1, 1), "clip_image_in_channels": 16}
        | {"down_blocks_repeat_mappers": (1, 1), "up_blocks_repeat_mappers": (1, 1), "clip_seq": 2}
        | {"block_types_per_layer": (("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),) * 2}
        | {"switch_level": (False,)},
        {
            "sample": (1, 4, 8, 8),
            "timestep_ratio": SHARE,
            "clip_text_pooled": (1, 1, 16),
            "clip_text": (1, 5, 16),
            "clip_img": (1, 1, 16),
        },
    ),
    "transformer 2d": Model(
        "Transformer2DModel",
        HEADS | {"in_channels": 32, "num_layers": 1, "norm_num_groups": 8, "cross_attention_dim": 24},
        {"hidden_states": (1, 32, 8, 8), "encoder_hidden_states": (1, 7, 24)},
    ),
    "prior": Model(
        "PriorTransformer",
        HEADS | {"num_layers": 2, "embedding_dim": 16, "num_embeddings": 7, "additional_embeddings": 4},
        {"hidden_states": (1, 16), "proj_embedding": (1, 16), **WORDS},
    ),
}
