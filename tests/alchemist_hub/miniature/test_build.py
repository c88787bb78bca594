"""The build: every part from nothing at a small scale, each a folder that the libraries load."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from transformers import AutoImageProcessor, AutoModelForImageClassification, AutoModelForImageTextToText

from alchemist_hub.miniature.build import Build, Scale
from alchemist_hub.miniature.builders import classifiers

SMALL = Scale(
    pool=2000,
    code_pool=500,
    decoder_pool=500,
    decoder_steps=2,
    base_samples=128,
    network_pool=2000,
    epochs=(("safety", 1), ("defects", 1), ("iqa", 1), ("judge", 1)),
    caption_samples=128,
)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_trained_part_ends_as_a_folder_that_the_libraries_load(tmp_path: Path) -> None:
    build = Build(tmp_path / "work", tmp_path / "out", SMALL)
    build.base()
    build.network(classifiers.SAFETY)
    build.captioner()
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "out" / "base", dtype=torch.float32)
    assert pipe("mars", num_inference_steps=1, output_type="np").images.shape == (1, 64, 64, 3)
    with safe_open(tmp_path / "out" / "base" / "unet" / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    with safe_open(tmp_path / "out" / "base" / "text_encoder" / "model.safetensors", "pt") as file:
        assert all(name.startswith("text_model.") for name in file.keys())  # noqa: SIM118
    AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "safety")
    AutoImageProcessor.from_pretrained(tmp_path / "out" / "safety")
    AutoModelForImageTextToText.from_pretrained(tmp_path / "out" / "captioner")
    assert not list((tmp_path / "out").glob(".*"))
