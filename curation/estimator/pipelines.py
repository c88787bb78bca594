"""The classes of pipelines that the estimator reads, and what is particular to each.

SD 1.x, 2.x and the miniature (`UNetDenoiser`), SDXL (`XLDenoiser`), SD 3 and 3.5 (`JointDenoiser`).

Shapes: B pictures, C latent channels, h and w latent height and width.
"""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from curation.errors import CalibrationError
from curation.estimator.denoiser import Denoiser, Text, text_positions

TARGETS = ("epsilon", "v_prediction")
# Settings of a scheduler that decide how much noise there is at a timestep.
BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
SIGMAS = ("num_train_timesteps", "shift", "use_dynamic_shifting", "invert_sigmas", "shift_terminal")
T5_POSITIONS = 256  # text positions of T5, the pipeline's own default; they follow those of CLIP


class UNetDenoiser(Denoiser):
    """A StableDiffusionPipeline: a UNet, one text encoder."""

    pipeline = StableDiffusionPipeline
    component = "unet"

    def __init__(self, pipe: DiffusionPipeline) -> None:
        """Raises CalibrationError if the scheduler asks the UNet for something unknown."""
        super().__init__(pipe)
        self.kind = pipe.scheduler.config.prediction_type
        if self.kind not in TARGETS:
            raise CalibrationError(f"the scheduler predicts {self.kind!r}; the estimator knows {', '.join(TARGETS)}")

    @classmethod
    def left_out(cls, index: dict[str, Any]) -> dict[str, None]:
        return {"safety_checker": None}

    def schedule(self) -> dict[str, Any]:
        return {"kind": self.kind} | _settings(self.pipe.scheduler, BETAS)

    def noised(self, z_BChw: torch.Tensor, noise_Chw: torch.Tensor, timestep: int) -> tuple[torch.Tensor, torch.Tensor]:
        alpha_bar = float(self.pipe.scheduler.alphas_cumprod[timestep])
        return diffuse(z_BChw, noise_Chw.to(z_BChw), alpha_bar, kind=self.kind)

    def forward(self, z_BChw: torch.Tensor, timestep: int, text: Text) -> torch.Tensor:
        text_BSE = text.states.expand(len(z_BChw), -1, -1)
        return self.network(z_BChw, timestep, encoder_hidden_states=text_BSE, return_dict=False)[0]

    def _positions(self, prompt: str) -> Iterator[tuple[str, str]]:
        tokenizer = self.tokenizers[0]
        return text_positions(tokenizer, prompt, tokenizer.model_max_length)

    def _encode(self, prompt: str) -> Text:
        return Text(states=self.pipe.encode_prompt(prompt, self.network.device, 1, False)[0])


class XLDenoiser(UNetDenoiser):
    """A StableDiffusionXLPipeline. Both tokenizers cut a prompt alike; roles and texts are read from the first."""

    pipeline = StableDiffusionXLPipeline

    @classmethod
    def left_out(cls, index: dict[str, Any]) -> dict[str, None]:
        return {}

    def forward(self, z_BChw: torch.Tensor, timestep: int, text: Text) -> torch.Tensor:
        count, side = len(z_BChw), z_BChw.shape[-1] * self.pipe.vae_scale_factor
        original, crop, target = (side, side), (0, 0), (side, side)  # a square of this size, not cropped
        added = {
            "text_embeds": text.pooled.expand(count, -1),
            "time_ids": z_BChw.new_tensor([original + crop + target]).expand(count, -1),
        }
        text_BSE = text.states.expand(count, -1, -1)
        return self.network(
            z_BChw, timestep, encoder_hidden_states=text_BSE, added_cond_kwargs=added, return_dict=False
        )[0]

    def _encode(self, prompt: str) -> Text:
        """An empty prompt is what the pipeline takes for no prompt: zeros where it was trained on zeros."""
        states, no_states, pooled, no_pooled = self.pipe.encode_prompt(prompt, device=self.network.device)
        return Text(states=states, pooled=pooled) if prompt else Text(states=no_states, pooled=no_pooled)


