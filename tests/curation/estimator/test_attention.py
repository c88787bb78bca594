"""Attention recording against a direct computation, and against the model it must not change."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from curation.estimator.attention import StopPass, cross_attention, recording


@pytest.fixture(scope="module")
def unet(v_pipeline: Path) -> UNet2DConditionModel:
    return StableDiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32).unet.eval()


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (3, 4, 8, 8) and one text (1, 16, 16)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, 8, 8, generator=generator), torch.randn(1, 16, 16, generator=generator)


@torch.inference_mode()
def run(unet: UNet2DConditionModel, z: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return unet(z, 300, encoder_hidden_states=text.expand(len(z), -1, -1), return_dict=False)[0]


def test_recording_does_not_change_the_prediction_and_leaves_no_trace(unet, inputs) -> None:
    before = dict(unet.attn_processors)
    plain = run(unet, *inputs)
    with recording(unet, range(16)):
        recorded = run(unet, *inputs)
    assert torch.allclose(plain, recorded, atol=1e-5)
    assert unet.attn_processors == before


def test_norms_are_those_of_the_softmax_maps_and_of_the_maps_times_values(unet, inputs) -> None:
    z, text = inputs
    layer, module = list(cross_attention(unet).items())[1]
    seen = {}
    hook = module.register_forward_pre_hook(lambda _, args: seen.update(hidden=args[0]))
    with recording(unet, [0, 5, 15]) as recorder:
        run(unet, z, text)
    hook.remove()
    norms_BNLK = recorder.take()
    with torch.inference_mode():
        query, key, value = module.to_q(seen["hidden"]), module.to_k(text), module.to_v(text)
    width = query.shape[-1] // module.heads
    for picture in range(3):
        for column, token in enumerate([0, 5, 15]):
            plain = weighted = 0.0
            for head in range(module.heads):
                part = slice(head * width, (head + 1) * width)
                logits = query[picture, :, part] @ key[0, :, part].T / width**0.5
                map_Q = logits.softmax(dim=-1)[:, token]
                plain += map_Q.square().sum()
                weighted += (map_Q[:, None] * value[0, token, part]).square().sum()
            recorded = norms_BNLK[picture, :, recorder.layers.index(layer), column]
            assert recorded.tolist() == pytest.approx([plain.sqrt().item(), weighted.sqrt().item()], rel=1e-4)


def test_a_pass_stops_after_the_deepest_wanted_layer(unet, inputs) -> None:
    ran: list[str] = []
    names = list(cross_attention(unet))
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in cross_attention(unet).items()
    ]
    with recording(unet, [1, 2], stop=False) as whole:
        run(unet, *inputs)
    full, everything = list(ran), whole.take()
    ran.clear()
    wanted = [full[2], full[0]]
    with recording(unet, [1, 2], wanted, stop=True) as recorder, pytest.raises(StopPass):
        run(unet, *inputs)
    for hook in hooks:
        hook.remove()
    assert sorted(full) == sorted(names)
    assert ran == full[:2]  # the third was left from inside
    assert torch.equal(recorder.take(), everything[:, :, [names.index(name) for name in wanted]])


def test_the_processors_come_back_after_an_error(unet, inputs) -> None:
    before = dict(unet.attn_processors)
    with pytest.raises(RuntimeError), recording(unet, [0]):
        run(unet, inputs[0], torch.zeros(1, 16, 7))  # a text of the wrong width
    assert unet.attn_processors == before
