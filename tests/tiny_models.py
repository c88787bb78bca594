"""Tiny, real, random models of the library's own classes, built offline in a second, for the tests."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

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
    text_encoder = CLIPTextModel(_clip_config(tokenizer, width=16))
    vae = _tiny_vae(channels=4)
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


def tiny_xl_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Save a random StableDiffusionXLPipeline for 64 px into `folder` and return it: two text encoders, epsilon."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        cross_attention_dim=16 + 24,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 24,
        norm_num_groups=8,
    )
    StableDiffusionXLPipeline(
        vae=_tiny_vae(channels=4),
        text_encoder=CLIPTextModel(_clip_config(tokenizer, width=16)),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config(tokenizer, width=24)),
        tokenizer=tokenizer,
        tokenizer_2=tiny_tokenizer(),
        unet=unet,
        scheduler=EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def tiny_sd3_pipeline(folder: Path, *, t5: bool = True, dual: bool = True, seed: int = 0) -> Path:
    """Save a random StableDiffusion3Pipeline for 64 px into `folder` and return it, with or without its T5.

    As in SD3.5: q and k normalised, no output for the text in the last block; 16 latent channels, shifted; a schedule
    with shift 3. `dual`: as in Medium, attention of the picture to itself beside the joint one in the first block.
    """
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=48,
        caption_projection_dim=32,
        pooled_projection_dim=16 + 24,
        pos_embed_max_size=8,
        dual_attention_layers=(0,) if dual else (),
        qk_norm="rms_norm",
    )
    with torch.no_grad():  # blocks are born closed: gates and norms opened, so that each one changes what follows
        for parameter in transformer.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    tokenizer_3 = _tiny_t5_tokenizer()
    text_encoder_3 = T5EncoderModel(
        T5Config(vocab_size=len(tokenizer_3), d_model=48, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    StableDiffusion3Pipeline(
        vae=_tiny_vae(channels=16, shift_factor=0.06),
        text_encoder=CLIPTextModelWithProjection(_clip_config(tokenizer, width=16)),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config(tokenizer, width=24)),
        text_encoder_3=text_encoder_3 if t5 else None,
        tokenizer=tokenizer,
        tokenizer_2=tiny_tokenizer(),
        tokenizer_3=tokenizer_3 if t5 else None,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)
    return folder


def tiny_flux_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Save a random FluxPipeline for 128 px into `folder` and return it: guidance is told to the transformer.

    Its size is 128 latents a side whatever the model, so the VAE does not shrink.
    """
    torch.manual_seed(seed)
    tokenizer, tokenizer_2 = tiny_tokenizer(), _tiny_t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=16,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    vae = AutoencoderKL(
        block_out_channels=(4,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        latent_channels=16,
        norm_num_groups=2,
        shift_factor=0.06,
        mid_block_add_attention=False,
    )
    FluxPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(_clip_config(tokenizer, width=16)),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(tokenizer_2), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
        ),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)
    return folder


def tiny_base(key: str, folder: Path) -> Path:
    """Save a tiny pipeline of the architecture and the objective of a model key into `folder` and return it."""
    if key == "sd15":
        return tiny_pipeline(folder, prediction_type="epsilon", unet_dtype=torch.float32)
    if key == "sd21":
        return tiny_pipeline(folder, zero_terminal_snr=False, unet_dtype=torch.float32)
    if key == "sdxl":
        return tiny_xl_pipeline(folder)
    return tiny_sd3_pipeline(folder, dual=key == "sd35m")


def _tiny_t5_tokenizer() -> T5Tokenizer:
    """A T5 tokenizer that knows the letters and holds every word of `WORDS` as one token."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("\u2581", -2.0)]
    letters = [(chr(code), -9.0) for code in range(ord("a"), ord("z") + 1)]
    return T5Tokenizer(vocab=[*special, *((f"\u2581{word}", -1.0) for word in WORDS), *letters], extra_ids=0)


def _clip_config(tokenizer: CLIPTokenizer, *, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        projection_dim=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _tiny_vae(*, channels: int, shift_factor: float | None = None) -> AutoencoderKL:
    """A VAE of f=8 with `channels` latent channels."""
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=SCALING,
        shift_factor=shift_factor,
    )
    with torch.no_grad():
        vae.quant_conv.bias[channels:] = -6.0  # log variance: a latent is its mean and little noise, as when trained
    return vae