class JointDenoiser(Denoiser):
    """A StableDiffusion3Pipeline: a transformer with joint attention that predicts the flow from picture to noise."""

    pipeline = StableDiffusion3Pipeline
    component = "transformer"

    def __init__(self, pipe: DiffusionPipeline) -> None:
        """Raises CalibrationError if the scheduler is not one of flow matching."""
        super().__init__(pipe)
        if not isinstance(pipe.scheduler, FlowMatchEulerDiscreteScheduler):
            raise CalibrationError(
                f"the scheduler is a {type(pipe.scheduler).__name__}; expected a FlowMatchEulerDiscreteScheduler"
            )
        # one of its own: sampling overwrites the sigmas of the pipeline's
        self.sigmas = FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config).sigmas.flip(0)

    @classmethod
    def left_out(cls, index: dict[str, Any]) -> dict[str, None]:
        """T5 where the folder has none: the pipeline then puts zeros in its place, but has to be told."""
        return {name: None for name in ("text_encoder_3", "tokenizer_3") if not any(index.get(name, ()))}

    def schedule(self) -> dict[str, Any]:
        return {"kind": "flow"} | _settings(self.pipe.scheduler, SIGMAS)

    def sigma(self, timestep: int) -> float:
        """Return the share of noise at `timestep`, counted before the scheduler's shift: 1 to 1000."""
        return float(self.sigmas[timestep - 1])

    def noised(self, z_BChw: torch.Tensor, noise_Chw: torch.Tensor, timestep: int) -> tuple[torch.Tensor, torch.Tensor]:
        sigma, noise_Chw = self.sigma(timestep), noise_Chw.to(z_BChw)
        return (1 - sigma) * z_BChw + sigma * noise_Chw, noise_Chw - z_BChw

    def forward(self, z_BChw: torch.Tensor, timestep: int, text: Text) -> torch.Tensor:
        count = len(z_BChw)
        shifted = self.sigma(timestep) * len(self.sigmas)
        return self.network(
            z_BChw,
            encoder_hidden_states=text.states.expand(count, -1, -1),
            pooled_projections=text.pooled.expand(count, -1),
            timestep=z_BChw.new_full((count,), shifted, dtype=torch.float32),
            return_dict=False,
        )[0]

    def _positions(self, prompt: str) -> Iterator[tuple[str, str]]:
        """CLIP's positions, read from the first tokenizer, then those of T5, all padding where it is missing."""
        yield from text_positions(self.tokenizers[0], prompt, self.pipe.tokenizer_max_length)
        if self.pipe.text_encoder_3 is None:
            yield from [("", "padding")] * T5_POSITIONS
        else:
            yield from text_positions(self.pipe.tokenizer_3, prompt, T5_POSITIONS)

    def _encode(self, prompt: str) -> Text:
        states, _, pooled, _ = self.pipe.encode_prompt(
            prompt,
            None,
            None,
            device=self.network.device,
            do_classifier_free_guidance=False,
            max_sequence_length=T5_POSITIONS,
        )
        return Text(states=states, pooled=pooled)


READ = {kind.pipeline.__name__: kind for kind in (UNetDenoiser, XLDenoiser, JointDenoiser)}  # by name of the pipeline


def denoiser_of(pipe: DiffusionPipeline | Denoiser) -> Denoiser:
    """Return what asks `pipe`, or `pipe` itself if it is that. Raises CalibrationError for an unknown class."""
    return pipe if isinstance(pipe, Denoiser) else reader(type(pipe).__name__)(pipe)


def reader(pipeline: str) -> type[Denoiser]:
    """Return the class that reads pipelines of the named class. Raises CalibrationError if there is none."""
    if pipeline not in READ:
        raise CalibrationError(f"the estimator reads {', '.join(READ)}, not {pipeline}")
    return READ[pipeline]


def _settings(scheduler: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the named settings; one that a class of schedulers does not know counts as switched off."""
    return {name: scheduler.config.get(name) or None for name in names}


def diffuse(
    z_BChw: torch.Tensor, noise_Chw: torch.Tensor, alpha_bar: float, *, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (z_t, target) at signal share `alpha_bar`; `kind` is "epsilon" or "v_prediction"."""
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    z_t = signal * z_BChw + noise * noise_Chw
    if kind == "epsilon":
        return z_t, noise_Chw.expand_as(z_BChw)
    return z_t, signal * noise_Chw - noise * z_BChw
