"""ImageReward from its authors' keys, against BLIP's forward written out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_scorers import HEAD_WIDTH, HEADS, PATCH, State, image_reward_state, saved, tiny_bert_tokenizer
from torch.nn.functional import conv2d, gelu, layer_norm, softmax

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import pixels
from alchemist_hub.evaluation.scorers.image_reward import DEVIATION, MEAN, ImageReward, read_towers

PROMPTS = ["a photo of mars", "the sea"]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in PROMPTS]


def linear(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: State, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    return layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    parts = [slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH) for head in range(HEADS)]
    return torch.cat([softmax(q[..., p] @ k[..., p].mT / HEAD_WIDTH**0.5, dim=-1) @ v[..., p] for p in parts], dim=-1)


def see(state: State, inputs: torch.Tensor) -> torch.Tensor:
    """BLIP's vision transformer, a pre-norm ViT with LayerNorm's eps of 1e-6."""
    kernel, bias = (state[f"blip.visual_encoder.patch_embed.proj.{kind}"] for kind in ("weight", "bias"))
    patches = conv2d(inputs, kernel, bias, stride=PATCH).flatten(2).mT
    x = torch.cat([state["blip.visual_encoder.cls_token"].expand(len(inputs), -1, -1), patches], dim=1)
    x = x + state["blip.visual_encoder.pos_embed"]
    for layer in range(2):
        name = f"blip.visual_encoder.blocks.{layer}"
        q, k, v = linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x, 1e-6)).chunk(3, dim=-1)
        x = x + linear(state, f"{name}.attn.proj", attend(q, k, v))
        hidden = gelu(linear(state, f"{name}.mlp.fc1", norm(state, f"{name}.norm2", x, 1e-6)))
        x = x + linear(state, f"{name}.mlp.fc2", hidden)
    return norm(state, "blip.visual_encoder.norm", x, 1e-6)


def read(state: State, ids: list[int], seen: torch.Tensor) -> torch.Tensor:
    """BLIP's text encoder on a prompt without padding: a post-norm BERT that looks at the picture in every layer."""
    text = "blip.text_encoder"
    x = state[f"{text}.embeddings.word_embeddings.weight"][ids]
    x = x + state[f"{text}.embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(state, f"{text}.embeddings.LayerNorm", x, 1e-12)
    for layer in range(2):
        name = f"{text}.encoder.layer.{layer}"
        for part, source in (("attention", None), ("crossattention", seen)):
            from_where = x if source is None else source
            q = linear(state, f"{name}.{part}.self.query", x)
            k, v = (linear(state, f"{name}.{part}.self.{kind}", from_where) for kind in ("key", "value"))
            update = linear(state, f"{name}.{part}.output.dense", attend(q, k, v))
            x = norm(state, f"{name}.{part}.output.LayerNorm", update + x, 1e-12)
        hidden = gelu(linear(state, f"{name}.intermediate.dense", x))
        x = norm(state, f"{name}.output.LayerNorm", linear(state, f"{name}.output.dense", hidden) + x, 1e-12)
    return x[0]


@pytest.fixture
def reward(tmp_path: Path) -> tuple[ImageReward, State]:
    tokenizer = tiny_bert_tokenizer(tmp_path / "bert")
    state = image_reward_state(len(tokenizer))
    path = saved(state, tmp_path / "reward.safetensors")
    return ImageReward.load(path, tokenizer=tmp_path / "bert", head_width=HEAD_WIDTH), state


def test_the_reward_is_blips_own_whatever_the_padding(reward, tmp_path: Path):
    found, state = reward
    tokenizer = tiny_bert_tokenizer(tmp_path / "again")
    seen = see(state, pixels.normalised(pictures(), pixels.centred, 32, pixels.CLIP))
    features = [read(state, tokenizer(prompt).input_ids, seen[row]) for row, prompt in enumerate(PROMPTS)]
    values = torch.stack(features)
    for layer in (0, 2, 4, 6, 7):
        values = linear(state, f"mlp.layers.{layer}", values)
    expected = (values[:, 0].double().numpy() - MEAN) / DEVIATION
    assert abs(expected[0] - expected[1]) > 0.01
    np.testing.assert_allclose(found.score(pictures(), PROMPTS), expected, atol=1e-4)


def test_it_says_where_it_comes_from_and_wants_a_prompt_a_picture(reward):
    found, _ = reward
    assert found.source == "ImageReward, converted: reward.safetensors" and found.revision.startswith("sha256:")
    assert found.score([], []).shape == (0,)
    with pytest.raises(EvaluationError, match="one prompt a picture"):
        found.score(pictures(), PROMPTS[:1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state | {"extra.weight": torch.zeros(1)}, "ImageReward has no extra.weight"),
        (lambda state: {name: value for name, value in state.items() if "norm2.bias" not in name}, "Missing"),
        (lambda state: {name: value for name, value in state.items() if "mlp.layers.7" not in name}, "no rating head"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, change, reason):
    path = saved(change(image_reward_state(11)), tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match=f"odd.safetensors .*{reason}"):
        read_towers(path, HEAD_WIDTH)
