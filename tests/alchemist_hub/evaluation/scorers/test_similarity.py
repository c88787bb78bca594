"""CLIP score, PickScore and HPSv2.1: cosines of the right network, against forwards written out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import TOKENS, tiny_tokenizer
from tiny_scorers import EMBEDDING, HEAD_WIDTH, HEADS, PATCH, State, open_clip_state, saved, tiny_clip
from torch.nn.functional import gelu, layer_norm, normalize, softmax
from transformers import CLIPModel

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import pixels
from alchemist_hub.evaluation.features import ClipEmbeddings
from alchemist_hub.evaluation.scorers import scorer
from alchemist_hub.evaluation.scorers.open_clip import config, converted, read_clip
from alchemist_hub.evaluation.scorers.similarity import HPS_HEAD_WIDTH, TEXT_HEAD_WIDTH, hpsv21

PROMPTS = ["a photo of mars", "the sea at night", "a sketch of the detailed moon over the forest"]


def pictures(count: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)) for _ in range(count)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("similarity") / "clip")


def test_clip_score_is_a_hundred_cosines_and_never_negative(clip: Path):
    found = scorer("clip-score", weights=clip)
    cosines = ClipEmbeddings.load(clip).cosines(pictures(), PROMPTS)
    score = found.score(pictures(), PROMPTS)
    np.testing.assert_allclose(score, 100 * np.maximum(cosines, 0))
    assert score.dtype == np.float64 and score.shape == (3,)
    assert found.higher_is_better and found.source == "clip" and found.revision.startswith("sha256:")


def test_pickscore_is_the_networks_own_logit(clip: Path):
    score = scorer("pickscore", weights=clip).score(pictures(), PROMPTS)
    scale = float(CLIPModel.from_pretrained(clip).logit_scale.exp())
    np.testing.assert_allclose(score, scale * ClipEmbeddings.load(clip).cosines(pictures(), PROMPTS), rtol=1e-6)


def test_a_score_does_not_depend_on_its_neighbours(clip: Path):
    found = scorer("clip-score", weights=clip)
    alone = [found.score([image], [prompt])[0] for image, prompt in zip(pictures(), PROMPTS, strict=True)]
    np.testing.assert_allclose(found.score(pictures(), PROMPTS), alone, atol=1e-4)
    with pytest.raises(EvaluationError, match="one prompt a picture"):
        found.score(pictures(), PROMPTS[:2])


# open_clip's forward, from its definition and in its own names.


def block(state: State, name: str, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    def norm(part: str, value: torch.Tensor) -> torch.Tensor:
        return layer_norm(value, value.shape[-1:], state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"])

    def linear(part: str, value: torch.Tensor) -> torch.Tensor:
        return value @ state[f"{name}.{part}.weight"].T + state[f"{name}.{part}.bias"]

    packed = norm("ln_1", x) @ state[f"{name}.attn.in_proj_weight"].T + state[f"{name}.attn.in_proj_bias"]
    heads = []
    for head in range(HEADS):
        rows = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
        q, k, v = (part[..., rows] for part in packed.chunk(3, dim=-1))
        scores = q @ k.transpose(-1, -2) / HEAD_WIDTH**0.5
        heads.append(softmax(scores if mask is None else scores + mask, dim=-1) @ v)
    x = x + linear("attn.out_proj", torch.cat(heads, dim=-1))
    return x + linear("mlp.c_proj", gelu(linear("mlp.c_fc", norm("ln_2", x))))


def see(state: State, inputs: torch.Tensor) -> torch.Tensor:
    patches = torch.nn.functional.conv2d(inputs, state["visual.conv1.weight"], stride=PATCH).flatten(2).mT
    x = torch.cat([state["visual.class_embedding"].expand(len(inputs), 1, -1), patches], dim=1)
    x = x + state["visual.positional_embedding"]
    x = layer_norm(x, x.shape[-1:], state["visual.ln_pre.weight"], state["visual.ln_pre.bias"])
    for layer in range(2):
        x = block(state, f"visual.transformer.resblocks.{layer}", x, None)
    x = layer_norm(x[:, 0], x.shape[-1:], state["visual.ln_post.weight"], state["visual.ln_post.bias"])
    return normalize(x @ state["visual.proj"], dim=-1)


def read(state: State, ids: list[int], end: int) -> torch.Tensor:
    ids = ids + [0] * (TOKENS - len(ids))  # open_clip pads with zeros
    x = state["token_embedding.weight"][ids] + state["positional_embedding"]
    mask = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)
    for layer in range(2):
        x = block(state, f"transformer.resblocks.{layer}", x, mask)
    x = layer_norm(x, x.shape[-1:], state["ln_final.weight"], state["ln_final.bias"])
    return normalize(x[ids.index(end)] @ state["text_projection"], dim=-1)


@pytest.fixture(scope="module")
def hps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, State]:
    """Return an open_clip file, a tokenizer's folder and the state."""
    folder = tmp_path_factory.mktemp("hps")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    state = open_clip_state(len(tokenizer))
    return saved(state, folder / "hps.safetensors"), folder / "tokenizer", state


