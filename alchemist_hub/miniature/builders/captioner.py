"""The miniature's captioner: a vision encoder-decoder that writes the clean description of a picture."""

from pathlib import Path

import numpy as np
import torch
from transformers import (
    CLIPTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)

from alchemist_hub.miniature.builders.classifiers import to_pixels
from alchemist_hub.miniature.builders.fit import Fitting, fit
from alchemist_hub.miniature.builders.pool import batch_at

WIDTH = 128
WORDS = 16  # tokens of a description, with its end
SEED = 41


def new_captioner(tokenizer: CLIPTokenizer) -> VisionEncoderDecoderModel:
    """Return an untrained captioner whose words are those of `tokenizer`."""
    encoder = ViTModel(
        ViTConfig(
            hidden_size=WIDTH,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=2 * WIDTH,
            image_size=64,
            patch_size=8,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    )
    decoder = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=WORDS + 8,
            n_embd=WIDTH,
            n_layer=2,
            n_head=4,
            n_inner=2 * WIDTH,
            add_cross_attention=True,
            is_decoder=True,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    captioner = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    for config in (captioner.config, captioner.generation_config):
        config.decoder_start_token_id = tokenizer.bos_token_id
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    captioner.generation_config.max_new_tokens = WORDS
    return captioner


def description_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Return the words to predict (N,WORDS): no start token, one end token, then -100, which the loss ignores."""
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=WORDS + 1, return_tensors="pt")
    return ids.input_ids[:, 1:].masked_fill(ids.attention_mask[:, 1:] == 0, -100)


def train_captioner(
    folder: Path,
    tokenizer: CLIPTokenizer,
    images: np.ndarray,
    texts: list[str],
    *,
    samples: int,
    batch: int = 64,
    rate: float = 1e-3,
) -> VisionEncoderDecoderModel:
    """Fit the captioner to uint8 images (N,64,64,3) and their descriptions; return it with averaged weights."""
    torch.manual_seed(SEED)
    captioner = new_captioner(tokenizer).train()
    labels = description_ids(tokenizer, texts)

    def loss_at(step: int, generator: torch.Generator) -> torch.Tensor:
        chosen = batch_at(step, len(images), batch, seed=SEED)
        mirrored = torch.rand((), generator=generator) < 0.5
        pictures = images[chosen][:, :, ::-1] if mirrored else images[chosen]
        return captioner(pixel_values=to_pixels(pictures), labels=labels[chosen]).loss

    fit(
        folder,
        captioner,
        Fitting(title="training the captioner", steps=samples // batch, rate=rate, seed=SEED),
        loss_at,
    )
    return captioner.eval()
