"""The noise schedule of a base, read from its scheduler: what a timestep means, what the denoiser is to say there.

Shapes: B batch, C latent channels, h w latent height and width, T timesteps.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from alchemist_hub.errors import ModelError, TrainingError
from alchemist_hub.training import objective

_DIFFUSION = (objective.EPSILON, objective.VELOCITY)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How strong the noise is at each of T timesteps, from weak to strong.

    `level_T` is alpha_bar for "epsilon" and "v_prediction", falling; sigma for "flow", rising, with the scheduler's
    shift inside it.
    """

    kind: str
    level_T: Tensor

    @classmethod
    def read(cls, base: Path) -> "Schedule":
        """Read the scheduler of a pipeline folder. Raises `ModelError` for none, or an objective that is not known."""
        try:
            config = json.loads((base / "scheduler" / "scheduler_config.json").read_text())
            name = config["_class_name"]
        except (OSError, ValueError, KeyError) as error:  # ValueError: not JSON
            raise ModelError(f"{base} has no scheduler that can be read: {error}") from error
        if name == FlowMatchEulerDiscreteScheduler.__name__:
            scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(base, subfolder="scheduler")
            return cls(kind=objective.FLOW, level_T=scheduler.sigmas.flip(0))
        if "beta_schedule" not in config:  # DDPMScheduler would fill in betas of its own
            raise ModelError(f"{base} has a {name}; expected {FlowMatchEulerDiscreteScheduler.__name__} or betas")
        scheduler = DDPMScheduler.from_pretrained(base, subfolder="scheduler")
        kind = scheduler.config.prediction_type
        if kind not in _DIFFUSION:
            raise ModelError(f"{base} predicts {kind!r}; expected flow matching or one of {', '.join(_DIFFUSION)}")
        return cls(kind=kind, level_T=scheduler.alphas_cumprod)

    def noised(self, clean_BChw: Tensor, noise_BChw: Tensor, timestep_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noised latents and what the denoiser should say about them, both (B, C, h, w)."""
        level_B = self.level_T[timestep_B].to(clean_BChw.device)
        if self.kind == objective.FLOW:
            return (
                objective.interpolate(clean_BChw, noise_BChw, level_B),
                objective.flow_target(clean_BChw, noise_BChw),
            )
        return (
            objective.add_noise(clean_BChw, noise_BChw, level_B),
            objective.target(self.kind, clean_BChw, noise_BChw, level_B),
        )

    def told(self, timestep_B: Tensor) -> Tensor:
        """Return the timesteps as the denoiser is told them: 1,000 sigma for flow matching, else the integers."""
        return self.level_T[timestep_B] * len(self.level_T) if self.kind == objective.FLOW else timestep_B

    def weight(self, timestep_B: Tensor, gamma: float | None) -> Tensor:
        """Return the weight of each picture's loss (B,): min-SNR with `gamma`, 1 without.

        Raises `TrainingError` for `gamma` in flow matching, which is weighted by the timesteps that are drawn.
        """
        level_B = self.level_T[timestep_B]
        if gamma is None:
            return torch.ones_like(level_B)
        if self.kind == objective.FLOW:
            raise TrainingError(f"training recipe: min_snr_gamma is {gamma!r}; it has to be none for flow matching")
        return objective.min_snr_weight(self.kind, level_B, gamma)
