"""Where in a picture the estimator responds: its statistics before they are averaged over the picture.

Two maps, on the grid of the latents. Each has a statistic of the calibration for its mean:

likelihood   (target - against)^2 - (target - quality)^2, averaged over channels, noises, timesteps and contrasts, each
             in standard deviations of that ratio over the calibration pictures. Positive: here the picture looks like
             one that the quality keywords describe.
attention    the kept tokens' attention norms, spread over the positions they come from, standardised and signed like
             the score itself, averaged over kept positions and noises. Positive: here the picture draws attention as
             good pictures do.

Shapes: B pictures, C latent channels, h and w latent height and width, Q = h w positions at a layer's own resolution.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from curation.estimator.attention import NORMS, PlaceRecorder, recording
from curation.estimator.calibration import Calibration, Position
from curation.estimator.denoiser import Denoiser, fixed_noise, square
from curation.estimator.keywords import QUALITY

RATIO = "ratio"


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What `maps` finds for one picture: float32 (h, w), None where the calibration does not read it."""

    likelihood: np.ndarray | None
    attention: np.ndarray | None


def ratio_map(target: torch.Tensor, quality: torch.Tensor, against: torch.Tensor) -> torch.Tensor:
    """Return (B, h, w): what `likelihood.likelihood_ratio` is the mean of; all (B, C, h, w) in."""
    return ((target - against).square() - (target - quality).square()).mean(dim=1)


def on_grid(places_Q: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return values of a layer's positions, row by row, on a grid of `size` = (h, w) with the same mean.

    The layer has the grid's shape, or that divided by a whole number: a value is repeated.
    """
    height, width = size
    factor = round((height * width / len(places_Q)) ** 0.5)
    small = places_Q.reshape(height // factor, width // factor)
    return small.repeat_interleave(factor, 0).repeat_interleave(factor, 1)


def ratio_deviations(calibration: Calibration) -> dict[str, float]:
    """Return the standard deviation over the calibration pictures of every likelihood ratio that was asked for."""
    terms = {term.statistic: term.std for head in calibration.heads.values() for term in head.terms}
    return {name: std for name, std in terms.items() if name.startswith(f"{RATIO}/") and std > 1e-12}


def maps(denoiser: Denoiser, calibration: Calibration, image: np.ndarray) -> Maps:
    """Return where the estimator responds in a uint8 picture (H, W, 3): in its central square, which is what it sees.

    Costs the passes of one picture.
    """
    probe = calibration.probe
    z_1Chw = denoiser.latents(square(image, probe.image_size)[None])
    noise_DChw = fixed_noise(tuple(z_1Chw.shape[1:]), draws=probe.draws, seed=probe.noise_seed)
    found: dict[str, list[torch.Tensor]] = defaultdict(list)
    for timestep in probe.timesteps:
        for noise_Chw in noise_DChw:
            for name, map_hw in _one_draw(denoiser, calibration, z_1Chw, noise_Chw, timestep):
                found[name].append(map_hw)
    means = {name: torch.stack(each).mean(0).float().cpu().numpy() for name, each in found.items()}
    return Maps(likelihood=means.get("likelihood"), attention=means.get("attention"))


def _one_draw(
    denoiser: Denoiser, calibration: Calibration, z_1Chw: torch.Tensor, noise_Chw: torch.Tensor, timestep: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield a map for each contrast and for each kept position of this timestep."""
    probe, size = calibration.probe, (z_1Chw.shape[-2], z_1Chw.shape[-1])
    z_t, target = denoiser.noised(z_1Chw, noise_Chw, timestep)
    kept = [position for position in calibration.positions if position.timestep == timestep]
    tokens = sorted({position.token for position in kept})
    layers = calibration.layers.get(timestep, ())
    deviations = ratio_deviations(calibration)
    asked = {role: deviations.get(f"{RATIO}/{role}@{timestep}") for role in probe.contrasts}
    with recording(denoiser.network, tokens, layers, kind=PlaceRecorder, stop=not any(asked.values())) as recorder:
        quality = denoiser.predict(z_t, timestep, denoiser.encode(probe.keywords.prompt(QUALITY)))
    for position in kept:
        places_Q = recorder.places[position.layer][0, NORMS.index(calibration.norm), tokens.index(position.token)]
        yield "attention", on_grid(_standardised(places_Q, position), size)
    for role, deviation in asked.items():
        if deviation:
            against = denoiser.predict(z_t, timestep, denoiser.encode(probe.keywords.prompt(role)))
            yield "likelihood", ratio_map(target, quality, against)[0] / deviation


def _standardised(places_Q: torch.Tensor, position: Position) -> torch.Tensor:
    return position.sign * (places_Q - position.mean) / position.std
