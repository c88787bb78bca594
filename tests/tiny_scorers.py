"""Tiny, random networks of the classes that scorers read, and states under their authors' own names."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_models import TOKENS, tiny_tokenizer
from transformers import (
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
)

WIDTH, HEADS, SIDE, PATCH, EMBEDDING = 16, 2, 32, 8, 12
HEAD_WIDTH = WIDTH // HEADS
State = dict[str, torch.Tensor]


def tiny_clip(folder: Path, *, seed: int = 0) -> Path:
    """Save a random CLIPModel for 32 px with its tokenizer into `folder` and return it."""
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    text = sizes | {"vocab_size": len(tokenizer), "max_position_embeddings": TOKENS}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vision = sizes | {"image_size": SIDE, "patch_size": PATCH}
    network = CLIPModel(CLIPConfig(text_config=text | ends, vision_config=vision, projection_dim=EMBEDDING))
    with torch.no_grad():
        network.logit_scale.fill_(1.5)
        for parameter in network.parameters():  # CLIP is born nearly constant
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_dinov2(folder: Path, *, seed: int = 0) -> Path:
    """Save a random Dinov2Model into `folder` and return it; made for 280 px, as the published one is for 518."""
    torch.manual_seed(seed)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=280, patch_size=56)
    network = Dinov2Model(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return folder


def open_clip_state(vocabulary: int, *, layers: int = 2, seed: int = 0) -> State:
    """Return the random state of a small open_clip ViT, by its own names and shapes."""
    torch.manual_seed(seed)
    state = {
        "visual.class_embedding": torch.randn(WIDTH),
        "visual.positional_embedding": torch.randn((SIDE // PATCH) ** 2 + 1, WIDTH),
        "visual.conv1.weight": 0.1 * torch.randn(WIDTH, 3, PATCH, PATCH),
        "visual.proj": torch.randn(WIDTH, EMBEDDING),
        "positional_embedding": torch.randn(TOKENS, WIDTH),
        "token_embedding.weight": torch.randn(vocabulary, WIDTH),
        "text_projection": torch.randn(WIDTH, EMBEDDING),
        "logit_scale": torch.tensor(1.5),
        "attn_mask": torch.zeros(TOKENS, TOKENS),
    }
    for name in ("visual.ln_pre", "visual.ln_post", "ln_final"):
        state |= _norm(name, WIDTH)
    for tower in ("visual.transformer", "transformer"):
        for layer in range(layers):
            block = f"{tower}.resblocks.{layer}"
            state |= _norm(f"{block}.ln_1", WIDTH) | _norm(f"{block}.ln_2", WIDTH)
            state |= {
                f"{block}.attn.in_proj_weight": 0.3 * torch.randn(3 * WIDTH, WIDTH),
                f"{block}.attn.in_proj_bias": 0.3 * torch.randn(3 * WIDTH),
            }
            state |= _linear(f"{block}.attn.out_proj", WIDTH, WIDTH)
            state |= _linear(f"{block}.mlp.c_fc", WIDTH, 4 * WIDTH) | _linear(f"{block}.mlp.c_proj", 4 * WIDTH, WIDTH)
    return state


def image_reward_state(vocabulary: int, *, layers: int = 2, seed: int = 0) -> State:
    """Return the random state of a small ImageReward, by its own names: BLIP's two towers and the head."""
    torch.manual_seed(seed)
    state = {
        "blip.visual_encoder.cls_token": torch.randn(1, 1, WIDTH),
        "blip.visual_encoder.pos_embed": torch.randn(1, (SIDE // PATCH) ** 2 + 1, WIDTH),
        "blip.visual_encoder.patch_embed.proj.weight": 0.1 * torch.randn(WIDTH, 3, PATCH, PATCH),
        "blip.visual_encoder.patch_embed.proj.bias": torch.randn(WIDTH),
        "blip.text_encoder.embeddings.word_embeddings.weight": torch.randn(vocabulary, WIDTH),
        "blip.text_encoder.embeddings.position_embeddings.weight": torch.randn(40, WIDTH),
        "blip.text_encoder.embeddings.position_ids": torch.arange(40)[None],
    }
    state |= _norm("blip.visual_encoder.norm", WIDTH) | _norm("blip.text_encoder.embeddings.LayerNorm", WIDTH)
    state |= _linear("blip.vision_proj", WIDTH, 4) | _linear("blip.text_proj", WIDTH, 4)
    for layer in range(layers):
        block = f"blip.visual_encoder.blocks.{layer}"
        state |= _norm(f"{block}.norm1", WIDTH) | _norm(f"{block}.norm2", WIDTH)
        state |= _linear(f"{block}.attn.qkv", WIDTH, 3 * WIDTH) | _linear(f"{block}.attn.proj", WIDTH, WIDTH)
        state |= _linear(f"{block}.mlp.fc1", WIDTH, 4 * WIDTH) | _linear(f"{block}.mlp.fc2", 4 * WIDTH, WIDTH)
        block = f"blip.text_encoder.encoder.layer.{layer}"
        for part in ("attention", "crossattention"):
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                state |= _linear(f"{block}.{part}.{name}", WIDTH, WIDTH)
            state |= _norm(f"{block}.{part}.output.LayerNorm", WIDTH)
        state |= _linear(f"{block}.intermediate.dense", WIDTH, 4 * WIDTH)
        state |= _linear(f"{block}.output.dense", 4 * WIDTH, WIDTH) | _norm(f"{block}.output.LayerNorm", WIDTH)
    return state | {f"mlp.{name}": value for name, value in predictor_state(WIDTH, seed=seed).items()}


def predictor_state(width: int, *, seed: int = 0) -> State:
    """Return the random state of an aesthetic predictor: five linear layers down to one number."""
    torch.manual_seed(seed)
    widths = [width, 10, 8, 6, 4, 1]
    state: State = {}
    for place, before, after in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False):
        state |= _linear(f"layers.{place}", before, after)
    return state


def tiny_bert_tokenizer(folder: Path) -> BertTokenizer:
    """Save a BERT tokenizer that knows a few words into `folder` and return it."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "mars", "the", "sea"]
    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    return tokenizer


def saved(state: State, path: Path) -> Path:
    """Write `state` as safetensors and return `path`."""
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return path


def _linear(name: str, before: int, after: int) -> State:
    return {f"{name}.weight": torch.randn(after, before) / before**0.5, f"{name}.bias": 0.3 * torch.randn(after)}


def _norm(name: str, width: int) -> State:
    return {f"{name}.weight": 1 + 0.3 * torch.randn(width), f"{name}.bias": 0.3 * torch.randn(width)}
