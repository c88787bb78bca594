"""The miniature's text-to-image base: UNet and text encoder trained together on the raw pool.

Shapes: latents Z (B,C,8,8), token ids (B,24), text states (B,24,128). Objective: v-prediction with zero terminal SNR.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from alchemist_hub.miniature.builders.fit import Fitting, fit
from alchemist_hub.miniature.builders.pool import batch_at
from alchemist_hub.miniature.builders.tokenizer import LENGTH
from alchemist_hub.miniature.builders.vae import PatchCode, encode_patches

TEXT_WIDTH = 128
CAPTION_DROPOUT = 0.10
MISSPELT = 0.04  # captions that carry a word nobody knows, so that unknown letters mean nothing
LAST_STEP = 0.03  # of the noise levels are the last one, where sampling starts
UNIFORM = 0.35  # are uniform; the rest is logit-normal
LEVEL_SHIFT = 0.3  # towards noise: coarse latents are stronger than fine ones, so shapes are decided there
EMA_DECAY = 0.999


def new_unet(channels: int) -> UNet2DConditionModel:
    """Return the denoiser: two levels (8x8 and 4x4), cross-attention at both and between."""
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(96, 192),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        attention_head_dim=(4, 6),  # number of heads: the library's historical name
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )
    unet.set_attn_processor(AttnProcessor())
    return unet


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return the text encoder: two layers."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=TEXT_WIDTH,
    )
    return CLIPTextModel(config)


def new_scheduler() -> DDIMScheduler:
    """Return the scheduler that states the objective."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def draw_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw noise levels (B,) in 0..999: mostly from where pictures take shape."""
    level = torch.sigmoid(torch.randn(count, generator=generator) + LEVEL_SHIFT)
    level = torch.where(torch.rand(count, generator=generator) < UNIFORM, torch.rand(count, generator=generator), level)
    level = torch.where(torch.rand(count, generator=generator) < LAST_STEP, torch.ones(()), level)
    return (level * 1000).long().clamp(max=999)


def tokenise(tokenizer: CLIPTokenizer, captions: list[str], *, seed: int) -> torch.Tensor:
    """Return token ids (N,24); a few captions get a misspelt word."""
    rng = np.random.default_rng((seed, 0x7E))
    letters = list("abcdefghijklmnopqrstuvwxyz")
    texts = [
        f"{text} {''.join(rng.choice(letters, rng.integers(3, 8)))}" if rng.random() < MISSPELT else text
        for text in captions
    ]
    return tokenizer(texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt").input_ids


def train_base(
    checkpoint_folder: Path,
    images: np.ndarray,
    token_ids: torch.Tensor,
    empty_ids: torch.Tensor,
    code: PatchCode,
    tokenizer: CLIPTokenizer,
    *,
    samples: int,
    batch: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Train on uint8 `images` (N,64,64,3) and `token_ids` (N,24) for `samples` views; return the averaged models.

    Resumes from `checkpoint_folder`. Half of the views are mirrored; `empty_ids` (1,24) replace dropped captions.
    """
    torch.manual_seed(seed)
    scheduler = new_scheduler()
    models = nn.ModuleDict({"unet": new_unet(code.basis.shape[1]), "text": new_text_encoder(tokenizer)})
    unet, text = models["unet"], models["text"]

    def loss_at(step: int, generator: torch.Generator) -> torch.Tensor:
        chosen = batch_at(step, len(images), batch, seed=seed)
        mirrored = torch.rand(batch, generator=generator).numpy() < 0.5
        pictures = np.where(mirrored[:, None, None, None], images[chosen][:, :, ::-1], images[chosen])
        latents_BCHW = encode_patches(code, pictures)
        dropped = torch.rand(batch, generator=generator) < CAPTION_DROPOUT
        ids = torch.where(dropped[:, None], empty_ids, token_ids[torch.from_numpy(chosen)])
        noise = torch.randn(latents_BCHW.shape, generator=generator)
        t_B = draw_timesteps(batch, generator)
        noisy = scheduler.add_noise(latents_BCHW, noise, t_B)
        prediction = unet(noisy, t_B, text(ids).last_hidden_state).sample
        return F.mse_loss(prediction, scheduler.get_velocity(latents_BCHW, noise, t_B))

    fitting = Fitting(
        title="training the base",
        steps=samples // batch,
        rate=learning_rate,
        seed=seed,
        decay=EMA_DECAY,
        weight_decay=0.01,
    )
    fit(checkpoint_folder, models, fitting, loss_at)
    return unet.eval(), text.eval()


def assemble(
    vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """Put the parts together as the pipeline people know, without a safety checker (the funnel has its own)."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
