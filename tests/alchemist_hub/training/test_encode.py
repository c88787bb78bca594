import json
import shutil
from pathlib import Path

import datasets
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from PIL import Image
from published import VAES
from tiny_data import tiny_image

from alchemist_hub.errors import TrainingError
from alchemist_hub.models import MODELS
from alchemist_hub.training import encode as encode_module
from alchemist_hub.training.checkpoint import component_hashes
from alchemist_hub.training.encode import Encodings, encode, to_pixels
from alchemist_hub.training.families import family_of
from alchemist_hub.training.layout import lay_out


def rows_of(images: list[bytes], prompt: str = "a photo of mars") -> datasets.Dataset:
    columns = {
        "img_key": [str(index) for index in range(len(images))],
        "prompt": [f"{prompt} {index}" for index in range(len(images))],
        "image": [{"bytes": image, "path": None} for image in images],
    }
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


@pytest.fixture
def rows() -> datasets.Dataset:
    return rows_of([tiny_image(index) for index in range(6)])


@pytest.fixture
def encoded(v_pipeline: Path, rows: datasets.Dataset, tmp_path: Path):
    def run(**settings) -> Encodings:
        settings = {"rows": rows, "fingerprint": "f", "flip": True, "cache": tmp_path, **settings}
        shown, buckets = settings.pop("rows"), settings.pop("buckets", [(64, 64)])
        family, hashes = family_of("StableDiffusionPipeline"), component_hashes(v_pipeline)
        layout = lay_out(shown, buckets, least=1, enlarge=1.0)
        return encode(shown, layout, family=family, base=v_pipeline, hashes=hashes, **settings)

    return run


def tensors(encodings: Encodings) -> list[torch.Tensor]:
    parts = (*encodings.latent_parts, *encodings.text_parts, encodings.unconditional)
    return [tensor for part in parts for tensor in part.values()]


