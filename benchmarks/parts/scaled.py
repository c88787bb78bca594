"""SD1.5 made small enough for a processor: its blocks at a seventh of their widths, its shares of the work kept.

The denoiser has SD1.5's four levels and three attention levels at 0.15 of the widths; the VAE has its four levels (f=8)
at the width that gives encoding SD1.5's share of the floating-point operations of a training step; text encoder and
tokenizer are the shipped miniature's. All weights but the text encoder's are random: speed does not depend on them.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from alchemist_hub import miniature
from benchmarks.parts.trainers import SIZE


def sd15(*, size: int, width: int, vae_width: int, text: CLIPTextConfig) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Return SD1.5's denoiser, VAE and text encoder for `size` px, the first two with these widths at the top."""
    full = width == 320
    unet = UNet2DConditionModel(
        sample_size=size // 8,
        block_out_channels=tuple(width * by for by in (1, 2, 4, 4)),
        cross_attention_dim=text.hidden_size,
        attention_head_dim=8 if full else 2,  # heads, whatever the name says: fewer, so that each stays 24 or wider
        norm_num_groups=32 if full else 16,
    )
    vae = AutoencoderKL(
        block_out_channels=tuple(vae_width * by for by in (1, 2, 4, 4)),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=32 if vae_width == 128 else 6,
        sample_size=size,
    )
    return unet, vae, CLIPTextModel(text)


def small(text: CLIPTextConfig) -> tuple[nn.Module, nn.Module, nn.Module]:
    return sd15(size=SIZE, width=48, vae_width=18, text=text)


def save_pipeline(folder: Path, pictures_BHWC: np.ndarray, *, seed: int = 0) -> int:
    """Save the small pipeline, epsilon objective, into `folder`; return the denoiser's parameters.

    The VAE's latents of `pictures_BHWC` (uint8, SIZE px) get unit variance, and its posterior is nearly a point, as
    when it is trained.
    """
    torch.manual_seed(seed)
    shipped = miniature.weights() / "base"
    text = CLIPTextModel.from_pretrained(shipped, subfolder="text_encoder")
    unet, vae, _ = small(text.config)
    with torch.no_grad():
        vae.quant_conv.bias[vae.config.latent_channels :] = -6.0  # log variance
        pixels = torch.from_numpy(pictures_BHWC).permute(0, 3, 1, 2) / 127.5 - 1
        vae.register_to_config(scaling_factor=1 / vae.encode(pixels).latent_dist.mode().std().item())
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(shipped, subfolder="tokenizer"),
        unet=unet,
        scheduler=DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return sum(weight.numel() for weight in unet.parameters())


def encoding_shares() -> dict[str, float]:
    """Return what encoding adds to the denoiser's forward and backward, in operations: SD1.5, the small one."""
    clip = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    own = CLIPTextConfig.from_pretrained(miniature.weights() / "base", subfolder="text_encoder")
    with torch.device("meta"):
        return {
            "SD1.5 at 512 px": _share(*sd15(size=512, width=320, vae_width=128, text=clip)),
            f"the small one at {SIZE} px": _share(*small(own)),
        }


def _share(unet: nn.Module, vae: nn.Module, text: nn.Module) -> float:
    tokens, side, pixels = text.config.max_position_embeddings, unet.config.sample_size, vae.config.sample_size
    text_BLD = torch.zeros(1, tokens, text.config.hidden_size)
    step = _operations(lambda: unet(torch.zeros(1, 4, side, side), torch.zeros(1), text_BLD).sample.sum().backward())
    with torch.no_grad():
        encoding = _operations(lambda: vae.encode(torch.zeros(1, 3, pixels, pixels)))
        encoding += _operations(lambda: text(torch.zeros(1, tokens, dtype=torch.long)))
    return encoding / step


def _operations(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()
