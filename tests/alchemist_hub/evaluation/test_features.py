"""Features of pictures: what the networks themselves say, in any batches, on real tiny models."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_judge import tiny_judge
from tiny_scorers import tiny_clip, tiny_dinov2
from transformers import AutoModelForImageClassification, AutoTokenizer, CLIPModel, Dinov2Model

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import features as features_module
from alchemist_hub.evaluation import pixels
from alchemist_hub.evaluation.features import ClipEmbeddings, embed_all, features


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (40 + n, 50, 3), dtype=np.uint8)) for n in range(count)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("features") / "clip")


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dinov2(tmp_path_factory.mktemp("features") / "dinov2")


def test_dinov2_features_are_the_class_token_after_the_last_norm(dinov2: Path):
    images = pictures(3)
    found = features("dinov2", weights=dinov2)
    inputs = pixels.normalised(images, pixels.squashed, 224, pixels.IMAGENET)
    network = Dinov2Model.from_pretrained(dinov2).eval()
    with torch.inference_mode():
        hidden = network(inputs, output_hidden_states=True).hidden_states[-1]
        expected = network.layernorm(hidden)[:, 0]
    np.testing.assert_allclose(found.embed(images), expected.numpy(), atol=1e-5)
    assert found.embed(images).dtype == np.float32 and found.revision.startswith("sha256:")


def test_clip_embeddings_are_the_projected_towers_at_unit_length(clip: Path):
    found, images, texts = ClipEmbeddings.load(clip), pictures(4), ["a photo of mars", "the sea at night"] * 2
    network, tokenizer = CLIPModel.from_pretrained(clip).eval(), AutoTokenizer.from_pretrained(clip)
    inputs = pixels.normalised(images, pixels.centred, 32, pixels.CLIP)
    with torch.inference_mode():
        out = network(**tokenizer(texts, padding=True, return_tensors="pt"), pixel_values=inputs)
    np.testing.assert_allclose(found.embed(images), out.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.embed_texts(texts), out.text_embeds.numpy(), atol=1e-5)
    logits = out.logits_per_image.diagonal().numpy()
    np.testing.assert_allclose(found.logit_scale * found.cosines(images, texts), logits, rtol=1e-4)


def test_a_text_longer_than_clip_reads_is_cut_not_refused(clip: Path):
    found = ClipEmbeddings.load(clip)
    long = "the sea over the moon " * 30
    np.testing.assert_allclose(found.embed_texts([long]), found.embed_texts([long + "at night"]), atol=1e-6)


@pytest.mark.parametrize("name", ["dinov2", "clip", "miniature-judge", "thumbnail"])
def test_batches_change_nothing_and_streams_are_read_once(name, clip, dinov2, monkeypatch):
    found = features(name, weights={"dinov2": dinov2, "clip": clip}.get(name))
    images = pictures(5)
    whole = found.embed(images)
    monkeypatch.setattr(features_module, "BATCH", 2)
    np.testing.assert_allclose(embed_all(found, iter(images)), whole, atol=1e-5)
    np.testing.assert_allclose(found.embed(images), whole, atol=1e-5)
    assert found.embed([]).shape == (0, whole.shape[1])
    with pytest.raises(EvaluationError, match="no pictures"):
        embed_all(found, [])


def test_the_miniatures_judge_is_read_at_its_last_layer_and_not_called_dinov2(tmp_path: Path):
    folder = tiny_judge(tmp_path / "judge")
    found, images = features("miniature-judge", weights=folder), pictures(3)
    network = AutoModelForImageClassification.from_pretrained(folder).eval()
    embedded = found.embed(images)
    with torch.inference_mode():
        logits = network.classifier(torch.from_numpy(embedded))
    judged = found._judge.score_images(images)
    np.testing.assert_allclose(torch.sigmoid(logits[:, 0]).numpy(), judged["complexity"], atol=1e-5)
    assert "dino" not in found.name + found.source


def test_thumbnails_know_a_copy_and_not_another_picture():
    found, (one, other) = features("thumbnail"), pictures(2)
    one = one.resize((8, 8)).resize((200, 160), Image.Resampling.BICUBIC)
    copy = one.resize((90, 72))
    near, far, flat = (
        found.embed([one, copy, other, Image.new("RGB", (5, 5), "red")])[[0, 0, 3]] @ found.embed([copy, other, one]).T
    )
    assert near[0] > 0.99 > 0.5 > far[1] and (flat == 0).all()


def test_an_unknown_name_or_weights_without_use_are_refused():
    with pytest.raises(ModelError, match="unknown features 'dino'; there are dinov2, clip, miniature-judge, thumbnail"):
        features("dino")
    with pytest.raises(ModelError, match="no weights"):
        features("thumbnail", weights="some/where")


def test_each_picture_needs_its_own_prompt(clip: Path):
    with pytest.raises(EvaluationError, match="2 pictures and 1 prompts"):
        ClipEmbeddings.load(clip).cosines(pictures(2), ["a photo"])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["dinov2", "clip"])
def test_a_gpu_gives_the_features_of_the_cpu(name, clip, dinov2):
    folder = {"dinov2": dinov2, "clip": clip}[name]
    there, here = (features(name, weights=folder, device=device).embed(pictures(3)) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(there, here, atol=2e-3)
