import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling
from scipy.stats import ks_2samp, kstest, norm

from alchemist_hub.training import objective

TIMESTEPS = torch.tensor([0, 250, 500, 999])


def scheduler(prediction_type: str = "v_prediction") -> DDPMScheduler:
    return DDPMScheduler(prediction_type=prediction_type, rescale_betas_zero_snr=prediction_type == "v_prediction")


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(4, 4, 8, 8), torch.randn(4, 4, 8, 8)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_noising_and_targets_are_the_librarys(prediction_type: str, tensors):
    clean, noise = tensors
    library = scheduler(prediction_type)
    alpha_bar = library.alphas_cumprod[TIMESTEPS]
    noised = objective.add_noise(clean, noise, alpha_bar)
    assert torch.allclose(noised, library.add_noise(clean, noise, TIMESTEPS), atol=1e-6)
    expected = noise if prediction_type == "epsilon" else library.get_velocity(clean, noise, TIMESTEPS)
    assert torch.allclose(objective.target(prediction_type, clean, noise, alpha_bar), expected, atol=1e-6)


def test_at_zero_terminal_snr_the_input_is_noise_and_the_target_the_picture(tensors):
    clean, noise = tensors
    nothing = scheduler().alphas_cumprod[torch.tensor([999] * 4)]
    assert nothing.max() == 0
    assert torch.equal(objective.add_noise(clean, noise, nothing), noise)
    assert torch.equal(objective.target("v_prediction", clean, noise, nothing), -clean)


def test_an_unknown_prediction_type_is_refused(tensors):
    with pytest.raises(ValueError, match="'sample'"):
        objective.target("sample", *tensors, torch.full((4,), 0.5))


def test_min_snr_weights_follow_the_formula_of_the_paper():
    alpha_bar = torch.tensor([0.05, 0.5, 0.9, 0.999])
    snr = alpha_bar / (1 - alpha_bar)
    capped = snr.clamp(max=5.0)
    assert torch.allclose(objective.min_snr_weight("epsilon", alpha_bar, 5.0), capped / snr)
    assert torch.allclose(objective.min_snr_weight("v_prediction", alpha_bar, 5.0), capped / (snr + 1))


@pytest.mark.parametrize(("prediction_type", "at_noise", "at_picture"), [("epsilon", 1, 0), ("v_prediction", 0, 0)])
def test_min_snr_weights_are_finite_at_both_ends(prediction_type: str, at_noise: float, at_picture: float):
    weights = objective.min_snr_weight(prediction_type, torch.tensor([0.0, 1.0]), 5.0)
    assert weights.tolist() == [at_noise, at_picture]


def test_the_error_is_weighted_per_picture():
    errors = objective.weighted_mse(torch.full((2, 1, 2, 2), 3.0), torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 0.5]))
    assert errors.tolist() == [9.0, 4.5]


def test_uniform_timesteps_cover_the_schedule_evenly():
    drawn = objective.uniform_timesteps(20_000, 10, torch.Generator().manual_seed(0))
    assert torch.bincount(drawn, minlength=10).min() > 1800
    assert (drawn.min(), drawn.max()) == (0, 9)


def test_logit_normal_timesteps_prefer_the_middle_and_reach_the_ends():
    drawn = objective.logit_normal_timesteps(20_000, 1000, 0.1, torch.Generator().manual_seed(0))
    middle = ((drawn >= 250) & (drawn < 750)).float().mean()
    # P(|normal| < log 3) = 0.728, and a tenth of the draws is uniform
    assert middle == pytest.approx(0.9 * 0.728 + 0.1 * 0.5, abs=0.01)
    assert drawn.min() < 10
    assert drawn.max() >= 990


def test_without_a_uniform_share_the_ends_are_rare():
    drawn = objective.logit_normal_timesteps(20_000, 1000, 0.0, torch.Generator().manual_seed(0))
    assert ((drawn < 10) | (drawn >= 990)).float().mean() < 1e-3


def test_the_last_timestep_gets_its_share():
    drawn = objective.with_last_timesteps(torch.zeros(10_000).long(), 1000, 0.2, torch.Generator().manual_seed(0))
    assert (drawn == 999).float().mean() == pytest.approx(0.2, abs=0.02)
    assert set(drawn.tolist()) == {0, 999}


def test_sigma_before_its_shift_is_logit_normal():
    drawn = objective.logit_normal_timesteps(20_000, 1000, 0.0, torch.Generator().manual_seed(0))
    sigma = ((drawn + 0.5) / 1000).double()  # the middle of what became this timestep
    assert kstest(sigma.numpy(), lambda share: norm.cdf(np.log(share / (1 - share)))).statistic < 0.012  # p of 0.01


def test_logit_normal_timesteps_are_spread_as_the_librarys():
    generator = torch.Generator().manual_seed(0)
    drawn = objective.logit_normal_timesteps(20_000, 1000, 0.0, generator)
    share = compute_density_for_timestep_sampling("logit_normal", 20_000, 0.0, 1.0, generator=generator)
    assert ks_2samp(drawn, (share * 1000).long()).statistic < 0.0163  # p of 0.01


def test_the_path_of_flow_matching_is_straight_from_the_picture_to_the_noise(tensors):
    clean, noise = tensors
    ends, middle = torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.full((4,), 0.25)
    at_ends = objective.interpolate(clean, noise, ends)
    assert torch.equal(at_ends[0], clean[0])
    assert torch.equal(at_ends[1], noise[1])
    moved = objective.interpolate(clean, noise, middle) - clean
    assert torch.allclose(moved / 0.25, objective.flow_target(clean, noise), atol=1e-5)
