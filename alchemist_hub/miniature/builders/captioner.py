"""The miniature's captioner: a vision encoder-decoder that writes the clean description of a picture."""

from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import nn
from transformers import (
    CLIPTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)

from alchemist_hub.miniature.builders.classifiers import to_pixels
from alchemist_hub.miniature.builders.pool import batches
from alchemist_hub.miniature.builders.progress import Checkpoint

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
    optimiser = torch.optim.AdamW(captioner.parameters(), lr=rate, weight_decay=0.02, fused=True)
    steps = samples // batch
    state = Checkpoint(folder, captioner, optimiser, seed=SEED)
    done = state.resume()
    order = batches(len(images), batch, seed=SEED, start=done)
    with Progress() as bars:
        bar = bars.add_task("training the captioner", total=steps, completed=done)
        for step in range(done, steps):
            chosen = next(order)
            mirrored = torch.rand((), generator=state.generator(step)) < 0.5
            pictures = images[chosen][:, :, ::-1] if mirrored else images[chosen]
            loss = captioner(pixel_values=to_pixels(pictures), labels=labels[chosen]).loss
            for group in optimiser.param_groups:
                group["lr"] = (
                    rate * min(1.0, 20 * (step + 1) / steps) * max(0.5 * (1 + np.cos(np.pi * step / steps)), 0.01)
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(captioner.parameters(), 1.0)
            optimiser.step()
            state.update_average(step, decay=0.99)
            state.log({"step": step, "loss": loss.item()})
            state.save(step + 1)
            bars.update(bar, advance=1, description=f"training the captioner, loss {loss.item():.3f}")
    state.save(steps, now=True)
    captioner.load_state_dict(state.average)
    return captioner.eval()
