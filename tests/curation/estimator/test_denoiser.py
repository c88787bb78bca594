"""What the estimator takes from a pipeline, against the library's own scheduler and tokenizer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from curation.errors import CalibrationError
from curation.estimator.denoiser import UNetDenoiser, diffuse, fixed_noise, square


def load(folder: Path) -> UNetDenoiser:
    return UNetDenoiser(StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32))


@pytest.fixture(scope="module")
def denoiser(v_pipeline: Path) -> UNetDenoiser:
    return load(v_pipeline)


def test_noised_latents_and_targets_agree_with_the_scheduler(denoiser: UNetDenoiser, epsilon_pipeline: Path) -> None:
    z, noise = torch.randn(2, 4, 8, 8), torch.randn(4, 8, 8)
    scheduler, time = denoiser.pipe.scheduler, torch.tensor([700, 700])
    z_t, velocity = denoiser.noised(z, noise, 700)
    assert torch.allclose(z_t, scheduler.add_noise(z, noise.expand_as(z), time), atol=1e-6)
    assert torch.allclose(velocity, scheduler.get_velocity(z, noise.expand_as(z), time), atol=1e-6)
    plain = UNetDenoiser(StableDiffusionPipeline.from_pretrained(epsilon_pipeline, dtype=torch.float32))
    assert torch.equal(plain.noised(z, noise, 700)[1], noise.expand_as(z))
    assert torch.allclose(diffuse(z, noise, 1.0, kind="epsilon")[0], z)


def test_noise_comes_in_opposite_pairs_from_its_seed() -> None:
    noise = fixed_noise((4, 8, 8), draws=4, seed=3)
    assert torch.equal(noise[0], -noise[1]) and torch.equal(noise[2], -noise[3])
    assert not torch.equal(noise[0], noise[2])
    assert torch.equal(noise[:3], fixed_noise((4, 8, 8), draws=3, seed=3))


def test_token_roles_tell_words_from_padding(denoiser: UNetDenoiser) -> None:
    tokens = denoiser.tokens("detailed photo")
    assert [token.role for token in tokens] == ["start", "word", "word", "end"] + ["padding"] * 12
    assert [token.text for token in tokens[1:3]] == ["detailed</w>", "photo</w>"]


def test_a_prompt_longer_than_the_model_reads_is_refused(denoiser: UNetDenoiser) -> None:
    with pytest.raises(CalibrationError, match="reads 16: shorten"):
        denoiser.encode("mars " * 20)


def test_pictures_of_any_shape_are_cut_to_their_central_square() -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255
    assert square(wide, 64).shape == (64, 64, 3)
    assert square(wide, 64).min() == 255


def test_a_pipeline_of_another_class_is_refused() -> None:
    with pytest.raises(CalibrationError, match="not str"):
        UNetDenoiser("sdxl")


def test_the_fingerprint_belongs_to_the_weights_and_not_to_the_load(denoiser: UNetDenoiser, v_pipeline: Path) -> None:
    again = load(v_pipeline)
    assert again.fingerprint() == denoiser.fingerprint()
    with torch.no_grad():
        again.pipe.text_encoder.get_input_embeddings().weight[0, 0] += 1
    assert again.fingerprint() != denoiser.fingerprint()


def test_the_image_size_is_the_one_the_model_was_made_for(denoiser: UNetDenoiser) -> None:
    assert denoiser.image_size == 64
