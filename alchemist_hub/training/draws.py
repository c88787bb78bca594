"""Everything random about one training step, as a pure function of (seed, step).

Because nothing depends on the steps before, a run's position is its step number and resume is exact by construction.
Shapes: B batch, C latent channels, h w latent height and width.
"""

import functools
import hashlib
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from alchemist_hub.training.objective import logit_normal_timesteps, uniform_timesteps, with_last_timesteps
from alchemist_hub.training.recipes import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The pictures of one step and what happens to each of them."""

    index_B: Tensor  # rows of the data set
    mirrored_B: Tensor  # bool: show the picture mirrored
    dropped_B: Tensor  # bool: show it with the unconditional embedding
    timestep_B: Tensor  # integers in [0, timesteps)
    spread_BChw: Tensor  # normal: where in the VAE's posterior the latent lies
    noise_BChw: Tensor  # normal: the noise that is to be found


def draw(recipe: TrainingRecipe, step: int, *, rows: int, timesteps: int, latent_shape: tuple[int, ...]) -> Draws:
    """Return the draws of `step` (counted from 0) for a data set of `rows` pictures and latents of (C, h, w)."""
    count, generator = recipe.batch_size, seeded(recipe.seed, "step", step)
    spread, noise = torch.randn(2, count, *latent_shape, generator=generator)
    if recipe.timesteps == "logit_normal":
        timestep_B = logit_normal_timesteps(count, timesteps, recipe.uniform_share, generator)
    else:
        timestep_B = uniform_timesteps(count, timesteps, generator)
    timestep_B = with_last_timesteps(timestep_B, timesteps, recipe.last_share, generator)
    dropped, mirrored = torch.rand(2, count, generator=generator)
    return Draws(
        index_B=batch_rows(recipe.seed, step, count, rows),
        mirrored_B=(mirrored < 0.5) & recipe.flip,
        dropped_B=dropped < recipe.caption_dropout,
        timestep_B=timestep_B,
        spread_BChw=spread,
        noise_BChw=noise,
    )


def batch_rows(seed: int, step: int, batch_size: int, rows: int) -> Tensor:
    """Return the rows of a step: the data set in a fresh order every epoch, cut into batches across the epochs."""
    positions = range(step * batch_size, (step + 1) * batch_size)
    return torch.stack([_epoch_order(seed, position // rows, rows)[position % rows] for position in positions])


@functools.lru_cache(maxsize=2)  # a batch touches at most the end of one epoch and, mostly, one more
def _epoch_order(seed: int, epoch: int, rows: int) -> Tensor:
    return torch.randperm(rows, generator=seeded(seed, "epoch", epoch))


def seeded(*parts: int | str) -> Generator:
    """Return a CPU generator that depends on `parts` alone; neighbouring steps and seeds are unrelated."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return Generator("cpu").manual_seed(int.from_bytes(digest[:4], "big"))
