"""Tiny, real, random models of the library's own classes, built offline in a second, for the tests."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = (
    "a",
    "photo",
    "of",
    "mars",
    "the",
    "moon",
    "over",
    "sea",
    "forest",
    "at",
    "night",
    "sunset",
    "sketch",
    "detailed",
)
TOKENS = 16  # length of every tokenised prompt
SCALING = 5.0  # brings the latents of the random VAE near unit variance


def tiny_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows the letters and holds every word of `WORDS` as one token."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:  # joined from the left, one merge at a time
            merges.append(f"{parts[0]} {parts[1]}")
            parts[:2] = [parts[0] + parts[1]]
            tokens.append(parts[0])
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(
        vocab=vocab, merges=[tuple(merge.split()) for merge in dict.fromkeys(merges)], model_max_length=TOKENS
    )


def tiny_pipeline(
    folder: Path,
    *,
    prediction_type: str = "v_prediction",
    zero_terminal_snr: bool | None = None,
    unet_dtype: torch.dtype = torch.float16,
    seed: int = 0,
) -> Path:
    """Save a random StableDiffusionPipeline for 64 px into `folder` and return it.

    VAE f=8 with 4 latent channels, so 8x8 latents; UNet in `unet_dtype` on disk, the rest in float32; DDIM scheduler,
    with zero terminal SNR for v_prediction unless told otherwise (epsilon cannot have it).
    """
    if zero_terminal_snr is None:
        zero_terminal_snr = prediction_type == "v_prediction"
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=SCALING,
    )
    with torch.no_grad():
        vae.quant_conv.bias[4:] = -6.0  # log variance: as in a trained VAE, a latent is its mean and little noise
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=zero_terminal_snr,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet.to(unet_dtype),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder
