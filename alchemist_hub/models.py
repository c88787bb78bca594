"""The models this project knows, one `ModelSpec` per model key, and how a name becomes a local pipeline folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alchemist_hub.errors import ModelError
from alchemist_hub.miniature import weights

Objective = Literal["epsilon", "v_prediction", "flow"]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One pair of models: the base and the checkpoint tuned from it."""

    key: str
    name: str  # as people call it
    base: str  # Hub repository or local folder
    tuned: str
    pipeline: str  # class in diffusers
    objective: Objective
    size: int  # native side, pixels
    licence: str  # as in the Hub's card data
    licence_name: str | None = None  # where `licence` is "other"
    licence_link: str | None = None
    gated: bool = False  # the Hub asks to accept the licence before it lets anyone download the base
    parameters: int  # of the denoiser, all of which are tuned
    companions: int  # parameters of text encoders and VAE together, which a pair shares; rounded
    steps: int  # sampling defaults: the base's own model card or pipeline where it states them
    guidance: float


_SPECS = (
    ModelSpec(
        key="sd15",
        name="Stable Diffusion 1.5",
        base="stable-diffusion-v1-5/stable-diffusion-v1-5",
        tuned="yandex/stable-diffusion-v1-5-alchemist",
        pipeline="StableDiffusionPipeline",
        objective="epsilon",
        size=512,
        licence="creativeml-openrail-m",
        parameters=859_520_964,
        companions=207_000_000,
        steps=50,
        guidance=7.5,
    ),
    ModelSpec(
        key="sd21",
        name="Stable Diffusion 2.1",
        base="stabilityai/stable-diffusion-2-1",
        tuned="yandex/stable-diffusion-2-1-alchemist",
        pipeline="StableDiffusionPipeline",
        objective="v_prediction",
        size=768,
        licence="openrail++",
        parameters=865_910_724,
        companions=424_000_000,
        steps=50,
        guidance=7.5,
    ),
    ModelSpec(
        key="sdxl",
        name="Stable Diffusion XL 1.0",
        base="stabilityai/stable-diffusion-xl-base-1.0",
        tuned="yandex/stable-diffusion-xl-base-1.0-alchemist",
        pipeline="StableDiffusionXLPipeline",
        objective="epsilon",
        size=1024,
        licence="openrail++",
        parameters=2_567_463_684,
        companions=901_000_000,
        steps=50,
        guidance=5.0,
    ),
    ModelSpec(
        key="sd35m",
        name="Stable Diffusion 3.5 Medium",
        base="stabilityai/stable-diffusion-3.5-medium",
        tuned="yandex/stable-diffusion-3.5-medium-alchemist",
        pipeline="StableDiffusion3Pipeline",
        objective="flow",
        size=1024,
        licence="other",
        licence_name="stabilityai-ai-community",
        licence_link="https://huggingface.co/stabilityai/stable-diffusion-3.5-medium/blob/main/LICENSE.md",
        gated=True,
        parameters=2_243_171_520,
        companions=5_665_000_000,
        steps=40,
        guidance=4.5,
    ),
    ModelSpec(
        key="sd35l",
        name="Stable Diffusion 3.5 Large",
        base="stabilityai/stable-diffusion-3.5-large",
        tuned="yandex/stable-diffusion-3.5-large-alchemist",
        pipeline="StableDiffusion3Pipeline",
        objective="flow",
        size=1024,
        licence="other",
        licence_name="stabilityai-ai-community",
        licence_link="https://huggingface.co/stabilityai/stable-diffusion-3.5-large/blob/main/LICENSE.md",
        gated=True,
        parameters=8_056_627_520,
        companions=5_665_000_000,
        steps=28,
        guidance=3.5,
    ),
    ModelSpec(
        key="mini",
        name="Miniature",
        base=str(weights() / "base"),
        tuned=str(weights() / "tuned"),
        pipeline="StableDiffusionPipeline",
        objective="v_prediction",
        size=64,
        licence="apache-2.0",
        parameters=9_508_820,
        companions=2_500_000,
        steps=20,
        guidance=3.5,
    ),
)

MODELS: dict[str, ModelSpec] = {spec.key: spec for spec in _SPECS}


def model(key: str) -> ModelSpec:
    """Return the spec of a model key; raises `ModelError` for a key that is not in `MODELS`."""
    if key not in MODELS:
        raise ModelError(f"unknown model key {key!r}; the keys are {', '.join(MODELS)}")
    return MODELS[key]


def spec_of(source: str | Path) -> ModelSpec:
    """Return the spec that a pipeline is most like: of its class, and of the nearest native size.

    Raises `ModelError` when there is no pipeline behind the name, or none of its class is known.
    """
    folder = local_folder(source)
    pipeline = pipeline_class(folder)
    alike = [spec for spec in MODELS.values() if spec.pipeline == pipeline]
    if not alike:
        raise ModelError(f"{source} is a {pipeline}; known are {', '.join({spec.pipeline for spec in _SPECS})}")
    (config,) = (folder / name / "config.json" for name in ("unet", "transformer") if (folder / name).is_dir())
    size = json.loads(config.read_text())["sample_size"] * 8  # every VAE here makes one latent of 8 x 8 pixels
    return min(alike, key=lambda spec: abs(spec.size - size))


def pipeline_class(folder: Path) -> str:
    """Return the diffusers class of a pipeline folder. Raises `ModelError` where its index is damaged."""
    index = folder / "model_index.json"
    try:
        return json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{index} is damaged or no pipeline's index; copy or download the pipeline again") from error


def local_folder(source: str | Path) -> Path:
    """Return the local diffusers folder of `source`: a folder, that of a training run, or a Hub repository.

    A repository is downloaded, safetensors only.

    Raises `ModelError` when there is no pipeline behind the name.
    """
    folder = Path(source)
    if (folder / "model_index.json").is_file():
        return folder
    if (folder / "pipeline" / "model_index.json").is_file():  # a finished training run
        return folder / "pipeline"
    if folder.exists():
        raise ModelError(f"{source} is not a diffusers pipeline folder: it holds no model_index.json")
    if not _could_be_a_repository(str(source)):
        raise ModelError(f"{source} does not exist; expected a diffusers pipeline folder or a Hub repository")
    return _download(str(source))


def revision(folder: Path) -> str | None:
    """Return the commit that a downloaded pipeline is of, as the cache's folder says; None for another folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def _could_be_a_repository(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith(("/", ".", "~"))


def _download(repository: str) -> Path:
    from diffusers import DiffusionPipeline  # seconds to import: only when something is to be downloaded

    try:
        return Path(DiffusionPipeline.download(repository, use_safetensors=True))
    except (OSError, ValueError) as error:  # the Hub's own errors are OSErrors
        reason = str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
        gated = any(spec.gated and repository == spec.base for spec in _SPECS)
        advice = f"; accept its licence at huggingface.co/{repository} and log in: hf auth login" if gated else ""
        raise ModelError(f"{repository} is no local folder and cannot be downloaded: {reason}{advice}") from error
