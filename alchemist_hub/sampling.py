"""Pictures from a pipeline, and pairs: a base and its tuned sibling that share every untouched component in memory.

`generate` is used by the app and by the evaluation alike. A picture depends on its prompt, its seed and the settings,
never on the batch it was made in. Shapes: B batch, C latent channels, h w latent height and width.
"""

import filecmp
import functools
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from torch import Tensor
from torch.nn import Module
from transformers.utils import logging as transformers_logging

from alchemist_hub.errors import ModelError
from alchemist_hub.models import MODELS, local_folder, spec_of

# What fine-tuning changes, and what keeps state while it samples: never shared between the two sides of a pair.
SEPARATE = ("unet", "transformer", "scheduler")

# Where diffusers keeps what `enable_model_cpu_offload` set up.
OFFLOADING = (
    "_all_hooks", "_offload_device", "_offload_gpu_id", "_exclude_from_cpu_offload", "model_cpu_offload_seq"
)  # fmt: skip

# `.to(dtype)` would do, but warns about modules kept in float32 whether there are any or not.
_CASTS = {torch.float32: Module.float, torch.bfloat16: Module.bfloat16, torch.float16: Module.half}

# Guidance overexposes what a model trained to zero terminal SNR paints; 0.7 is the value of Lin et al. 2023,
# "Common Diffusion Noise Schedules and Sample Steps are Flawed", section 3.4.
GUIDANCE_RESCALE = 0.7

OnStep = Callable[[int, Tensor], None]  # (step, estimate_BChw): step counts from 1 over all batches of the call


def hide_loading_bars() -> None:
    """Keep the libraries from drawing a bar for every component they load: programs with bars of their own call it."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


class Cancelled(Exception):
    """`should_stop` said yes while sampling. The pipeline is as it was before the call."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A base pipeline and its tuned sibling; `shared` names the components that are one object in both."""

    base: DiffusionPipeline
    tuned: DiffusionPipeline
    shared: tuple[str, ...]


def load(
    source: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None, **parts: Any
) -> DiffusionPipeline:
    """Load the pipeline in `source` (a folder or a Hub repository); `parts` are components that are there already.

    `dtype` is float32 on the CPU and bfloat16 elsewhere unless given. A pipeline's own safety checker is left out: it
    would turn pictures black, which nobody could tell from a dark one. Raises `ModelError`.
    """
    folder = local_folder(source)
    parts = {**_no_checker(folder), **parts}
    try:
        pipe = DiffusionPipeline.from_pretrained(folder, use_safetensors=True, **parts)
    except (OSError, ValueError) as error:
        raise ModelError(f"{source} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    pipe.set_progress_bar_config(disable=True)
    cast = _CASTS[dtype or (torch.float32 if device == "cpu" else torch.bfloat16)]
    for part in pipe.components.values():
        if isinstance(part, Module):
            cast(part)
    return pipe.to(device)


def load_pair(
    base: str | Path,
    tuned: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    offload_to: str | None = None,
) -> Pair:
    """Load both sides; a component of `tuned` whose files equal those of `base` byte for byte is not loaded again.

    `offload_to` names a card that is too small for the pair: its networks wait on `device`, and each is on the card
    only while it works. Raises `ModelError` when either side is missing or incomplete.
    """
    base_folder, tuned_folder = local_folder(base), local_folder(tuned)
    first = load(base_folder, device=device, dtype=dtype)
    parts = {
        name: part
        for name, part in first.components.items()
        if part is not None and name not in SEPARATE and same_files(base_folder / name, tuned_folder / name)
    }
    second = load(tuned_folder, device=device, dtype=dtype, **parts)
    if offload_to is not None:
        for pipe in (first, second):
            _offload(pipe, offload_to)
    return Pair(base=first, tuned=second, shared=tuple(parts))


def _offload(pipe: DiffusionPipeline, device: str) -> None:
    """Let each network be on `device` only while it works; but the VAE stays: previews decode between two steps."""
    order = pipe.model_cpu_offload_seq.split("->")
    pipe.model_cpu_offload_seq = "->".join(name for name in order if name != "vae")
    pipe._exclude_from_cpu_offload = [*pipe._exclude_from_cpu_offload, "vae"]
    pipe.enable_model_cpu_offload(device=device)


def _no_checker(folder: Path) -> dict[str, Any]:
    """Return what keeps a pipeline of a class with a safety checker from loading it."""
    index = folder / "model_index.json"
    if not index.is_file() or "safety_checker" not in json.loads(index.read_text()):
        return {}
    return {"safety_checker": None, "requires_safety_checker": False}


def same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same file names with the same bytes."""
    names = _file_names(one)
    return names == _file_names(other) and all(
        (one / name).samefile(other / name) or filecmp.cmp(one / name, other / name, shallow=False) for name in names
    )


def _file_names(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def paint(
    source: str,
    side: str,
    asked: Sequence[tuple[str, int]],
    *,
    negative: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
) -> list[Image.Image]:
    """Return one picture per (prompt, seed) from a model key's `side` ("base" or "tuned"), a folder or a Hub id.

    Steps and guidance are the model's own unless given; those of a folder are its class's own. Raises `ModelError`.
    """
    spec = MODELS.get(source) or spec_of(source)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = load(getattr(spec, side) if source in MODELS else source, device=device)
    prompts, seeds = zip(*asked, strict=True)
    return generate(
        pipe,
        prompts,
        seeds,
        negative=negative,
        steps=steps or spec.steps,
        guidance=spec.guidance if guidance is None else guidance,
    )


@torch.inference_mode()
def generate(
    pipe: DiffusionPipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    guidance: float,
    negative: str | None = None,
    batch_size: int = 8,
    on_step: OnStep | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Image.Image]:
    """Return one picture per (prompt, seed), in order, at the pipeline's native size.

    `on_step` gets the current estimate of the finished latents, ready for `preview`. `should_stop` is asked after
    every step; when it says yes, `Cancelled` is raised and nothing is decoded. Calls do not disturb each other: each
    has its own scheduler, so one pipeline may serve several threads.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts and {len(seeds)} seeds: one seed per prompt is needed")
    pictures: list[Image.Image] = []
    done = 0  # steps of the batches before this one
    for first in range(0, len(prompts), batch_size):
        batch = list(prompts[first : first + batch_size])
        call = _with_own_scheduler(pipe)
        latest, done_before = _remember_estimate(call.scheduler), done

        def after_step(_pipe, index, _timestep, tensors, latest=latest, done_before=done_before):
            if on_step is not None:
                on_step(done_before + index + 1, latest[-1])
            if should_stop is not None and should_stop():
                raise Cancelled
            return tensors

        try:
            pictures += call(
                prompt=batch,
                negative_prompt=None if negative is None else [negative] * len(batch),
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds[first : first + batch_size]],
                num_inference_steps=steps,
                guidance_scale=guidance,
                **rescaling(call),
                callback_on_step_end=after_step,
            ).images
        finally:
            call.maybe_free_model_hooks()  # an offloaded pipeline leaves the card, cancelled or not
        done += call.num_timesteps
    return pictures


