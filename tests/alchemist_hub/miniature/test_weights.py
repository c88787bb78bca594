"""The shipped models: small, safe, loadable by anybody, and good enough for what is built on them.

Bounds are below what was measured when the weights were made (see benchmarks/), on pictures no builder has seen.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from PIL import Image

from alchemist_hub.evaluation.judges import JudgeNetwork
from alchemist_hub.miniature import weights, world
from alchemist_hub.miniature.builders.classifiers import to_pixels
from alchemist_hub.miniature.builders.vae import reconstruction_psnr
from alchemist_hub.sampling import generate, load

SEED = 7001  # a pool that nothing was trained on
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def samples() -> list[world.Sample]:
    return [world.draw_sample(SEED, index) for index in range(400)]


@pytest.fixture(scope="module")
def clean(samples) -> list[world.Sample]:
    return [sample for sample in samples if sample.truth.tier != "degraded" and not sample.truth.unsafe]


def pictures(samples: list[world.Sample]) -> np.ndarray:
    return np.stack([sample.image for sample in samples])


def scores(name: str, samples: list[world.Sample]) -> tuple[dict[str, int], np.ndarray]:
    """Labels and logits (B,L) of one of the funnel's networks."""
    from transformers import AutoModelForImageClassification

    network = AutoModelForImageClassification.from_pretrained(weights() / name, dtype=torch.float32)
    with torch.inference_mode():
        return network.config.label2id, network(to_pixels(pictures(samples))).logits.numpy()


def auc(values: np.ndarray, labels: list[bool]) -> float:
    wanted = np.array(labels)
    return float((values[wanted][:, None] > values[~wanted][None, :]).mean())


def test_the_weights_are_small_and_nothing_but_safetensors() -> None:
    files = [path for path in weights().rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) <= 24 * MEBIBYTE
    assert sum(path.stat().st_size for path in files) <= 60 * MEBIBYTE
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}
    assert not [path for path in files if path.name.startswith(".")]


def test_the_base_loads_as_anybody_would_load_it_and_paints() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(weights() / "base", dtype=torch.float32)
    painted = pipe("mars rises on the horizon.", num_inference_steps=2, output_type="np").images
    assert painted.shape == (1, 64, 64, 3) and painted.std() > 0.02


def test_the_tuned_checkpoint_is_the_base_with_another_denoiser() -> None:
    base, tuned = weights() / "base", weights() / "tuned"
    for part in ("vae", "text_encoder"):
        (file,) = (base / part).glob("*.safetensors")
        assert file.read_bytes() == (tuned / part / file.name).read_bytes()
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (base / name).read_bytes() != (tuned / name).read_bytes()
    record = json.loads((tuned / "training.json").read_text())
    assert record["data"]["samples"] > 50 and len(record["data"]["fingerprint"]) == 64


def test_reconstructions_of_clean_pictures_keep_thirty_decibels(clean) -> None:
    autoencoder = AutoencoderKL.from_pretrained(weights() / "base", subfolder="vae", dtype=torch.float32).eval()
    assert np.median(reconstruction_psnr(autoencoder, pictures(clean))) >= 30.0


def test_the_safety_network_finds_the_emblem(samples) -> None:
    labels, logits = scores("safety", samples)
    unsafe = logits[:, labels["unsafe"]] - logits[:, labels["safe"]]
    assert auc(unsafe, [sample.truth.unsafe for sample in samples]) > 0.97


def test_the_defect_network_tells_every_defect(samples) -> None:
    labels, logits = scores("defects", samples)
    for defect in world.DEFECTS:
        assert auc(logits[:, labels[defect]], [defect in sample.truth.defects for sample in samples]) > 0.9, defect


def test_the_iqa_network_ranks_degraded_pictures_below_clean_ones(samples) -> None:
    _, logits = scores("iqa", samples)
    assert auc(logits[:, 0], [sample.truth.tier != "degraded" for sample in samples]) > 0.9


def test_the_judge_sees_what_a_picture_shows(clean) -> None:
    judged = JudgeNetwork.load(weights() / "judge").score_images(pictures(clean))
    for part, names in (("ground", world.GROUNDS), ("time", world.TIMES), ("style", world.STYLES)):
        probability = np.stack([judged[f"{part}:{name}"] for name in names], axis=1)
        right = [
            names[best] == getattr(sample.truth, part)
            for best, sample in zip(probability.argmax(1), clean, strict=True)
        ]
        assert np.mean(right) > 0.8, part
    for quality in ("complexity", "aesthetics"):
        known = [getattr(sample.truth, quality) for sample in clean]
        assert np.corrcoef(judged[quality], known)[0, 1] > 0.75, quality


def test_the_captioner_says_what_a_picture_shows(clean) -> None:
    import pyarrow as pa

    from curation.images import to_jpeg
    from curation.records import SAMPLE, img_key
    from curation.stages.recaption import Recaption

    shown = clean[:60]
    files = [to_jpeg(sample.image, quality=95) for sample in shown]
    rows = [
        {"img_key": img_key(data), "url": "", "text": "", "image": data, "status": "ok", "width": 64, "height": 64}
        for data in files
    ]
    stage = Recaption(weights() / "captioner")
    stage.open()
    written = stage(pa.Table.from_pylist(rows, schema=SAMPLE))["prompt"].to_pylist()
    named = [sample.truth.time in text for sample, text in zip(shown, written, strict=True)]
    assert np.mean(named) > 0.8
    assert len(set(written)) > 20


def test_a_picture_depends_on_its_words() -> None:
    pipe = load(weights() / "base")
    asked = ["a photo of the desert by day", "a photo of the sea at night"]
    bright, dark = (
        np.asarray(image.convert("L"), float).mean() for image in generate(pipe, asked, [3, 3], steps=8, guidance=4.0)
    )
    assert bright > dark + 30


def test_a_shipped_picture_is_an_rgb_image() -> None:
    (image,) = generate(load(weights() / "tuned"), ["a photo of mars"], [1], steps=2, guidance=4.0)
    assert isinstance(image, Image.Image) and image.size == (64, 64) and image.mode == "RGB"


@pytest.mark.slow
def test_the_estimator_prefers_good_pictures() -> None:
    from alchemist_hub.miniature.labelled import clean_pictures
    from curation.estimator.calibration import Calibration, Estimator

    images, good = clean_pictures(SEED, 240)
    pipe = load(weights() / "base")
    impact = Estimator(pipe, Calibration.load(weights() / "estimator.json")).score(images)["impact"]
    assert auc(impact, list(good)) > 0.65


def test_the_record_of_the_build_names_its_seeds() -> None:
    record = json.loads((Path(weights()) / "build.json").read_text())
    assert record["pools"] == {"funnel": 1, "judge": 2} and record["scale"]["base_samples"] > 0
