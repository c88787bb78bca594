"""The denoisers of the model keys as their public configurations describe them, and what they are fed with.

Enough to build each of them without its weights: on the meta device for planning, on a real one, with random weights,
for measuring. The five configurations are those of the base repositories' unet/ and transformer/ folders.

Shapes: B batch, C latent channels, h w latent height and width, L tokens, D width, P pooled width.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin, SD3Transformer2DModel, UNet2DConditionModel

from alchemist_hub.miniature import weights
from alchemist_hub.models import model

_CROSS_DOWN, _CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
_TIME_IDS = 6  # original height and width, crop top and left, shown height and width


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One denoiser: its class, its configuration, how many text tokens it sees, how many pixels a latent spans."""

    network: type[ModelMixin]
    config: dict[str, Any] = field(repr=False)
    tokens: int
    factor: int = 8  # of the VAE


_ARCHITECTURES = {
    "sd15": Architecture(
        network=UNet2DConditionModel,
        config={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        tokens=77,
    ),
    "sd21": Architecture(
        network=UNet2DConditionModel,
        config={
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        tokens=77,
    ),
    "sdxl": Architecture(
        network=UNet2DConditionModel,
        config={
            "sample_size": 128,
            "cross_attention_dim": 2048,
            "attention_head_dim": [5, 10, 20],
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", _CROSS_DOWN, _CROSS_DOWN],
            "up_block_types": [_CROSS_UP, _CROSS_UP, "UpBlock2D"],
            "transformer_layers_per_block": [1, 2, 10],
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1280 + _TIME_IDS * 256,
        },
        tokens=77,
    ),
    "sd35m": Architecture(
        network=SD3Transformer2DModel,
        config={
            "sample_size": 128,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 384,
            "dual_attention_layers": list(range(13)),
            "qk_norm": "rms_norm",
        },
        tokens=77 + 256,  # both CLIPs side by side, then T5
    ),
    "sd35l": Architecture(
        network=SD3Transformer2DModel,
        config={
            "sample_size": 128,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 38,
            "num_attention_heads": 38,
            "caption_projection_dim": 2432,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 192,
            "qk_norm": "rms_norm",
        },
        tokens=77 + 256,
    ),
}


def architecture(key: str) -> Architecture:
    """Return the architecture of a model key; raises `ModelError` for a key that does not exist."""
    model(key)
    return _ARCHITECTURES[key] if key in _ARCHITECTURES else _shipped(weights() / "base")


def new_denoiser(key: str) -> ModelMixin:
    """Return the denoiser of a model key with random weights in float32, on whichever torch device is active."""
    described = architecture(key)
    return described.network.from_config(described.config)


def inputs(
    denoiser: ModelMixin, *, size: tuple[int, int], batch: int, tokens: int, dtype: torch.dtype
) -> dict[str, Any]:
    """Return one call's arguments, empty, on the denoiser's device; `size` is (h, w) in latents."""
    config, place = denoiser.config, {"device": denoiser.device, "dtype": dtype}
    timestep_B = torch.empty(batch, device=denoiser.device)
    latents_BChw = torch.empty(batch, config.in_channels, *size, **place)
    if isinstance(denoiser, SD3Transformer2DModel):
        return {
            "hidden_states": latents_BChw,
            "timestep": timestep_B,
            "encoder_hidden_states": torch.empty(batch, tokens, config.joint_attention_dim, **place),
            "pooled_projections": torch.empty(batch, config.pooled_projection_dim, **place),
        }
    text_BLD = torch.empty(batch, tokens, config.cross_attention_dim, **place)
    fed = {"sample": latents_BChw, "timestep": timestep_B, "encoder_hidden_states": text_BLD}
    if config.addition_embed_type == "text_time":
        pooled = config.projection_class_embeddings_input_dim - _TIME_IDS * config.addition_time_embed_dim
        ids_B6 = torch.empty(batch, _TIME_IDS, device=denoiser.device)
        fed["added_cond_kwargs"] = {"text_embeds": torch.empty(batch, pooled, **place), "time_ids": ids_B6}
    return fed


def _shipped(base: Path) -> Architecture:
    """The architecture of the miniature, read from the folder that is shipped."""
    tokenizer = json.loads((base / "tokenizer" / "tokenizer_config.json").read_text())
    blocks = json.loads((base / "vae" / "config.json").read_text())["block_out_channels"]
    return Architecture(
        network=UNet2DConditionModel,
        config=json.loads((base / "unet" / "config.json").read_text()),
        tokens=tokenizer["model_max_length"],
        factor=2 ** (len(blocks) - 1),
    )
