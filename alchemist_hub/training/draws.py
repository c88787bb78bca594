"""Everything random about one training step, as a pure function of (seed, step).

Because nothing depends on the steps before, a run's position is its step number and resume is exact by construction.
Shapes: B batch, N numbers in the latents of the largest bucket, S slots (forward passes) of a run.
"""

import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from alchemist_hub.training.objective import logit_normal_timesteps, uniform_timesteps, with_last_timesteps
from alchemist_hub.training.recipes import TrainingRecipe


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What happens to each picture of one step."""

    mirrored_B: Tensor  # bool: show the picture mirrored
    dropped_B: Tensor  # bool: show it with the unconditional embedding
    timestep_B: Tensor  # integers in [0, timesteps)
    spread_BN: Tensor  # normal: where in the VAE's posterior the latent lies; smaller buckets use the first numbers
    noise_BN: Tensor  # normal: the noise that is to be found


def draw(recipe: TrainingRecipe, step: int, *, timesteps: int, numbers: int) -> Draws:
    """Return the draws of `step` (counted from 0) for latents of at most `numbers` numbers."""
    count, generator = recipe.batch_size, seeded(recipe.seed, "step", step)
    spread, noise = torch.randn(2, count, numbers, generator=generator)
    if recipe.timesteps == "logit_normal":
        timestep_B = logit_normal_timesteps(count, timesteps, recipe.uniform_share, generator)
    else:
        timestep_B = uniform_timesteps(count, timesteps, generator)
    timestep_B = with_last_timesteps(timestep_B, timesteps, recipe.last_share, generator)
    dropped, mirrored = torch.rand(2, count, generator=generator)
    return Draws(
        mirrored_B=(mirrored < 0.5) & recipe.flip,
        dropped_B=dropped < recipe.caption_dropout,
        timestep_B=timestep_B,
        spread_BN=spread,
        noise_BN=noise,
    )


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which pictures each forward pass shows: `size` of one bucket, every bucket as often as its share of pictures.

    A slot is the place of a forward pass in the run. Each bucket goes through its pictures in a fresh order every epoch
    and is cut into passes across its epochs.
    """

    seed: int
    size: int  # pictures a forward pass
    members: tuple[Tensor, ...]  # rows of each bucket
    plan_S2: Tensor  # bucket of every slot, and how many slots that bucket had before

    @classmethod
    def planned(cls, seed: int, size: int, members: Sequence[Tensor], slots: int) -> "Order":
        """Plan a run of `slots` forward passes."""
        plan: list[tuple[int, int]] = []
        shown = [0] * len(members)  # slots so far, by bucket
        for epoch in itertools.count():
            # whole passes due by the end of this epoch less those due before it: over a run, each bucket has its share
            due = [len(rows) * (epoch + 1) // size - len(rows) * epoch // size for rows in members]
            buckets = torch.arange(len(members)).repeat_interleave(torch.tensor(due))
            for bucket in buckets[torch.randperm(len(buckets), generator=seeded(seed, "buckets", epoch))].tolist():
                plan.append((bucket, shown[bucket]))
                shown[bucket] += 1
            if len(plan) >= slots:
                return cls(seed=seed, size=size, members=tuple(members), plan_S2=torch.tensor(plan[:slots]))

    def rows(self, slot: int) -> tuple[int, Tensor]:
        """Return the bucket of a slot and the rows that are shown."""
        bucket, turn = self.plan_S2[slot].tolist()
        rows = self.members[bucket]
        positions = range(turn * self.size, (turn + 1) * self.size)
        shown = [
            _epoch_order(self.seed, position // len(rows), len(rows))[position % len(rows)] for position in positions
        ]
        return bucket, rows[torch.stack(shown)]


@functools.lru_cache(maxsize=128)  # a pass touches at most the end of one epoch and, mostly, one more, of its bucket
def _epoch_order(seed: int, epoch: int, rows: int) -> Tensor:
    return torch.randperm(rows, generator=seeded(seed, "epoch", epoch))


def seeded(*parts: int | str) -> Generator:
    """Return a CPU generator that depends on `parts` alone; neighbouring steps and seeds are unrelated."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return Generator("cpu").manual_seed(int.from_bytes(digest[:4], "big"))