@torch.inference_mode()
def preview(pipe: DiffusionPipeline, estimate_BChw: Tensor) -> list[Image.Image]:
    """Decode latents, as handed to `on_step`, into pictures."""
    vae, upcast = pipe.vae, pipe.vae.dtype == torch.float16 and getattr(pipe.vae.config, "force_upcast", False)
    if upcast:  # as the pipeline itself does: this VAE overflows in half precision
        vae.to(torch.float32)
    shift = getattr(vae.config, "shift_factor", None) or 0.0
    images_BCHW = vae.decode((estimate_BChw / vae.config.scaling_factor + shift).to(vae.dtype)).sample
    if upcast:
        vae.to(torch.float16)
    return pipe.image_processor.postprocess(images_BCHW, output_type="pil")


def estimate(scheduler: SchedulerMixin, output: Tensor, timestep: Tensor | int, sample_BChw: Tensor) -> Tensor:
    """Return x0, the finished latents that the model's `output` for `sample_BChw` at `timestep` points to."""
    timesteps = scheduler.config.num_train_timesteps
    if not hasattr(scheduler, "alphas_cumprod"):  # flow matching: the sample is (1 - sigma) x0 + sigma noise
        return sample_BChw - float(timestep) / timesteps * output
    alpha_bar = scheduler.alphas_cumprod[int(timestep)].to(output)
    if scheduler.config.prediction_type == "v_prediction":
        return alpha_bar.sqrt() * sample_BChw - (1 - alpha_bar).sqrt() * output
    return (sample_BChw - (1 - alpha_bar).sqrt() * output) / alpha_bar.sqrt()


def _with_own_scheduler(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """The same models in a pipeline with its own scheduler, where the state of sampling lives (0.4 ms)."""
    settings = {key: pipe.config[key] for key in inspect.signature(type(pipe)).parameters if key in pipe.config}
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    call = type(pipe)(**{**settings, **pipe.components, "scheduler": scheduler})
    call.set_progress_bar_config(disable=True)
    for name in OFFLOADING:
        if name in vars(pipe):
            setattr(call, name, getattr(pipe, name))
    return call


def rescaling(pipe: DiffusionPipeline) -> dict[str, float]:
    """Return the argument that keeps guidance from overexposing, for a pipeline that needs it."""
    zero_snr = getattr(pipe.scheduler.config, "rescale_betas_zero_snr", False)
    return {"guidance_rescale": GUIDANCE_RESCALE} if zero_snr else {}


def _remember_estimate(scheduler: SchedulerMixin) -> list[Tensor]:
    """Make `scheduler.step` leave x0 in the returned list: its own (`pred_original_sample`), or by `estimate`."""
    step, latest = scheduler.step, []

    @functools.wraps(step)  # pipelines look at its signature
    def remembering_step(output, timestep, sample, *args, **kwargs):
        result = step(output, timestep, sample, *args, **kwargs)
        own = result[1:2] if isinstance(result, tuple) else ()
        latest[:] = own or (estimate(scheduler, output, timestep, sample),)
        return result

    scheduler.step = remembering_step
    return latest
