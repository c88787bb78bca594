"""The schedules of the five published bases and the miniature, against the formulae and the library's samplers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling
from published import SCHEDULERS
from scipy.stats import ks_2samp

from alchemist_hub.errors import ModelError, TrainingError
from alchemist_hub.models import MODELS
from alchemist_hub.training import objective
from alchemist_hub.training.schedule import Schedule

DIFFUSION, FLOW = ("sd15", "sd21", "sdxl", "mini"), ("sd35m", "sd35l")
TIMESTEPS = torch.tensor([0, 1, 37, 250, 499, 500, 750, 998, 999])


def base_of(config: dict, folder: Path) -> Path:
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def schedule_of(tmp_path: Path):
    def read(key: str) -> Schedule:
        return Schedule.read(Path(MODELS[key].base) if key == "mini" else base_of(SCHEDULERS[key], tmp_path / key))

    return read


def library(key: str) -> DDPMScheduler:
    """The library's training scheduler, told in so many words what each base is."""
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type={"sd15": "epsilon", "sdxl": "epsilon"}.get(key, "v_prediction"),
        rescale_betas_zero_snr=key == "mini",
    )


def alpha_bars(key: str) -> np.ndarray:
    """Betas that are squares of evenly spaced numbers; the miniature's stretched so that the last alpha_bar is 0."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    root = np.cumprod(1 - betas) ** 0.5
    if key == "mini":  # arXiv 2305.08891, algorithm 1
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return root**2


@pytest.fixture
def latents() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(len(TIMESTEPS), 4, 8, 8), torch.randn(len(TIMESTEPS), 4, 8, 8)


@pytest.mark.parametrize("key", MODELS)
def test_the_objective_of_each_base_is_the_one_it_is_known_for(key: str, schedule_of):
    assert schedule_of(key).kind == MODELS[key].objective


@pytest.mark.parametrize("key", DIFFUSION)
def test_the_levels_of_diffusion_are_the_formulas(key: str, schedule_of):
    assert np.allclose(schedule_of(key).level_T, alpha_bars(key), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("key", FLOW)
def test_the_levels_of_flow_matching_are_evenly_spaced_sigmas_shifted_by_three(key: str, schedule_of):
    sigma = np.arange(1, 1001) / 1000
    assert np.allclose(schedule_of(key).level_T, 3 * sigma / (1 + 2 * sigma), atol=1e-6)


@pytest.mark.parametrize("key", DIFFUSION)
def test_noise_and_targets_of_diffusion_are_the_librarys(key: str, schedule_of, latents):
    clean, noise = latents
    noised, target = schedule_of(key).noised(clean, noise, TIMESTEPS)
    reference = library(key)
    velocity = reference.get_velocity(clean, noise, TIMESTEPS)
    assert torch.allclose(noised, reference.add_noise(clean, noise, TIMESTEPS), atol=1e-5)
    assert torch.allclose(target, noise if key in ("sd15", "sdxl") else velocity, atol=1e-5)


def test_sdxl_is_noised_as_its_own_sampler_shows_it(schedule_of, latents):
    clean, noise = latents
    sampler = EulerDiscreteScheduler.from_config(SCHEDULERS["sdxl"])
    sigma = ((1 - sampler.alphas_cumprod) / sampler.alphas_cumprod).sqrt()[TIMESTEPS, None, None, None]
    shown = sampler.add_noise(clean, noise, TIMESTEPS.float()) / (sigma**2 + 1).sqrt()
    assert torch.allclose(schedule_of("sdxl").noised(clean, noise, TIMESTEPS)[0], shown, atol=1e-4)


@pytest.mark.parametrize("key", FLOW)
def test_noise_of_flow_matching_is_the_librarys(key: str, schedule_of, latents):
    clean, noise = latents
    sampler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    expected = sampler.scale_noise(clean, sampler.timesteps[999 - TIMESTEPS], noise)
    assert torch.allclose(schedule_of(key).noised(clean, noise, TIMESTEPS)[0], expected, atol=1e-5)


@pytest.mark.parametrize("key", FLOW)
def test_one_step_along_the_target_of_flow_matching_ends_at_the_picture(key: str, schedule_of, latents):
    clean, noise = latents
    noised, target = schedule_of(key).noised(clean, noise, TIMESTEPS)
    for index, timestep in enumerate(TIMESTEPS.tolist()):
        sampler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        sampler.set_timesteps(sigmas=[(timestep + 1) / 1000])  # shifted by the sampler; then 0
        reached = sampler.step(target[index : index + 1], sampler.timesteps[0], noised[index : index + 1]).prev_sample
        assert torch.allclose(reached[0], clean[index], atol=1e-5)


@pytest.mark.parametrize("key", MODELS)
def test_the_denoiser_is_told_the_timesteps_that_its_sampler_would_tell(key: str, schedule_of):
    sampler = FlowMatchEulerDiscreteScheduler(shift=3.0) if key in FLOW else library(key)
    told = schedule_of(key).told(torch.arange(1000))
    assert torch.allclose(told.flip(0).double(), sampler.timesteps.double(), atol=1e-3)


@pytest.mark.parametrize("key", DIFFUSION)
def test_min_snr_weights_are_the_papers_at_every_timestep(key: str, schedule_of):
    alpha_bar = alpha_bars(key)
    with np.errstate(divide="ignore"):
        snr = alpha_bar / (1 - alpha_bar)
        expected = np.minimum(snr, 5.0) / (snr if key in ("sd15", "sdxl") else snr + 1)
    weights = schedule_of(key).weight(torch.arange(1000), 5.0)
    assert weights.isfinite().all()
    assert np.allclose(weights, expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("key", MODELS)
def test_without_gamma_every_timestep_counts_the_same(key: str, schedule_of):
    assert torch.equal(schedule_of(key).weight(torch.arange(1000), None), torch.ones(1000))


def test_min_snr_is_refused_for_flow_matching(schedule_of):
    with pytest.raises(TrainingError, match="min_snr_gamma is 5.0; it has to be none"):
        schedule_of("sd35m").weight(TIMESTEPS, 5.0)


def test_the_sigmas_of_sd3_are_spread_as_in_the_librarys_own_training(schedule_of):
    generator = torch.Generator().manual_seed(0)
    drawn = objective.logit_normal_timesteps(20_000, 1000, 0.0, generator)
    share = compute_density_for_timestep_sampling("logit_normal", 20_000, 0.0, 1.0, generator=generator)
    sigmas = FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas[(share * 1000).long()]
    assert ks_2samp(schedule_of("sd35m").level_T[drawn], sigmas).statistic < 0.02


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "DDPMScheduler", "beta_schedule": "linear", "prediction_type": "sample"}, "predicts 'sample'"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler", "shift": 3.0}, "has a FlowMatchHeunDiscreteScheduler"),
        ({"_class_name": "EDMEulerScheduler", "sigma_data": 0.5}, "has a EDMEulerScheduler"),
        ({}, "no scheduler that can be read: '_class_name'"),
    ],
)
def test_a_schedule_that_cannot_be_trained_by_is_one_line(config: dict, message: str, tmp_path: Path):
    with pytest.raises(ModelError, match=message) as caught:
        Schedule.read(base_of(config, tmp_path))
    assert "\n" not in str(caught.value)


def test_a_base_without_a_scheduler_is_one_line(tmp_path: Path):
    with pytest.raises(ModelError, match="no scheduler that can be read"):
        Schedule.read(tmp_path)
    (base_of({}, tmp_path) / "scheduler" / "scheduler_config.json").write_text("{")
    with pytest.raises(ModelError, match="no scheduler that can be read"):
        Schedule.read(tmp_path)
