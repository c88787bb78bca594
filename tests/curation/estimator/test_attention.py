"""Recorded norms against naive maps held whole, for a UNet and for joint attention, and the model left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from curation.estimator.attention import StopPass, probabilities, recording, text_attention
from curation.estimator.denoiser import Denoiser, Text
from curation.estimator.pipelines import denoiser_of

TOKENS = [0, 1, 5, 15]


@pytest.fixture(scope="module", params=["v_pipeline", "xl_pipeline", "sd3_pipeline"])
def denoiser(request: pytest.FixtureRequest) -> Denoiser:
    folder: Path = request.getfixturevalue(request.param)
    return denoiser_of(DiffusionPipeline.from_pretrained(folder, dtype=torch.float32))


@pytest.fixture(scope="module")
def joint(sd3_pipeline: Path) -> Denoiser:
    return denoiser_of(DiffusionPipeline.from_pretrained(sd3_pipeline, dtype=torch.float32))


def question(denoiser: Denoiser, prompt: str = "a detailed photo") -> tuple[torch.Tensor, int, Text]:
    """Latents (3, C, 8, 8), a timestep and a text."""
    channels = denoiser.network.config.in_channels
    return torch.randn(3, channels, 8, 8, generator=torch.Generator().manual_seed(0)), 300, denoiser.encode(prompt)


@contextmanager
def inputs_of(module: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """What `module` is given while the block runs: states of the picture, and of the text."""
    seen: dict[str, Any] = {}

    def keep(_: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        seen.update(kwargs)
        if args:
            seen["hidden_states"] = args[0]

    hook = module.register_forward_pre_hook(keep, with_kwargs=True)
    yield seen
    hook.remove()


def by_head(states: np.ndarray, linear: torch.nn.Linear, heads: int, norm: Any = None) -> np.ndarray:
    """Project (positions, C) and normalise by root mean square: (positions, heads, D), in double precision."""
    bias = 0.0 if linear.bias is None else linear.bias.detach().double().numpy()
    parts = (states @ linear.weight.detach().double().numpy().T + bias).reshape(len(states), heads, -1)
    if norm is None:
        return parts
    return parts / np.sqrt((parts**2).mean(-1, keepdims=True) + norm.eps) * norm.weight.detach().double().numpy()


def naive_norms(module: Any, picture: np.ndarray, text: np.ndarray, tokens: list[int]) -> np.ndarray:
    """Return norms (2, tokens) of one picture (Q, C) and text (S, C), with the whole softmax map in memory."""
    heads, joint = module.heads, module.added_kv_proj_dim is not None
    query = by_head(picture, module.to_q, heads, module.norm_q)
    if joint:
        own = by_head(picture, module.to_k, heads, module.norm_k)
        key = np.concatenate([own, by_head(text, module.add_k_proj, heads, module.norm_added_k)])
        value = by_head(text, module.add_v_proj, heads)
    else:
        key, value = by_head(text, module.to_k, heads), by_head(text, module.to_v, heads)
    logits = np.einsum("qhd,thd->hqt", query, key) / query.shape[-1] ** 0.5
    exponent = np.exp(logits - logits.max(-1, keepdims=True))
    map_HQS = (exponent / exponent.sum(-1, keepdims=True))[..., -len(text) :]
    plain, weighted = [], []
    for token in tokens:
        plain.append(np.linalg.norm(map_HQS[..., token]))
        weighted.append(np.linalg.norm(np.einsum("hq,hd->hqd", map_HQS[..., token], value[token])))
    return np.array([plain, weighted])


def test_norms_are_those_of_maps_held_whole(denoiser: Denoiser) -> None:
    ask = question(denoiser)
    for layer, module in text_attention(denoiser.network).items():
        with inputs_of(module) as seen, recording(denoiser.network, TOKENS, [layer]) as recorder:
            denoiser.predict(*ask)
            norms_BNLK = recorder.take()
        for row in range(3):
            picture, text = (seen[name][row].double().numpy() for name in ("hidden_states", "encoder_hidden_states"))
            expected = naive_norms(module, picture, text, TOKENS)
            assert norms_BNLK[row, :, 0].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-7), layer
        assert norms_BNLK.std(dim=0).min() > 0  # pictures differ


def test_positions_of_t5_follow_those_of_clip(joint: Denoiser) -> None:
    first = 16  # positions of CLIP
    words = [token.index for token in joint.tokens("a detailed photo") if token.role == "word" and token.index >= first]
    layer, module = list(text_attention(joint.network).items())[1]
    with inputs_of(module) as seen, recording(joint.network, words, [layer]) as recorder:
        joint.predict(*question(joint))
        norms_NK = recorder.take()[0, :, 0].numpy()
    picture, text = (seen[name][0].double().numpy() for name in ("hidden_states", "encoder_hidden_states"))
    assert len(words) == 3 and text.shape[0] == first + 256
    assert norms_NK == pytest.approx(naive_norms(module, picture, text, words), rel=1e-4, abs=1e-7)


def test_probabilities_come_out_in_groups_as_from_the_whole_map() -> None:
    query, key = torch.randn(2, 3, 10, 4), torch.randn(2, 3, 25, 4)
    columns = torch.tensor([3, 24, 7, 8, 9, 10, 0])  # more than the width of a head
    whole = (query @ key.transpose(-1, -2) / 2).softmax(dim=-1)
    assert torch.allclose(probabilities(query, key, columns), whole[..., columns], atol=1e-6)


def test_recording_does_not_change_the_prediction_and_leaves_no_trace(denoiser: Denoiser) -> None:
    ask, modules = question(denoiser), text_attention(denoiser.network)
    before = {name: module.processor for name, module in modules.items()}
    plain = denoiser.predict(*ask)
    with recording(denoiser.network, TOKENS):
        recorded = denoiser.predict(*ask)
    assert torch.allclose(plain, recorded, atol=1e-5 * plain.abs().max().item())
    assert {name: module.processor for name, module in modules.items()} == before


def test_each_processor_returns_what_the_one_of_the_library_returns(denoiser: Denoiser) -> None:
    ask = question(denoiser)
    for layer, module in text_attention(denoiser.network).items():
        with inputs_of(module) as seen:
            denoiser.predict(*ask)
        given = {name: seen[name] for name in ("hidden_states", "encoder_hidden_states")}
        with torch.inference_mode():
            theirs = module(**given)
            with recording(denoiser.network, TOKENS, [layer]):
                ours = module(**given)
        pairs = zip(ours, theirs, strict=True) if isinstance(theirs, tuple) else [(ours, theirs)]
        for mine, other in pairs:
            assert torch.allclose(mine, other, rtol=1e-4, atol=1e-5 * other.abs().max().item()), layer


def test_attention_of_the_picture_to_itself_is_not_recorded(joint: Denoiser) -> None:
    assert joint.network.transformer_blocks[0].attn2 is not None
    assert list(text_attention(joint.network)) == [f"transformer_blocks.{index}.attn" for index in range(3)]


def test_a_pass_stops_after_the_deepest_wanted_layer(denoiser: Denoiser) -> None:
    ask, modules, ran = question(denoiser), text_attention(denoiser.network), []
    hooks = [module.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, module in modules.items()]
    with recording(denoiser.network, TOKENS) as whole:
        denoiser.predict(*ask)
    full, everything = list(ran), whole.take()
    ran.clear()
    wanted = [full[1], full[0]]
    mixing = [module.to_out[0].register_forward_hook(lambda *_: ran.append("out")) for module in modules.values()]
    with recording(denoiser.network, TOKENS, wanted, stop=True) as recorder:
        assert denoiser.predict(*ask) is None
    for hook in hooks + mixing:
        hook.remove()
    assert sorted(full) == sorted(modules)
    assert ran == ["out", full[0]]  # the second was left from inside, before its values were mixed
    assert torch.equal(recorder.take(), everything[:, :, [list(modules).index(name) for name in wanted]])


def test_the_stop_in_a_joint_layer_comes_before_its_own_values_and_the_queries_of_the_text(joint: Denoiser) -> None:
    layer, module = next(iter(text_attention(joint.network).items()))
    ran: list[str] = []
    hooks = [
        getattr(module, name).register_forward_hook(lambda *_, name=name: ran.append(name))
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
    ]
    with recording(joint.network, TOKENS, [layer], stop=True):
        joint.predict(*question(joint))
    for hook in hooks:
        hook.remove()
    assert sorted(ran) == ["add_k_proj", "add_v_proj", "to_k", "to_q"]


def test_the_processors_come_back_after_an_error(denoiser: Denoiser) -> None:
    modules = text_attention(denoiser.network)
    before = {name: module.processor for name, module in modules.items()}
    with pytest.raises(StopPass), recording(denoiser.network, [0]):
        raise StopPass
    assert {name: module.processor for name, module in modules.items()} == before
