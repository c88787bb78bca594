"""Likelihood statistics by hand, and the passes of a probe on a tiny real pipeline."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from curation.estimator.denoiser import fixed_noise
from curation.estimator.keywords import Keywords
from curation.estimator.likelihood import Probe, contrast_statistics, guidance_projection, likelihood_ratio, measure
from curation.estimator.pipelines import UNetDenoiser

KEYWORDS = Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""})
PROBE = Probe(keywords=KEYWORDS, timesteps=(200, 600), contrasts=("opposite", "empty"), image_size=64, batch=4)


@pytest.fixture(scope="module")
def denoiser(v_pipeline: Path) -> UNetDenoiser:
    return UNetDenoiser(StableDiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32))


def pictures(count: int, *, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, 64, 64, 3), dtype=np.uint8))


def test_likelihood_ratio_favours_the_prompt_that_predicts_better() -> None:
    target = torch.zeros(2, 1, 1, 2)
    quality = torch.tensor([[0.0, 1.0], [3.0, 0.0]]).view(2, 1, 1, 2)
    against = torch.tensor([[2.0, 1.0], [1.0, 0.0]]).view(2, 1, 1, 2)
    assert likelihood_ratio(target, quality, against).tolist() == [2.0, -4.0]


def test_guidance_projection_is_a_length_along_the_direction_of_the_keywords() -> None:
    target, against = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    for scale in (0.5, 7.0):
        quality = torch.tensor([scale, 0.0]).view(1, 1, 1, 2)
        assert guidance_projection(target, quality, against).item() == pytest.approx(3.0)


def test_prompts_that_agree_have_no_contrast() -> None:
    target, same = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    assert all(values.tolist() == [0, 0, 0] for values in contrast_statistics(target, same, same).values())


def test_measured_ratio_is_the_one_computed_pass_by_pass(denoiser: UNetDenoiser) -> None:
    images = pictures(2)
    readings = measure(denoiser, PROBE, images, tokens=[1, 2])
    z = denoiser.latents(np.stack(images))
    ratios = []
    for noise in fixed_noise((4, 8, 8), draws=2, seed=0):
        z_t, target = denoiser.noised(z, noise, 600)
        quality, against = (denoiser.predict(z_t, 600, denoiser.encode(p)) for p in ("detailed photo", "a sketch"))
        ratios.append(likelihood_ratio(target, quality, against))
    expected = torch.stack(ratios).mean(dim=0).tolist()
    assert readings.statistics["ratio/opposite@600"].tolist() == pytest.approx(expected, rel=1e-3, abs=1e-7)
    assert readings.norms_BTNLK.shape == (2, 2, 2, len(readings.layers), 2)


def test_readings_do_not_depend_on_the_batch_a_picture_came_in(denoiser: UNetDenoiser) -> None:
    images = pictures(6)
    together = measure(denoiser, PROBE, images, tokens=[1])
    alone = measure(denoiser, PROBE, images[4:5], tokens=[1])
    assert np.array_equal(together.norms_BTNLK[4:5], alone.norms_BTNLK)
    for name, values in together.statistics.items():
        assert values[4] == alone.statistics[name][0]


def test_equal_prompts_are_asked_once(denoiser: UNetDenoiser) -> None:
    silent = replace(PROBE, keywords=KEYWORDS.silenced())
    calls = []
    hook = denoiser.network.register_forward_hook(lambda *_: calls.append(1))
    readings = measure(denoiser, silent, pictures(1), tokens=[0])
    hook.remove()
    assert len(calls) == silent.passes == 4  # two timesteps, two noises, one prompt
    assert readings.statistics["ratio/opposite@200"].tolist() == [0.0]
    assert np.isfinite(readings.statistics["residual/quality@200"]).all()


def test_without_contrasts_a_pass_ends_at_the_last_layer_read_and_norms_stay_the_same(denoiser: UNetDenoiser) -> None:
    whole = measure(denoiser, PROBE, pictures(2), tokens=[1, 3])
    shallow, deeper = whole.layers[:2]
    finished = []
    hook = denoiser.network.conv_out.register_forward_hook(lambda *_: finished.append(1))
    layers = {200: (deeper,), 600: (shallow, deeper)}
    short = measure(denoiser, replace(PROBE, contrasts=()), pictures(2), tokens=[1, 3], layers=layers)
    hook.remove()
    assert not finished and not short.statistics
    assert short.layers == (deeper, shallow)
    assert np.array_equal(short.norms_BTNLK[:, :, :, 0], whole.norms_BTNLK[:, :, :, 1])
    assert np.array_equal(short.norms_BTNLK[:, 1, :, 1], whole.norms_BTNLK[:, 1, :, 0])
    assert np.isnan(short.norms_BTNLK[:, 0, :, 1]).all()  # not asked for


def test_a_timestep_without_wanted_layers_costs_no_pass_but_for_its_contrasts(denoiser: UNetDenoiser) -> None:
    calls = []
    hook = denoiser.network.register_forward_pre_hook(lambda *_: calls.append(1))
    whole = measure(denoiser, PROBE, pictures(2), tokens=[1])
    asked, layers = len(calls), {200: whole.layers[:1]}
    measure(denoiser, replace(PROBE, contrasts=()), pictures(2), tokens=[1], layers=layers)
    assert len(calls) - asked == 2  # two noises at 200
    unread = measure(denoiser, PROBE, pictures(2), tokens=[], layers={})
    hook.remove()
    assert unread.norms_BTNLK.size == 0
    assert unread.statistics.keys() == whole.statistics.keys()
    for name, values in unread.statistics.items():
        assert values == pytest.approx(whole.statistics[name], rel=1e-2, abs=1e-5)


def test_a_prompt_is_encoded_once_for_all_pictures(v_pipeline: Path) -> None:
    own = UNetDenoiser(StableDiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32))
    calls = []
    own.pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        measure(own, PROBE, pictures(5), tokens=[1])
    assert len(calls) == len(PROBE.prompts())
