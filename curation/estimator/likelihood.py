"""What the model says about a picture under each prompt: likelihood ratios, projections, and attention norms.

A `Probe` names the questions; `measure` asks them. The attention norms are recorded in the very pass that predicts
with the quality prompt. Everything that the prompts share (z_t, targets, text encodings)
is computed once.

Shapes: B pictures, C latent channels, h and w latent height and width, T timesteps, N norms, L layers, K tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from curation.estimator.attention import NORMS, recording, text_attention
from curation.estimator.denoiser import Denoiser, Text, fixed_noise, square
from curation.estimator.keywords import QUALITY, Keywords

KINDS = ("ratio", "relative", "projection", "strength")  # one statistic each for every contrast and timestep


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The questions: which prompts, at which noise, drawn how.

    `contrasts` are the roles that the quality prompt is set against. Without any only attention is read, and each
    pass stops at the deepest layer that is needed.
    """

    keywords: Keywords
    timesteps: tuple[int, ...]
    contrasts: tuple[str, ...]
    draws: int = 2  # noises per timestep, in pairs of opposite sign
    noise_seed: int = 0
    image_size: int = 512  # pixels a side
    batch: int = 32  # pictures a pass; always filled up, so that no score depends on its neighbours

    def prompts(self) -> tuple[str, ...]:
        """Return the distinct prompts to predict with, the quality prompt first."""
        return tuple(dict.fromkeys(self.keywords.prompt(role) for role in (QUALITY, *self.contrasts)))

    @property
    def passes(self) -> int:
        """Forward passes a picture."""
        return len(self.timesteps) * self.draws * len(self.prompts())


@dataclass(frozen=True, kw_only=True)
class Readings:
    """The answers about B pictures: named statistics (B,) and attention norms of the quality prompt.

    A norm that was not asked for is not a number.
    """

    statistics: dict[str, np.ndarray]
    norms_BTNLK: np.ndarray
    layers: tuple[str, ...]
    tokens: tuple[int, ...]


