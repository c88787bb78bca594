"""What differs between the classes of pipelines in training: the text encodings, what is dropped, the denoiser's call.

Shapes: B batch, C latent channels, h w latent height and width, L tokens, D width, P pooled width.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import (
    DiffusionPipeline,
    ModelMixin,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor

from alchemist_hub.errors import ModelError, TrainingError
from alchemist_hub.training.recipes import TrainingRecipe

Text = dict[str, Tensor]  # "states" (B, L, D), and "pooled" (B, P) where the denoiser asks for it


class Family(ABC):
    """One class of pipelines."""

    pipeline: ClassVar[type[DiffusionPipeline]]
    component: ClassVar[str]  # what the pipeline calls its denoiser
    network: ClassVar[type[ModelMixin]]
    text_parts: ClassVar[tuple[str, ...]]  # the components that decide the text encodings

    def encoders(self, base: Path, *, t5: bool, device: torch.device | str) -> DiffusionPipeline:
        """Return the pipeline in `base` without its denoiser, in float32 on `device`; T5 in bfloat16 on a card."""
        pipe = self.pipeline.from_pretrained(base, use_safetensors=True, **self._left_out(base, t5))
        for name, part in pipe.components.items():
            if isinstance(part, torch.nn.Module) and name != self.component:
                large = name == "text_encoder_3" and torch.device(device).type == "cuda"
                part.to(device).bfloat16() if large else part.to(device).float()
        return pipe

    def denoiser(self, base: Path) -> ModelMixin:
        """Return the denoiser in `base`, in float32."""
        return self.network.from_pretrained(base, subfolder=self.component, use_safetensors=True).float()

    def prepare(self, denoiser: ModelMixin, recipe: TrainingRecipe) -> None:
        """Set how the denoiser computes. Raises `TrainingError` for what its class or this machine cannot do."""
        if recipe.gradient_checkpointing:
            denoiser.enable_gradient_checkpointing()
        if recipe.attention == "plain":
            self._attend_plainly(denoiser)
        if recipe.attention == "xformers":
            try:
                denoiser.enable_xformers_memory_efficient_attention()
            except (ModuleNotFoundError, ValueError) as error:  # ValueError: no GPU
                raise TrainingError(f"no attention 'xformers' here: {str(error).splitlines()[0]}") from error
        if recipe.compile:
            denoiser.compile()
        denoiser.train()

    def painter(self, base: Path, denoiser: torch.nn.Module) -> DiffusionPipeline:
        """Return the pipeline in `base` with another denoiser and without text encoders: it takes encodings."""
        index = json.loads((base / "model_index.json").read_text())
        absent = {name: None for name in self.text_parts if name in index}
        parts = self._left_out(base, t5=True) | absent | {self.component: denoiser}
        pipe = self.pipeline.from_pretrained(base, use_safetensors=True, **parts)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def argument(self, name: str) -> str:
        """Return what the pipeline calls a text encoding when it is handed over."""
        return {"states": "prompt_embeds", "pooled": "pooled_prompt_embeds"}[name]

    @abstractmethod
    def texts(self, pipe: DiffusionPipeline, prompts: Sequence[str]) -> Text:
        """Return the encodings of `prompts`, by the same function that encodes them for sampling."""

    def unconditional(self, pipe: DiffusionPipeline) -> Text:
        """Return what a dropped caption is replaced by, batch 1: what sampling takes for no prompt at all."""
        return self.texts(pipe, [""])

    @abstractmethod
    def predict(
        self, denoiser: torch.nn.Module, noised_BChw: Tensor, told_B: Tensor, text: Text, sizes_B6: Tensor
    ) -> Tensor:
        """Return the prediction (B, C, h, w). `sizes_B6`: original height and width, crop top and left, shown size."""

    def _left_out(self, base: Path, t5: bool) -> dict[str, Any]:
        return {self.component: None}

    def _attend_plainly(self, denoiser: ModelMixin) -> None:
        denoiser.set_attn_processor(AttnProcessor())


class StableDiffusion(Family):
    """SD 1.x and 2.x and the miniature: a UNet, one text encoder."""

    pipeline = StableDiffusionPipeline
    component = "unet"
    network = UNet2DConditionModel
    text_parts = ("text_encoder", "tokenizer")

    def texts(self, pipe: DiffusionPipeline, prompts: Sequence[str]) -> Text:
        return {"states": pipe.encode_prompt(list(prompts), pipe.vae.device, 1, do_classifier_free_guidance=False)[0]}

    def predict(self, denoiser, noised_BChw, told_B, text, sizes_B6):
        return denoiser(noised_BChw, told_B, text["states"], return_dict=False)[0]

    def _left_out(self, base: Path, t5: bool) -> dict[str, Any]:
        return {
            self.component: None,
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }


class StableDiffusionXL(Family):
    """SDXL: two text encoders, a pooled encoding, and the sizes of the picture beside it."""

    pipeline = StableDiffusionXLPipeline
    component = "unet"
    network = UNet2DConditionModel
    text_parts = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")

    def texts(self, pipe: DiffusionPipeline, prompts: Sequence[str]) -> Text:
        states, _, pooled, _ = pipe.encode_prompt(
            list(prompts), device=pipe.vae.device, do_classifier_free_guidance=False
        )
        return {"states": states, "pooled": pooled}

    def unconditional(self, pipe: DiffusionPipeline) -> Text:
        """Zeros where the base says so (`force_zeros_for_empty_prompt`), else the encoding of ""."""
        _, states, _, pooled = pipe.encode_prompt("", device=pipe.vae.device, do_classifier_free_guidance=True)
        return {"states": states, "pooled": pooled}

    def predict(self, denoiser, noised_BChw, told_B, text, sizes_B6):
        added = {"text_embeds": text["pooled"], "time_ids": sizes_B6}
        return denoiser(noised_BChw, told_B, text["states"], added_cond_kwargs=added, return_dict=False)[0]


class StableDiffusion3(Family):
    """SD 3 and 3.5: a transformer with joint attention, two CLIP encoders and T5."""

    pipeline = StableDiffusion3Pipeline
    component = "transformer"
    network = SD3Transformer2DModel
    text_parts = (
        "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2", "tokenizer_3",
    )  # fmt: skip

    def texts(self, pipe: DiffusionPipeline, prompts: Sequence[str]) -> Text:
        states, _, pooled, _ = pipe.encode_prompt(
            list(prompts), None, None, device=pipe.vae.device, do_classifier_free_guidance=False
        )
        return {"states": states, "pooled": pooled}

    def predict(self, denoiser, noised_BChw, told_B, text, sizes_B6):
        return denoiser(
            noised_BChw,
            encoder_hidden_states=text["states"],
            pooled_projections=text["pooled"],
            timestep=told_B,
            return_dict=False,
        )[0]

    def _attend_plainly(self, denoiser: ModelMixin) -> None:
        raise TrainingError("attention 'plain' is for UNets; Stable Diffusion 3 takes 'sdpa' or 'xformers'")

    def _left_out(self, base: Path, t5: bool) -> dict[str, Any]:
        """Leave out T5 if asked to or there is none; then the pipeline puts zeros as wide as the denoiser says."""
        with torch.device("meta"):
            described = self.network.from_config(self.network.load_config(base, subfolder=self.component))
        parts: dict[str, Any] = {self.component: described}
        present = t5 and (base / "text_encoder_3").is_dir()
        return parts if present else parts | {"text_encoder_3": None, "tokenizer_3": None}


_FAMILIES = {kind.pipeline.__name__: kind() for kind in (StableDiffusion, StableDiffusionXL, StableDiffusion3)}


def family_of(pipeline: str) -> Family:
    """Return the family of a pipeline class, by its name. Raises `ModelError` for a class that cannot be trained."""
    if pipeline not in _FAMILIES:
        raise ModelError(f"a {pipeline} cannot be fine-tuned here; expected one of {', '.join(_FAMILIES)}")
    return _FAMILIES[pipeline]
