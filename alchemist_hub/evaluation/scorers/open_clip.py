"""open_clip's ViT networks as transformers' CLIPModel: the same numbers under other names, and nothing left over.

open_clip keeps one matrix for queries, keys and values, projections as (in, out), and no tensor says how many heads
there are: widths of heads are given.
"""

import re
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel

from alchemist_hub.errors import ModelError
from alchemist_hub.evaluation.pretrained import State, depth, read_state

_TOWERS = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # so spelt in transformers
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "logit_scale": "logit_scale",
}
_PROJECTIONS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)")
_BLOCK_PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_UNUSED = ("attn_mask",)  # a constant that some versions save


def read_clip(path: Path, *, head_width: int, text_head_width: int, end_of_text: int) -> CLIPModel:
    """Return the network of a safetensors file. Raises ModelError if it is none, or any weight is missing or over."""
    state = read_state(path)
    try:
        network = CLIPModel(config(state, head_width, text_head_width, end_of_text))
        network.load_state_dict(converted(state), strict=True)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path.name} is no open_clip ViT as expected: {reason}") from error
    return network


def config(state: State, head_width: int, text_head_width: int, end_of_text: int) -> CLIPConfig:
    """Return the sizes that the shapes tell, with open_clip's GELU. Raises KeyError for a tensor that is not there."""
    kernel = state["visual.conv1.weight"]  # (width, 3, patch, patch)
    places, width = state["visual.positional_embedding"].shape
    vocabulary, text_width = state["token_embedding.weight"].shape
    vision = {
        "hidden_size": width,
        "intermediate_size": state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": depth(state, "visual.transformer.resblocks."),
        "num_attention_heads": width // head_width,
        "patch_size": kernel.shape[-1],
        "image_size": round((places - 1) ** 0.5) * kernel.shape[-1],
        "hidden_act": "gelu",
    }
    text = {
        "hidden_size": text_width,
        "intermediate_size": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": depth(state, "transformer.resblocks."),
        "num_attention_heads": text_width // text_head_width,
        "max_position_embeddings": state["positional_embedding"].shape[0],
        "vocab_size": vocabulary,
        "eos_token_id": end_of_text,
        "hidden_act": "gelu",
    }
    return CLIPConfig(vision_config=vision, text_config=text, projection_dim=state["visual.proj"].shape[1])


def converted(state: State) -> State:
    """Return every tensor under its name in a CLIPModel, in float32. Raises KeyError for one that has none."""
    found: State = {}
    for name, value in state.items():
        if name not in _UNUSED:
            found.update(_renamed(name, value.float()))
    return found


def _renamed(name: str, value: torch.Tensor) -> State:
    if name in _PROJECTIONS:
        return {_PROJECTIONS[name]: value.T.contiguous()}
    if name in _TOWERS:
        return {_TOWERS[name]: value}
    stem, _, kind = name.rpartition(".")
    if stem in _TOWERS:
        return {f"{_TOWERS[stem]}.{kind}": value}
    return _block(name, value)


def _block(name: str, value: torch.Tensor) -> State:
    if packed := re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", name):
        tower, layer, kind = packed.groups()
        thirds = zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True)
        return {f"{_layer(tower, layer)}.self_attn.{part}.{kind}": third.contiguous() for part, third in thirds}
    match = _BLOCK.fullmatch(name)
    if match is None or match[3] not in _BLOCK_PARTS:
        raise KeyError(f"a CLIPModel has no place for {name}")
    tower, layer, part, kind = match.groups()
    return {f"{_layer(tower, layer)}.{_BLOCK_PARTS[part]}.{kind}": value}


def _layer(tower: str | None, layer: str) -> str:
    return f"{'vision_model' if tower else 'text_model'}.encoder.layers.{layer}"
