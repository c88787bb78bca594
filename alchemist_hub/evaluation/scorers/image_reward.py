"""ImageReward (Xu et al. 2023): BLIP reads the prompt while it looks at the picture, and a head says how it is liked.

The authors' package needs BLIP's own code. Its two towers are transformers' BlipVisionModel and BlipTextModel under
other names, which `converted` maps one to one. Shape legend: B pictures with one prompt each, T tokens.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from alchemist_hub.errors import ModelError
from alchemist_hub.evaluation import pixels
from alchemist_hub.evaluation.features import BATCH, check_paired
from alchemist_hub.evaluation.pretrained import (
    Fetched,
    Published,
    State,
    depth,
    fetch,
    fetch_file,
    read_state,
    read_tokenizer,
)
from alchemist_hub.evaluation.scorers.aesthetic import Head

PUBLISHED = "zai-org/ImageReward: ImageReward.pt"
TOKENS = 35  # of a prompt that are read
MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072  # of the raw reward over the authors' validation set
HEAD_WIDTH = 64  # in both towers
BERT_TOKENIZER = Published(
    repository="google-bert/bert-base-uncased",
    revision="86b5e0934494bd15c9632b12f734a8a67f723594",
    files=("tokenizer.json",),
    gigabytes=0.001,
)

_VISION_PARTS = (
    ("blocks.", "encoder.layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attn.proj.", ".self_attn.projection."),
    (".attn.qkv.", ".self_attn.qkv."),
    ("patch_embed.proj.", "embeddings.patch_embedding."),
)
_VISION_WHOLE = {
    "pos_embed": "embeddings.position_embedding",
    "cls_token": "embeddings.class_embedding",
    "norm.weight": "post_layernorm.weight",
    "norm.bias": "post_layernorm.bias",
}
_UNUSED = re.compile(r"blip\.(vision_proj|text_proj)\..*|.*\.position_ids")  # not on the way to the reward


class ImageReward:
    """The reward, standardised as the authors do: 0 is their average picture, most lie in -2.3 to 2."""

    name = "image-reward"
    higher_is_better = True
    unit = "standard deviations of the authors' validation rewards"

    def __init__(
        self, vision: BlipVisionModel, text: BlipTextModel, head: Head, tokenizer: Any, weights: Fetched, *, device: str
    ) -> None:
        self._vision, self._text = vision.eval().to(device), text.eval().to(device)
        self._head, self._tokenizer, self._device = head, tokenizer, device
        self.source, self.revision = f"ImageReward, converted: {weights.source}", weights.revision

    @classmethod
    def load(
        cls,
        weights: str | Path | None = None,
        *,
        device: str = "cpu",
        tokenizer: str | Path | None = None,
        head_width: int = HEAD_WIDTH,
    ) -> "ImageReward":
        """Read ImageReward.pt as safetensors, with its own keys. Raises ModelError without it, or if it is another."""
        found = fetch_file(weights, what=cls.name, published_as=PUBLISHED)
        reader = read_tokenizer(BertTokenizer, fetch(BERT_TOKENIZER, tokenizer).path)
        vision, text, head = read_towers(found.path, head_width)
        return cls(vision, text, head, reader, found, device=device)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """Return (B,) float64. Raises EvaluationError unless there is one prompt a picture."""
        check_paired(images, prompts)
        starts = range(0, len(images), BATCH)
        parts = [self._score(images[start : start + BATCH], prompts[start : start + BATCH]) for start in starts]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        inputs = pixels.normalised(images, pixels.centred, self._vision.config.image_size, pixels.CLIP)
        tokens = self._tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            seen = self._vision(pixel_values=inputs.to(self._device)).last_hidden_state
            read_BTD = self._text(
                input_ids=tokens.input_ids.to(self._device),
                attention_mask=tokens.attention_mask.to(self._device),
                encoder_hidden_states=seen,
            ).last_hidden_state
        return (self._head(read_BTD[:, 0].float().cpu().numpy()) - MEAN) / DEVIATION


def read_towers(path: Path, head_width: int = HEAD_WIDTH) -> tuple[BlipVisionModel, BlipTextModel, Head]:
    """Return both towers and the head of a safetensors file. Raises ModelError if any weight is missing or over."""
    state = read_state(path)
    try:
        vision_state, text_state, head_state = converted(state)
        vision = BlipVisionModel(_vision_config(vision_state, head_width))
        text = BlipTextModel(_text_config(text_state, head_width), add_pooling_layer=False)
        vision.load_state_dict(vision_state, strict=True)
        text.load_state_dict(text_state, strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path.name} is no ImageReward as expected: {reason}") from error
    return vision, text, Head.of(head_state, path.name)


def converted(state: State) -> tuple[State, State, State]:
    """Return the tensors of picture tower, text tower and head under transformers' names, float32.

    Raises KeyError for a tensor that belongs to none.
    """
    vision, text, head = {}, {}, {}
    for name, value in state.items():
        if _UNUSED.fullmatch(name):
            continue
        part, _, rest = name.partition(".") if name.startswith("mlp.") else name.removeprefix("blip.").partition(".")
        if part == "visual_encoder":
            vision[_vision_name(rest)] = value.float()
        elif part == "text_encoder":
            text[rest] = value.float()
        elif part == "mlp":
            head[rest] = value.float()
        else:
            raise KeyError(f"ImageReward has no {name}")
    return vision, text, head


def _vision_name(name: str) -> str:
    for theirs, ours in _VISION_PARTS:
        name = name.replace(theirs, ours)
    return _VISION_WHOLE.get(name, name)


def _vision_config(state: State, head_width: int) -> BlipVisionConfig:
    kernel = state["embeddings.patch_embedding.weight"]  # (width, 3, patch, patch)
    side = round((state["embeddings.position_embedding"].shape[1] - 1) ** 0.5)
    return BlipVisionConfig(
        hidden_size=kernel.shape[0],
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=depth(state, "encoder.layers."),
        num_attention_heads=kernel.shape[0] // head_width,
        image_size=side * kernel.shape[-1],
        patch_size=kernel.shape[-1],
        layer_norm_eps=1e-6,  # BLIP's own; transformers' default is 1e-5
    )


def _text_config(state: State, head_width: int) -> BlipTextConfig:
    vocabulary, width = state["embeddings.word_embeddings.weight"].shape
    return BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        encoder_hidden_size=state["encoder.layer.0.crossattention.self.key.weight"].shape[1],
        intermediate_size=state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        num_hidden_layers=depth(state, "encoder.layer."),
        num_attention_heads=width // head_width,  # transformers' default of 8 is not BERT's 12
        max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
        is_decoder=True,  # gives it the cross-attention; it is called as an encoder
    )