def latents(encodings: Encodings, index: int, mirrored: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = encodings.latents(torch.tensor([index]), torch.tensor([mirrored]))
    return mean[0], std[0]


def test_latents_are_the_scaled_posterior_of_the_picture_and_its_mirror_image(encoded, rows, v_pipeline: Path):
    encodings, pipe = encoded(), StableDiffusionPipeline.from_pretrained(v_pipeline)
    pixels = to_pixels(rows[2]["image"], (64, 64))
    for view, shown in enumerate((pixels, pixels.flip(-1))):
        with torch.no_grad():
            posterior = pipe.vae.encode(shown[None]).latent_dist
        scale = pipe.vae.config.scaling_factor
        mean, std = latents(encodings, 2, bool(view))
        assert torch.allclose(mean, posterior.mean[0] * scale, atol=1e-5)
        assert torch.allclose(std, posterior.std[0] * scale, atol=1e-5)


# Published values; what each base's sampler undoes before it decodes.
SCALE_AND_SHIFT = {
    "sd15": (0.18215, 0.0),
    "sd21": (0.18215, 0.0),
    "sdxl": (0.13025, 0.0),
    "sd35m": (1.5305, 0.0609),
    "sd35l": (1.5305, 0.0609),
}


@pytest.mark.parametrize("key", VAES)
def test_latents_have_the_scale_and_shift_of_each_base_and_its_sampler_decodes_them(
    key: str, rows, tmp_path: Path, request: pytest.FixtureRequest
):
    tiny = {"StableDiffusionPipeline": "v", "StableDiffusionXLPipeline": "xl", "StableDiffusion3Pipeline": "sd3"}
    base = Path(shutil.copytree(request.getfixturevalue(f"{tiny[MODELS[key].pipeline]}_pipeline"), tmp_path / "base"))
    config = json.loads((base / "vae" / "config.json").read_text())
    kept = {name: value for name, value in config.items() if name not in ("scaling_factor", "shift_factor")}
    (base / "vae" / "config.json").write_text(json.dumps(kept | VAES[key]))

    encodings = encode(
        rows.select([2]),
        lay_out(rows.select([2]), [(64, 64)], least=1, enlarge=1.0),
        family=family_of(MODELS[key].pipeline),
        base=base,
        hashes=component_hashes(base),
        fingerprint="f",
        flip=False,
        cache=tmp_path,
    )
    mean, std = latents(encodings, 0)
    pipe = DiffusionPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        posterior = pipe.vae.encode(to_pixels(rows[2]["image"], (64, 64))[None]).latent_dist
        picture = (pipe.vae.decode(posterior.mean).sample + 1) / 2
    scale, shift = SCALE_AND_SHIFT[key]
    assert torch.allclose(mean, (posterior.mean[0] - shift) * scale, atol=1e-5)
    assert torch.allclose(std, posterior.std[0] * scale, atol=1e-6)
    sampled = pipe(  # which ends in these latents
        "mars",
        num_inference_steps=2,
        guidance_scale=1.0,
        output_type="pt",
        callback_on_step_end=lambda *_: {"latents": mean[None]},
    ).images
    assert torch.allclose(sampled, picture.clamp(0, 1), atol=1e-4)


def test_without_flip_there_is_one_view(encoded):
    assert encoded(flip=False).latent_parts[0]["mean"].shape == (6, 1, 4, 8, 8)


def test_texts_and_the_unconditional_are_what_the_pipeline_itself_would_encode(encoded, rows, v_pipeline: Path):
    encodings = encoded()
    pipe = StableDiffusionPipeline.from_pretrained(v_pipeline)
    with torch.no_grad():
        text, unconditional = pipe.encode_prompt(rows[3]["prompt"], "cpu", 1, True)
    found = encodings.texts(torch.tensor([3, 3]), torch.tensor([False, True]))["states"]
    assert torch.allclose(found[0], text[0], atol=1e-5)
    assert torch.allclose(found[1], unconditional[0], atol=1e-5)


def test_pictures_of_a_bucket_are_found_again_wherever_they_lie(encoded, v_pipeline: Path, monkeypatch):
    monkeypatch.setattr(encode_module, "PART", 2)
    sizes = [(64, 96), (96, 64)] * 4
    rows = rows_of([tiny_image(index, size) for index, size in enumerate(sizes)])
    encodings = encoded(rows=rows, buckets=sizes[:2])
    pipe = StableDiffusionPipeline.from_pretrained(v_pipeline)
    assert len(encodings.latent_parts) == 4
    assert encodings.numbers == 4 * 8 * 12
    for index, size in enumerate(sizes):
        with torch.no_grad():
            mean = pipe.vae.encode(to_pixels(rows[index]["image"], size)[None]).latent_dist.mean[0]
        assert torch.allclose(latents(encodings, index)[0], mean * pipe.vae.config.scaling_factor, atol=1e-4)


def test_a_second_call_loads_no_model_and_gives_the_same(encoded, monkeypatch: pytest.MonkeyPatch):
    first = encoded()
    monkeypatch.setattr(encode_module, "_encoders", lambda *_: pytest.fail("the cache was not used"))
    assert all(torch.equal(one, other) for one, other in zip(tensors(first), tensors(encoded()), strict=True))


def test_what_is_missing_is_made_again_alike(encoded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encode_module, "PART", 2)
    first = encoded()
    parts = sorted(tmp_path.glob("latents-*/*.safetensors"))
    assert len(parts) == 3
    kept = parts[0].stat().st_mtime_ns
    parts[1].unlink()
    again = encoded()
    assert parts[0].stat().st_mtime_ns == kept
    assert all(torch.equal(one, other) for one, other in zip(tensors(first), tensors(again), strict=True))


def test_other_data_or_settings_never_meet_in_the_cache(encoded, tmp_path: Path):
    encoded()
    encoded(fingerprint="g", rows=rows_of([tiny_image(9)]))
    encoded(flip=False)
    assert len(list(tmp_path.glob("latents-*"))) == 3
    assert len(list(tmp_path.glob("text-*"))) == 2
    assert encoded().latent_parts[0]["mean"].shape[0] == 6


def test_a_picture_that_cannot_be_decoded_is_one_line(encoded):
    with pytest.raises(TrainingError, match="picture 1 cannot be decoded"):
        encoded(rows=rows_of([tiny_image(0), tiny_image(1)[:400]]))


def test_pictures_are_cut_to_the_middle_and_scaled_to_minus_one_and_one():
    wide = Image.new("RGB", (200, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (50, 0, 150, 100))
    pixels = to_pixels(wide, (32, 32))
    assert pixels.shape == (3, 32, 32)
    assert pixels[:, 16, 16].tolist() == [-1.0, -1.0, 1.0]
    assert pixels[2].mean() > 0.95
