"""What the estimator takes from pipelines of each class, against the library's own schedulers and pipelines."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from curation.errors import CalibrationError
from curation.estimator.attention import text_attention
from curation.estimator.denoiser import Denoiser, fixed_noise, square
from curation.estimator.pipelines import denoiser_of, diffuse
from curation.stages.impact import open_denoiser

CLASSES = ("v_pipeline", "xl_pipeline", "sd3_pipeline")
CLIP = ["start", "word", "word", "end"] + ["padding"] * 12  # of "detailed photo"


def load(folder: Path) -> Denoiser:
    return denoiser_of(DiffusionPipeline.from_pretrained(folder, dtype=torch.float32))


@pytest.fixture(scope="module")
def denoiser(v_pipeline: Path) -> Denoiser:
    return load(v_pipeline)


@pytest.fixture(scope="module")
def xl(xl_pipeline: Path) -> Denoiser:
    return load(xl_pipeline)


@pytest.fixture(scope="module")
def joint(sd3_pipeline: Path) -> Denoiser:
    return load(sd3_pipeline)


def given_to(network: torch.nn.Module, run: Any) -> dict[str, Any]:
    """What `network` was last given by name while `run` ran."""
    seen: dict[str, Any] = {}
    hook = network.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    run()
    hook.remove()
    return seen


def test_noised_latents_and_targets_agree_with_the_scheduler(denoiser: Denoiser, epsilon_pipeline: Path) -> None:
    z, noise = torch.randn(2, 4, 8, 8), torch.randn(4, 8, 8)
    scheduler, time = denoiser.pipe.scheduler, torch.tensor([700, 700])
    z_t, velocity = denoiser.noised(z, noise, 700)
    assert torch.allclose(z_t, scheduler.add_noise(z, noise.expand_as(z), time), atol=1e-6)
    assert torch.allclose(velocity, scheduler.get_velocity(z, noise.expand_as(z), time), atol=1e-6)
    plain = load(epsilon_pipeline)
    assert torch.equal(plain.noised(z, noise, 700)[1], noise.expand_as(z))
    assert torch.allclose(diffuse(z, noise, 1.0, kind="epsilon")[0], z)


def test_the_noise_of_sdxl_is_the_one_it_was_trained_with(xl: Denoiser) -> None:
    z, noise = torch.randn(2, 4, 8, 8), torch.randn(4, 8, 8)
    scheduler = xl.pipe.scheduler  # it scales its samples by the noise, the network sees them scaled back
    scheduler.set_timesteps(1000)
    time = scheduler.timesteps[-251]
    assert int(time) == 250
    theirs = scheduler.add_noise(z, noise.expand_as(z), time.expand(2))
    z_t, target = xl.noised(z, noise, 250)
    assert torch.allclose(z_t, scheduler.scale_model_input(theirs, time), atol=1e-5)
    assert torch.equal(target, noise.expand_as(z))


def test_flow_noise_and_timestep_agree_with_the_scheduler_after_its_shift(joint: Denoiser) -> None:
    z, noise = torch.randn(2, 16, 8, 8), torch.randn(16, 8, 8)
    scheduler = joint.pipe.scheduler
    time = scheduler.timesteps[1000 - 300]
    assert time.item() == pytest.approx(1000 * 3 * 0.3 / (1 + 2 * 0.3))  # shift 3
    z_t, target = joint.noised(z, noise, 300)
    assert torch.allclose(z_t, scheduler.scale_noise(z, time.expand(2), noise.expand_as(z)), atol=1e-6)
    given = given_to(joint.network, lambda: joint.predict(z_t, 300, joint.encode("mars")))
    assert given["timestep"].tolist() == pytest.approx([time.item()] * 2)
    assert torch.allclose(z_t - joint.sigma(300) * target, z, atol=1e-5)  # one whole step ends at the picture


def test_sampling_with_the_pipeline_does_not_move_the_noise_levels(sd3_pipeline: Path) -> None:
    pipe = DiffusionPipeline.from_pretrained(sd3_pipeline, dtype=torch.float32)
    before = denoiser_of(pipe)
    pipe.scheduler.set_timesteps(4)
    after = denoiser_of(pipe)
    assert after.sigma(300) == before.sigma(300) == pytest.approx(0.5625)
    assert after.fingerprint() == before.fingerprint()


@pytest.mark.parametrize("pipeline", CLASSES)
def test_the_network_is_asked_as_its_own_pipeline_asks_it(pipeline: str, request: pytest.FixtureRequest) -> None:
    asked = load(request.getfixturevalue(pipeline))
    network = asked.network
    start = torch.randn(1, network.config.in_channels, 8, 8)
    theirs = given_to(
        network,
        lambda: asked.pipe(
            "detailed photo", latents=start, num_inference_steps=1, guidance_scale=1.0, output_type="latent"
        ),
    )
    ours = given_to(network, lambda: asked.predict(start, 999, asked.encode("detailed photo")))
    assert torch.equal(ours["encoder_hidden_states"], theirs["encoder_hidden_states"])
    if pipeline == "xl_pipeline":
        for name in ("text_embeds", "time_ids"):
            assert torch.equal(ours["added_cond_kwargs"][name], theirs["added_cond_kwargs"][name])
        assert ours["added_cond_kwargs"]["time_ids"].tolist() == [[64, 64, 0, 0, 64, 64]]
    if pipeline == "sd3_pipeline":
        assert torch.equal(ours["pooled_projections"], theirs["pooled_projections"])


def test_time_ids_follow_the_square_that_is_probed(xl: Denoiser) -> None:
    given = given_to(xl.network, lambda: xl.predict(torch.randn(2, 4, 16, 16), 300, xl.encode("mars")))
    assert given["added_cond_kwargs"]["time_ids"].tolist() == [[128, 128, 0, 0, 128, 128]] * 2


def test_no_prompt_is_zeros_for_a_model_that_was_trained_on_zeros(xl: Denoiser) -> None:
    nothing, something = xl.encode(""), xl.encode("mars")
    assert not nothing.states.any() and not nothing.pooled.any()
    assert something.states.any() and something.pooled.any()


def test_latents_are_shifted_and_scaled_as_the_pipeline_undoes_it(joint: Denoiser) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
        raw = joint.vae.encode(x).latent_dist.mean
    assert torch.allclose(joint.latents(pixels) / 5.0 + 0.06, raw, atol=1e-5)


@pytest.mark.parametrize("pipeline", CLASSES)
def test_text_layers_are_told_in_the_order_they_run(pipeline: str, request: pytest.FixtureRequest) -> None:
    denoiser = load(request.getfixturevalue(pipeline))
    running = denoiser.text_layers()
    assert sorted(running) == sorted(text_attention(denoiser.network))
    places = [name.split("_")[0] for name in running]  # of a UNet, whose modules are listed down, up, mid
    assert pipeline == "sd3_pipeline" or places == sorted(places, key=["down", "mid", "up"].index)
    assert not any(module._forward_pre_hooks for module in denoiser.network.modules())


def test_noise_comes_in_opposite_pairs_from_its_seed() -> None:
    noise = fixed_noise((4, 8, 8), draws=4, seed=3)
    assert torch.equal(noise[0], -noise[1]) and torch.equal(noise[2], -noise[3])
    assert not torch.equal(noise[0], noise[2])
    assert torch.equal(noise[:3], fixed_noise((4, 8, 8), draws=3, seed=3))


@pytest.mark.parametrize("pipeline", CLASSES)
def test_token_roles_tell_words_from_padding(pipeline: str, request: pytest.FixtureRequest) -> None:
    tokens = load(request.getfixturevalue(pipeline)).tokens("detailed photo")
    assert [token.role for token in tokens[:16]] == CLIP
    assert [token.text for token in tokens[1:3]] == ["detailed</w>", "photo</w>"]
    assert [token.index for token in tokens] == list(range(len(tokens)))


def test_roles_of_t5_follow_those_of_clip(joint: Denoiser) -> None:
    tokens = joint.tokens("detailed photo")
    assert len(tokens) == joint.encode("detailed photo").states.shape[1] == 16 + 256
    assert [token.role for token in tokens[16:20]] == ["word", "word", "end", "padding"]
    assert [token.text for token in tokens[16:18]] == ["\u2581detailed", "\u2581photo"]


def test_a_missing_t5_leaves_padding(tmp_path: Path) -> None:
    from tiny_models import tiny_sd3_pipeline

    without = open_denoiser(str(tiny_sd3_pipeline(tmp_path / "sd3", t5=False)))
    assert [token.role for token in without.tokens("detailed photo")] == CLIP + ["padding"] * 256
    assert not without.encode("detailed photo").states[:, 16:].any()


@pytest.mark.parametrize("pipeline", CLASSES)
def test_a_prompt_longer_than_the_model_reads_is_refused(pipeline: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(CalibrationError, match="reads 16: shorten"):
        load(request.getfixturevalue(pipeline)).encode("mars " * 20)


def test_pictures_of_any_shape_are_cut_to_their_central_square() -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255
    assert square(wide, 64).shape == (64, 64, 3)
    assert square(wide, 64).min() == 255


def test_a_pipeline_of_another_class_or_objective_is_refused(v_pipeline: Path, sd3_pipeline: Path) -> None:
    with pytest.raises(CalibrationError, match="reads StableDiffusionPipeline, .*, not str"):
        denoiser_of("sdxl")
    unet, joint = (DiffusionPipeline.from_pretrained(folder) for folder in (v_pipeline, sd3_pipeline))
    unet.scheduler.register_to_config(prediction_type="sample")
    with pytest.raises(CalibrationError, match="predicts 'sample'"):
        denoiser_of(unet)
    joint.scheduler = unet.scheduler
    with pytest.raises(CalibrationError, match="expected a FlowMatchEulerDiscreteScheduler"):
        denoiser_of(joint)


@pytest.mark.parametrize("pipeline", CLASSES)
def test_the_fingerprint_belongs_to_the_weights_and_not_to_the_load(
    pipeline: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(pipeline)
    first, again = load(folder), load(folder)
    assert again.fingerprint() == first.fingerprint()
    for encoder in again.text_encoders:
        before = again.fingerprint()
        with torch.no_grad():
            encoder.get_input_embeddings().weight[0, 0] += 1
        assert again.fingerprint() != before


def test_the_fingerprint_belongs_to_the_noise_schedule_too(epsilon_pipeline: Path, sd3_pipeline: Path) -> None:
    for folder, setting in ((epsilon_pipeline, {"beta_end": 0.5}), (sd3_pipeline, {"shift": 2.0})):
        asked = load(folder)
        before = asked.fingerprint()
        asked.pipe.scheduler.register_to_config(**setting)
        assert asked.fingerprint() != before


def test_the_fingerprint_is_the_same_whatever_a_processor_makes_of_the_last_bits(v_pipeline: Path) -> None:
    first, again = load(v_pipeline), load(v_pipeline)
    levels = again.pipe.scheduler.alphas_cumprod
    again.pipe.scheduler.alphas_cumprod = levels.nextafter(torch.ones(()))
    assert not torch.equal(again.pipe.scheduler.alphas_cumprod, levels)
    assert again.fingerprint() == first.fingerprint()


def test_less_precision_changes_the_answers_a_little_and_not_the_fingerprint(xl_pipeline: Path) -> None:
    whole, half = load(xl_pipeline), load(xl_pipeline).to(torch.device("cpu"), "bfloat16")
    assert half.network.dtype == torch.bfloat16 and half.vae.dtype == torch.float32
    assert half.fingerprint() == whole.fingerprint()
    z = torch.randn(2, 4, 8, 8)
    exact, near = (each.predict(z, 300, each.encode("mars")) for each in (whole, half))
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.1 * exact.abs().max()


def test_the_fingerprint_of_the_shipped_base_is_the_one_its_calibration_names() -> None:
    from alchemist_hub.miniature import weights
    from curation.estimator.calibration import Calibration

    assert load(weights() / "base").fingerprint() == Calibration.load(weights() / "estimator.json").model


@pytest.mark.parametrize("pipeline", CLASSES)
def test_the_image_size_is_the_one_the_model_was_made_for(pipeline: str, request: pytest.FixtureRequest) -> None:
    denoiser = load(request.getfixturevalue(pipeline))
    assert (denoiser.image_size, denoiser.batch) == (64, 32)
    denoiser.network.register_to_config(sample_size=128)
    assert (denoiser.image_size, denoiser.batch) == (1024, 8)
