import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)
from safetensors.torch import load_file, save_file
from tiny_models import tiny_base

from alchemist_hub.errors import ModelError
from alchemist_hub.sampling import Cancelled, estimate, generate, hide_loading_bars, load, load_pair, preview

PROMPTS = ["a photo of mars over the sea", "a sketch of the moon at night", "the forest at sunset"]
SETTINGS = {"steps": 3, "guidance": 4.0}


@pytest.fixture
def tuned(v_pipeline: Path, tmp_path: Path) -> Path:
    """A sibling of the tiny pipeline with a denoiser that differs everywhere."""
    folder = tmp_path / "tuned"
    shutil.copytree(v_pipeline, folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: weight * 1.1 for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    return folder


def pixels(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture) for picture in pictures]).astype(int)


def test_a_pair_shares_everything_but_the_denoiser_and_the_scheduler(v_pipeline: Path, tuned: Path):
    pair = load_pair(v_pipeline, tuned)
    assert set(pair.shared) == {"vae", "text_encoder", "tokenizer"}
    assert pair.base.vae is pair.tuned.vae
    assert pair.base.text_encoder is pair.tuned.text_encoder
    assert pair.base.tokenizer is pair.tuned.tokenizer
    assert pair.base.unet is not pair.tuned.unet
    assert pair.base.scheduler is not pair.tuned.scheduler
    assert {pipe.unet.dtype for pipe in (pair.base, pair.tuned)} == {torch.float32}


def test_a_component_that_differs_by_one_byte_is_loaded(v_pipeline: Path, tuned: Path):
    config = tuned / "vae" / "config.json"
    config.write_text(config.read_text() + "\n")
    pair = load_pair(v_pipeline, tuned)
    assert set(pair.shared) == {"text_encoder", "tokenizer"}
    assert pair.base.vae is not pair.tuned.vae


def test_the_two_sides_of_a_pair_draw_different_pictures(v_pipeline: Path, tuned: Path):
    pair = load_pair(v_pipeline, tuned)
    one, other = (generate(pipe, PROMPTS[:1], [7], **SETTINGS) for pipe in (pair.base, pair.tuned))
    assert np.abs(pixels(one) - pixels(other)).max() > 0


def test_a_picture_depends_on_its_prompt_and_seed_not_on_its_batch(v_pipeline: Path):
    pipe = load(v_pipeline)
    together = pixels(generate(pipe, PROMPTS, [1, 2, 3], **SETTINGS))
    in_twos = pixels(generate(pipe, PROMPTS, [1, 2, 3], batch_size=2, **SETTINGS))
    alone = pixels(generate(pipe, PROMPTS[2:], [3], **SETTINGS))
    assert together.shape == (3, 64, 64, 3)
    assert np.abs(together - in_twos).max() <= 1
    assert np.abs(together[2:] - alone).max() <= 1
    other_seed = pixels(generate(pipe, PROMPTS[2:], [4], **SETTINGS))
    assert np.abs(alone - other_seed).max() > 5


def test_the_negative_prompt_changes_the_picture(v_pipeline: Path):
    pipe = load(v_pipeline)
    without = generate(pipe, PROMPTS[:1], [1], **SETTINGS)
    with_it = generate(pipe, PROMPTS[:1], [1], negative="sketch", **SETTINGS)
    assert np.abs(pixels(without) - pixels(with_it)).max() > 0


def test_steps_are_reported_with_estimates_that_end_in_the_picture(v_pipeline: Path):
    pipe, seen = load(v_pipeline), []
    pictures = generate(pipe, PROMPTS, [1, 2, 3], batch_size=2, on_step=lambda *a: seen.append(a), **SETTINGS)
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5, 6]
    assert [len(latents) for _, latents in seen] == [2, 2, 2, 1, 1, 1]
    assert np.abs(pixels(preview(pipe, seen[-1][1])) - pixels(pictures[2:])).max() <= 1


def test_sampling_stops_when_told_and_the_pipeline_stays_usable(v_pipeline: Path):
    pipe, seen = load(v_pipeline), []
    before = pixels(generate(pipe, PROMPTS[:1], [1], **SETTINGS))
    with pytest.raises(Cancelled):
        generate(
            pipe,
            PROMPTS[:1],
            [1],
            on_step=lambda step, _: seen.append(step),
            should_stop=lambda: len(seen) == 2,
            **SETTINGS,
        )
    assert seen == [1, 2]
    assert np.array_equal(pixels(generate(pipe, PROMPTS[:1], [1], **SETTINGS)), before)


def test_a_seed_per_prompt_is_needed(v_pipeline: Path):
    with pytest.raises(ValueError, match="2 prompts and 1 seeds"):
        generate(load(v_pipeline), PROMPTS[:2], [1], **SETTINGS)