def measure(
    denoiser: Denoiser,
    probe: Probe,
    images: Sequence[np.ndarray],
    *,
    tokens: Sequence[int],
    layers: Mapping[int, Sequence[str]] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Readings:
    """Ask `probe` about uint8 pictures (H, W, 3) of any size.

    Text positions `tokens` are recorded at `layers`, named for each timestep (a timestep that is left out: none), or
    else at all layers.
    """
    if layers is None:
        layers = dict.fromkeys(probe.timesteps, tuple(text_attention(denoiser.network)))
    texts = {prompt: denoiser.encode(prompt) for prompt in probe.prompts()}
    every_layer = tuple(dict.fromkeys(layer for timestep in probe.timesteps for layer in layers.get(timestep, ())))
    wanted = Wanted(tokens=tuple(tokens), layers=layers, every_layer=every_layer)
    parts = []
    for start in range(0, len(images), probe.batch):
        batch = [square(image, probe.image_size) for image in images[start : start + probe.batch]]
        full_BHWC = np.stack(batch + [batch[-1]] * (probe.batch - len(batch)))
        parts.append(_measure_batch(denoiser, probe, texts, full_BHWC, wanted, count=len(batch)))
        progress(start + len(batch), len(images))
    return Readings(
        statistics={name: np.concatenate([part[0][name] for part in parts]) for name in parts[0][0]},
        norms_BTNLK=np.concatenate([part[1] for part in parts]),
        layers=every_layer,
        tokens=wanted.tokens,
    )


def residual(target_BChw: torch.Tensor, prediction_BChw: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of a prediction (B,)."""
    return (target_BChw - prediction_BChw).square().mean(dim=(1, 2, 3))


def likelihood_ratio(target: torch.Tensor, quality: torch.Tensor, against: torch.Tensor) -> torch.Tensor:
    """Return mean (target - against)^2 - (target - quality)^2 (B,): positive if the keywords explain the picture."""
    return ((target - against).square() - (target - quality).square()).mean(dim=(1, 2, 3))


def guidance_projection(target: torch.Tensor, quality: torch.Tensor, against: torch.Tensor) -> torch.Tensor:
    """Return how far the truth lies from `against` along the unit direction towards `quality` (B,)."""
    direction = quality - against
    inner_B = (direction * (target - against)).sum(dim=(1, 2, 3))
    return inner_B / direction.square().sum(dim=(1, 2, 3)).sqrt().clamp_min(1e-12)


def contrast_statistics(target: torch.Tensor, quality: torch.Tensor, against: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return one value a picture for each of `KINDS`; all (B, C, h, w) in, (B,) out."""
    tiny = 1e-12
    values = (
        likelihood_ratio(target, quality, against),
        ((residual(target, against) + tiny) / (residual(target, quality) + tiny)).log(),
        guidance_projection(target, quality, against),
        (quality - against).square().sum(dim=(1, 2, 3)).sqrt(),
    )
    return dict(zip(KINDS, values, strict=True))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to record of the attention: text positions, at which layers of which timestep."""

    tokens: tuple[int, ...]
    layers: Mapping[int, Sequence[str]]
    every_layer: tuple[str, ...]


def _measure_batch(
    denoiser: Denoiser,
    probe: Probe,
    texts: dict[str, Text],
    images_BHWC: np.ndarray,
    wanted: Wanted,
    *,
    count: int,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the statistics and norms_BTNLK of the first `count` pictures, averaged over the noise draws."""
    z_BChw = denoiser.latents(images_BHWC)
    noise_DChw = fixed_noise(tuple(z_BChw.shape[1:]), draws=probe.draws, seed=probe.noise_seed)
    statistics: dict[str, np.ndarray] = {}
    norms_BTNLK = np.full(
        (count, len(probe.timesteps), len(NORMS), len(wanted.every_layer), len(wanted.tokens)), np.nan, np.float32
    )
    for index, timestep in enumerate(probe.timesteps):
        draws = [_one_draw(denoiser, probe, texts, z_BChw, noise_Chw, timestep, wanted) for noise_Chw in noise_DChw]
        for name in draws[0][0]:
            mean_B = torch.stack([values[name] for values, _ in draws]).mean(dim=0)
            statistics[f"{name}@{timestep}"] = mean_B[:count].double().cpu().numpy()
        if layers := wanted.layers.get(timestep):
            mean_BNLK = torch.stack([norms_BNLK for _, norms_BNLK in draws]).mean(dim=0)
            places_L = [wanted.every_layer.index(layer) for layer in layers]
            norms_BTNLK[:, index][:, :, places_L] = mean_BNLK[:count].cpu().numpy()
    return statistics, norms_BTNLK


def _one_draw(
    denoiser: Denoiser,
    probe: Probe,
    texts: dict[str, Text],
    z_BChw: torch.Tensor,
    noise_Chw: torch.Tensor,
    timestep: int,
    wanted: Wanted,
) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
    """Return the statistics (B,), none without contrasts, and norms_BNLK, None if no layer is wanted here."""
    z_t, target = denoiser.noised(z_BChw, noise_Chw, timestep)
    quality_prompt, *others = probe.prompts()
    layers, norms_BNLK, quality = wanted.layers.get(timestep), None, None
    if layers:
        with recording(denoiser.network, wanted.tokens, layers, stop=not probe.contrasts) as recorder:
            quality = denoiser.predict(z_t, timestep, texts[quality_prompt])
            norms_BNLK = recorder.take()
    elif probe.contrasts:
        quality = denoiser.predict(z_t, timestep, texts[quality_prompt])
    if not probe.contrasts:
        return {}, norms_BNLK
    predicted = {quality_prompt: quality, **{text: denoiser.predict(z_t, timestep, texts[text]) for text in others}}
    statistics = {f"residual/{QUALITY}": residual(target, quality).log()}
    for role in probe.contrasts:
        contrast = contrast_statistics(target, quality, predicted[probe.keywords.prompt(role)])
        statistics |= {f"{kind}/{role}": values for kind, values in contrast.items()}
    return statistics, norms_BNLK
