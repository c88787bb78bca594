"""The safety filter: what it hides, what stands in its place, and that no picture passes it by."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from PIL import Image
from tiny_services import tiny_services
from transformers import CLIPConfig, CLIPImageProcessor

from alchemist_hub.errors import ModelError
from alchemist_hub.miniature import weights
from alchemist_hub.miniature.world import draw_sample
from alchemist_hub.sampling import load
from alchemist_hub.ui.live import Settings, finish, watch
from alchemist_hub.ui.result import HIDDEN, finished, notice_picture, picture_file, summary
from alchemist_hub.ui.safety import load_guard
from alchemist_hub.ui.services import Services

SETTINGS = Settings(prompt="mars", negative="", seed=3, steps=4, guidance=3.0)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return tiny_services(tmp_path_factory.mktemp("services"))


@pytest.fixture(autouse=True)
def page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


def test_the_miniatures_filter_knows_unsafe_pictures_of_its_world() -> None:
    drawn: dict[bool, list[Image.Image]] = {True: [], False: []}
    samples = (draw_sample(977_001, index, size=64) for index in itertools.count())
    while min(map(len, drawn.values())) < 5:
        sample = next(samples)
        drawn[sample.truth.unsafe].append(Image.fromarray(sample.image))
    guard = load_guard(weights() / "safety")
    assert sum(map(guard, drawn[True])) >= 0.8 * len(drawn[True])
    assert sum(map(guard, drawn[False])) <= 0.1 * len(drawn[False])


@pytest.mark.parametrize(("limit", "hides"), [(-2.0, True), (2.0, False)])
def test_the_public_checker_hides_what_is_nearer_to_a_concept_than_its_limit(
    tmp_path: Path, limit: float, hides: bool
) -> None:
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 8, "projection_dim": 8}
    config = CLIPConfig(vision_config=vision, text_config={**small, "projection_dim": 8}, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config)
    with torch.no_grad():
        checker.concept_embeds_weights.fill_(limit)
        checker.special_care_embeds_weights.fill_(2.0)
    checker.save_pretrained(tmp_path / "safety_checker")
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(tmp_path / "feature_extractor")
    picture = Image.new("RGB", (48, 48), "orange")
    assert load_guard(tmp_path)(picture) is hides
    assert picture.getpixel((0, 0)) == (255, 165, 0)  # it looks and paints nothing black


@pytest.mark.parametrize("folder", ["nowhere", "judge"])
def test_what_is_no_filter_is_refused_in_one_line(tmp_path: Path, folder: str) -> None:
    source = weights() / "judge" if folder == "judge" else tmp_path
    with pytest.raises(ModelError, match="safety filter cannot be loaded") as refused:
        load_guard(source)
    assert "\n" not in str(refused.value)


def test_a_hidden_side_is_named_and_nobody_can_vote_on_it(services: Services) -> None:
    loader = services.pairs["mini"]
    seen: list[Image.Image] = []

    def hide_first(picture: Image.Image) -> bool:
        seen.append(picture)
        return True

    view = finish(loader.pair(), SETTINGS, hide_first)
    assert (view.base, view.tuned, view.hidden, view.complete) == (None, None, ("base", "tuned"), False)
    values = finished(view, SETTINGS, loader)
    assert values[:2] == [picture_file(notice_picture())] * 2 and values[2] is None  # words, no slider
    assert f"{HIDDEN}: base and tuned" in values[3]
    assert len(seen) >= 2


def test_one_hidden_side_leaves_the_other(services: Services) -> None:
    loader, plain = services.pairs["mini"], finish(services.pairs["mini"].pair(), SETTINGS)
    base = plain.base.tobytes()
    view = finish(loader.pair(), SETTINGS, lambda picture: picture.tobytes() == base)
    assert view.hidden == ("base",) and view.tuned.tobytes() == plain.tuned.tobytes() and not view.complete
    assert "Hidden by the safety filter: base." in summary(view, SETTINGS, loader)


def test_previews_are_looked_at_too(services: Services) -> None:
    views = list(watch(services.pairs["mini"].pair(), replace(SETTINGS, steps=12), lambda picture: True))
    assert all(view.base is None and view.tuned is None for view in views)


def test_a_page_without_a_filter_says_so(services: Services) -> None:
    loader = services.pairs["mini"]
    assert "no safety filter" in summary(finish(loader.pair(), SETTINGS), SETTINGS, loader)
    guarded = finish(loader.pair(), SETTINGS, lambda picture: False)
    assert guarded.complete and "no safety filter" not in summary(guarded, SETTINGS, loader)


def test_a_pipelines_own_checker_is_never_loaded(v_pipeline: Path) -> None:
    pipe = load(v_pipeline)
    assert pipe.safety_checker is None and not pipe.config.requires_safety_checker