@pytest.mark.parametrize("scheduler", [PNDMScheduler, EulerDiscreteScheduler])
def test_other_schedulers_of_the_released_models_report_estimates_too(epsilon_pipeline: Path, scheduler: type):
    pipe, seen = load(epsilon_pipeline), []
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
    generate(pipe, PROMPTS[:1], [1], on_step=lambda _, latents: seen.append(latents), **SETTINGS)
    assert len(seen) >= 3
    assert all(latents.shape == (1, 4, 8, 8) and latents.isfinite().all() for latents in seen)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_estimate_inverts_the_noising(prediction_type: str):
    scheduler = DDPMScheduler(prediction_type=prediction_type)
    clean, noise, timestep = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([300, 300])
    noised = scheduler.add_noise(clean, noise, timestep)
    output = noise if prediction_type == "epsilon" else scheduler.get_velocity(clean, noise, timestep)
    assert torch.allclose(estimate(scheduler, output, 300, noised), clean, atol=1e-5)


def test_the_estimate_of_v_prediction_is_finite_at_zero_terminal_snr():
    scheduler = DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    clean, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    assert torch.allclose(estimate(scheduler, -clean, 999, noise), clean, atol=1e-6)


def test_the_estimate_of_flow_matching_inverts_its_noising():
    scheduler = FlowMatchEulerDiscreteScheduler()
    clean, noise = torch.randn(1, 16, 8, 8), torch.randn(1, 16, 8, 8)
    noised = 0.25 * noise + 0.75 * clean
    assert torch.allclose(estimate(scheduler, noise - clean, 250, noised), clean, atol=1e-5)


def test_a_pipeline_that_lost_its_weights_is_one_line(v_pipeline: Path, tmp_path: Path):
    shutil.copytree(v_pipeline, tmp_path / "broken")
    (tmp_path / "broken" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load(tmp_path / "broken")
    assert "\n" not in str(caught.value)


def test_loading_draws_no_bars_once_they_are_hidden(v_pipeline, capfd):
    hide_loading_bars()
    load(v_pipeline)
    assert "Loading" not in capfd.readouterr().err


@pytest.mark.parametrize(("zero_snr", "rescale"), [(True, 0.7), (False, 0.0)])
def test_guidance_is_rescaled_for_models_of_zero_terminal_snr_only(v_pipeline: Path, zero_snr: bool, rescale: float):
    pipe = load(v_pipeline)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, rescale_betas_zero_snr=zero_snr)
    asked = {"prompt": PROMPTS[0], "num_inference_steps": 3, "guidance_scale": 8.0}
    direct = {
        value: pixels(pipe(**asked, guidance_rescale=value, generator=torch.Generator().manual_seed(5)).images)
        for value in (0.0, 0.7)
    }
    painted = pixels(generate(pipe, PROMPTS[:1], [5], steps=3, guidance=8.0))
    assert np.abs(direct[0.7] - direct[0.0]).max() > 0
    assert np.abs(painted - direct[rescale]).max() == 0


@pytest.mark.parametrize("key", ["sd21", "sdxl", "sd35m"])
def test_an_offloaded_pair_paints_what_the_whole_one_paints(tmp_path: Path, key: str) -> None:
    """With the processor in the place of the card: the hooks are real, only nothing has to be moved."""
    base, tuned = tiny_base(key, tmp_path / "base"), tmp_path / "tuned"
    shutil.copytree(base, tuned)
    whole, offloaded = load_pair(base, tuned), load_pair(base, tuned, offload_to="cpu")
    denoiser = "transformer" if key == "sd35m" else "unet"
    for _ in range(2):
        for side in ("base", "tuned"):
            pictures = [
                np.asarray(generate(getattr(pair, side), ["mars"], [1], steps=2, guidance=3.0)[0])
                for pair in (whole, offloaded)
            ]
            assert np.array_equal(*pictures)
            assert hasattr(getattr(getattr(offloaded, side), denoiser), "_hf_hook")
            assert not hasattr(getattr(offloaded, side).vae, "_hf_hook")  # previews need not bring it back


def test_a_cancelled_painting_leaves_an_offloaded_pipeline_ready(v_pipeline: Path) -> None:
    pair = load_pair(v_pipeline, v_pipeline, offload_to="cpu")
    with pytest.raises(Cancelled):
        generate(pair.base, ["mars"], [1], steps=4, guidance=3.0, should_stop=lambda: True)
    (after,) = generate(pair.tuned, ["mars"], [1], steps=4, guidance=3.0)
    (alone,) = generate(load(v_pipeline), ["mars"], [1], steps=4, guidance=3.0)
    assert np.array_equal(np.asarray(after), np.asarray(alone))


def test_a_vae_that_overflows_in_half_precision_is_previewed_in_full(xl_pipeline: Path) -> None:
    pipe = load(xl_pipeline, dtype=torch.float16)
    pipe.vae.register_to_config(force_upcast=True)
    latents_BChw = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    seen: list[torch.dtype] = []
    pipe.vae.decoder.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    (picture,) = preview(pipe, latents_BChw)
    assert picture.size == (64, 64) and seen == [torch.float32] and pipe.vae.dtype == torch.float16