def test_hps_from_open_clips_keys_is_open_clips_own_cosine(hps):
    path, tokenizer_folder, state = hps
    found = hpsv21(path, tokenizer=tokenizer_folder, head_width=HEAD_WIDTH, text_head_width=HEAD_WIDTH)
    tokenizer = tiny_tokenizer()
    seen = see(state, pixels.normalised(pictures(), pixels.centred, 32, pixels.CLIP))
    texts = torch.stack([read(state, tokenizer(prompt).input_ids, tokenizer.eos_token_id) for prompt in PROMPTS])
    expected = (seen * texts).sum(-1)
    assert expected.std() > 0.01  # else any answer would do
    np.testing.assert_allclose(found.score(pictures(), PROMPTS), expected.numpy(), atol=1e-5)
    assert found.name == "hpsv2.1" and found.source == "HPSv2.1, converted: hps.safetensors"


def test_conversion_uses_every_tensor_and_invents_none(hps):
    path, _, state = hps
    network = read_clip(path, head_width=HEAD_WIDTH, end_of_text=1, text_head_width=HEAD_WIDTH)
    assert converted(state).keys() == {name for name, _ in network.named_parameters()}
    sizes = sum(value.numel() for name, value in state.items() if name != "attn_mask")
    assert sum(value.numel() for value in network.parameters()) == sizes
    assert network.config.projection_dim == EMBEDDING and network.config.vision_config.image_size == 32


def test_the_published_sizes_give_the_configuration_of_vit_h_14():
    def blocks(tower: str, width: int, layers: int) -> State:
        names = [f"{tower}resblocks.{layer}.mlp.c_fc.weight" for layer in range(layers)]
        return {name: torch.empty(4 * width, width, device="meta") for name in names}

    shapes = {
        "visual.conv1.weight": (1280, 3, 14, 14),
        "visual.positional_embedding": (257, 1280),
        "visual.proj": (1280, 1024),
        "positional_embedding": (77, 1024),
        "token_embedding.weight": (49408, 1024),
    }
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    state |= blocks("visual.transformer.", 1280, 32) | blocks("transformer.", 1024, 24)
    found = config(state, HPS_HEAD_WIDTH, TEXT_HEAD_WIDTH, 49407)
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act")
    assert [getattr(found.vision_config, size) for size in sizes] == [1280, 5120, 32, 16, "gelu"]
    assert [getattr(found.text_config, size) for size in sizes] == [1024, 4096, 24, 16, "gelu"]
    assert (found.vision_config.image_size, found.vision_config.patch_size, found.projection_dim) == (224, 14, 1024)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state | {"visual.extra": torch.zeros(1)}, "no place for visual.extra"),
        (lambda state: {name: value for name, value in state.items() if "blocks.1.ln_2.bias" not in name}, "Missing"),
        (lambda state: {"visual.proj": state["visual.proj"]}, "visual.conv1.weight"),
    ],
)
def test_a_file_that_is_no_open_clip_network_is_refused(hps, tmp_path: Path, change, reason):
    path = saved(change(hps[2]), tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match=f"odd.safetensors is no open_clip ViT as expected: .*{reason}"):
        read_clip(path, head_width=HEAD_WIDTH, end_of_text=1, text_head_width=HEAD_WIDTH)
