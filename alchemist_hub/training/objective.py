"""The objective of diffusion training as plain functions of tensors: noising, targets, weights, timesteps.

Shapes: B batch, C latent channels, h w latent height and width, T timesteps of the schedule. `alpha_bar_B` is the
scheduler's `alphas_cumprod` at each picture's timestep, in [0, 1]; 0 is pure noise (zero terminal SNR). `sigma_B` is
the share of noise in flow matching, in [0, 1]; 1 is pure noise.
"""

import torch
from torch import Generator, Tensor

EPSILON, VELOCITY, FLOW = "epsilon", "v_prediction", "flow"


def interpolate(clean_BChw: Tensor, noise_BChw: Tensor, sigma_B: Tensor) -> Tensor:
    """Return (1 - sigma) clean + sigma noise: the straight path of flow matching (arXiv 2403.03206)."""
    sigma = _spread(sigma_B)
    return (1 - sigma) * clean_BChw + sigma * noise_BChw


def flow_target(clean_BChw: Tensor, noise_BChw: Tensor) -> Tensor:
    """Return the velocity along the straight path from the picture to the noise, the same everywhere on it."""
    return noise_BChw - clean_BChw


def add_noise(clean_BChw: Tensor, noise_BChw: Tensor, alpha_bar_B: Tensor) -> Tensor:
    """Return sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise."""
    alpha_bar = _spread(alpha_bar_B)
    return alpha_bar.sqrt() * clean_BChw + (1 - alpha_bar).sqrt() * noise_BChw


def target(prediction_type: str, clean_BChw: Tensor, noise_BChw: Tensor, alpha_bar_B: Tensor) -> Tensor:
    """Return what the denoiser should say: the noise ("epsilon") or the velocity ("v_prediction")."""
    if prediction_type == EPSILON:
        return noise_BChw
    if prediction_type == VELOCITY:
        alpha_bar = _spread(alpha_bar_B)
        return alpha_bar.sqrt() * noise_BChw - (1 - alpha_bar).sqrt() * clean_BChw
    raise ValueError(f"prediction type {prediction_type!r}; expected epsilon or v_prediction")


def min_snr_weight(prediction_type: str, alpha_bar_B: Tensor, gamma: float) -> Tensor:
    """Return min(snr, gamma) / snr for epsilon and min(snr, gamma) / (snr + 1) for v (arXiv 2303.09556).

    With snr = alpha_bar / (1 - alpha_bar) both are written without the division by zero at either end. At zero
    terminal SNR the v weight is 0: the last timestep is then not trained at all.
    """
    if prediction_type == VELOCITY:
        return torch.minimum(alpha_bar_B, gamma * (1 - alpha_bar_B))
    return (gamma * (1 - alpha_bar_B) / alpha_bar_B).clamp(max=1.0)


def weighted_mse(output_BChw: Tensor, target_BChw: Tensor, weight_B: Tensor) -> Tensor:
    """Return the weighted squared error of each picture, as (B,)."""
    return weight_B * (output_BChw.float() - target_BChw).square().mean(dim=(1, 2, 3))


def uniform_timesteps(count: int, timesteps: int, generator: Generator) -> Tensor:
    """Return `count` integers in [0, timesteps), all equally likely."""
    return torch.randint(0, timesteps, (count,), generator=generator)


def logit_normal_timesteps(count: int, timesteps: int, uniform_share: float, generator: Generator) -> Tensor:
    """Return `count` integers in [0, timesteps), most of them around the middle of the schedule.

    sigmoid(normal) scaled to the schedule (as in SD3, arXiv 2403.03206); each is replaced by a uniform one with
    probability `uniform_share`, so that the ends of the schedule are not forgotten.
    """
    middle = (torch.randn(count, generator=generator).sigmoid() * timesteps).long().clamp(max=timesteps - 1)
    anywhere = uniform_timesteps(count, timesteps, generator)
    return torch.where(torch.rand(count, generator=generator) < uniform_share, anywhere, middle)


def with_last_timesteps(timestep_B: Tensor, timesteps: int, share: float, generator: Generator) -> Tensor:
    """Return `timestep_B` with a `share` of them replaced by the last: where sampling starts at zero terminal SNR."""
    return torch.where(torch.rand(len(timestep_B), generator=generator) < share, timesteps - 1, timestep_B)


def _spread(values_B: Tensor) -> Tensor:
    return values_B[:, None, None, None]
