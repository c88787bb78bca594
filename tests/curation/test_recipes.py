"""The complete recipes, on tiny real models."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_funnel import tiny_classifier, tiny_funnel

from curation import recipes
from curation.engines import embedded
from curation.errors import CalibrationError, RecipeError
from curation.explain import funnel, why
from curation.images import to_jpeg
from curation.plan import Recipe, Step
from curation.stages.signals import Signals


@pytest.fixture(scope="module")
def models(v_pipeline, tmp_path_factory) -> Path:
    return tiny_funnel(tmp_path_factory.mktemp("models"), v_pipeline)


def rules(recipe) -> dict[str, tuple[str, float | bool]]:
    return {rule.column: (rule.op, rule.threshold) for step in recipe.steps for rule in step.rules}


def test_the_miniature_is_six_segments_of_which_the_first_decodes_once_for_all(models):
    recipe = recipes.miniature(models)
    titles = [segment.title for segment in recipe.segments]
    assert titles[0] == "resolution, safety, defects, iqa, fingerprint"
    assert titles[1:] == ["landmarks", "duplicates", "impact", "top", "recaption"]
    assert [segment.is_reduction for segment in recipe.segments] == [False, False, True, False, True, False]


def test_every_defect_of_the_model_has_its_rule(models):
    told = rules(recipes.miniature(models, defect=0.7))
    assert told["defect_blur"] == ("<", 0.7)
    assert told["defect_watermark"] == ("<", recipes.MINIATURE_DEFECTS["defect_watermark"])  # has a limit of its own
    assert "defect_max" not in told


def test_top_is_a_share_of_the_pool_unless_a_count_is_given(models):
    of_share = recipes.miniature(models, share=0.1).outline.resolved(1000)
    assert of_share.steps[-2].rules[0].threshold == 100
    assert rules(recipes.miniature(models, top=7))["impact_rank"] == ("<=", 7)


def test_the_papers_numbers(models):
    told = rules(recipes.alchemist(models))
    assert told["area"] == (">=", 1024 * 1024)
    assert told["iqa"] == (">", 0.71)
    assert told["impact_rank"] == ("<=", 3350)


def test_the_papers_recipe_judges_what_needs_no_network_first(models):
    titles = [segment.title for segment in recipes.alchemist(models).segments]
    assert titles[:3] == ["resolution, signals, fingerprint", "safety, defects, iqa", "landmarks"]
    assert titles[3:] == ["duplicates", "impact", "top", "recaption"]
    first = recipes.alchemist(models).segments[0]
    assert {name for judge in first.judges for name in judge.reads} == {"width", "height", "gray"}


def test_the_variants_differ_in_their_count_only(models):
    small, large = (recipes.alchemist(models, top=recipes.VARIANTS[name]) for name in ("alchemist", "alchemist-19k"))
    assert (rules(small)["impact_rank"][1], rules(large)["impact_rank"][1]) == (3350, 19000)
    assert small.outline.difference(large.outline) is None  # a ledger of one answers for the other


def test_signals_turn_away_the_hopeless_and_keep_ordinary_pictures(tmp_path):
    scene = cv2.resize(np.random.default_rng(3).integers(0, 256, (24, 32, 3), dtype=np.uint8), (320, 240))
    page = np.full_like(scene, 255)
    page[100:110, 100:140] = scene[:10, :40]
    framed = cv2.copyMakeBorder(scene, 120, 120, 0, 0, cv2.BORDER_CONSTANT)
    files = {"good": (scene, 75), "blocks": (scene, 20), "page": (page, 95), "bars": (framed, 95)}
    (tmp_path / "pool").mkdir()
    for name, (pixels, quality) in files.items():
        (tmp_path / "pool" / f"{name}.jpg").write_bytes(to_jpeg(pixels, quality=quality))
    judged = Recipe(name="signals", steps=(Step(judge=Signals(), rules=recipes.HOPELESS),))
    ledger = embedded.run(judged, tmp_path / "pool", tmp_path / "run", workers=1)
    assert why(ledger, "good.jpg").kept
    reasons = {name: why(ledger, f"{name}.jpg").reason for name in ("blocks", "page", "bars")}
    assert reasons == {
        "blocks": "compressed beyond repair",
        "page": "almost nothing to see",
        "bars": "mostly border",
    }


def test_topiq_takes_the_place_of_the_regressor_and_both_are_one_too_many(models, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    (folder / "topiq.safetensors").write_bytes(b"")
    with pytest.raises(RecipeError, match="two judges of quality"):
        recipes.alchemist(folder)
    shutil.rmtree(folder / "iqa")
    recipe = recipes.alchemist(folder)
    assert recipe.segments[1].title == "safety, defects, topiq"
    assert rules(recipe)["iqa"] == (">", 0.71)
    (folder / "topiq.safetensors").unlink()
    with pytest.raises(RecipeError, match="needs topiq.safetensors or iqa in"):
        recipes.alchemist(folder)


def test_the_papers_recipe_says_which_models_it_lacks(tmp_path):
    tiny_classifier(tmp_path / "iqa", "quality")
    with pytest.raises(RecipeError, match="needs defects, estimator.json in its folder of models"):
        recipes.alchemist(tmp_path)


def test_new_weights_are_another_recipe(models, v_pipeline, tmp_path):
    other = tiny_funnel(tmp_path / "models", v_pipeline)
    before = recipes.miniature(models).outline
    assert before.difference(recipes.miniature(other).outline) is None
    weights = other / "iqa" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert before.difference(recipes.miniature(other).outline).startswith("config of iqa")


def test_missing_models_are_named(tmp_path, models):
    with pytest.raises(RecipeError, match="defects"):
        recipes.miniature(tmp_path)
    for name in ("safety", "defects", "iqa", "base", "captioner"):
        (tmp_path / name).symlink_to(models / name)
    with pytest.raises(CalibrationError):
        assert recipes.miniature(tmp_path).outline


def test_the_miniature_runs_from_files_to_prompts(models, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    coarse = np.random.default_rng(1).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
    for index, pixels in enumerate(coarse.repeat(8, 1).repeat(8, 2)):
        (pool / f"{index}.jpg").write_bytes(to_jpeg(pixels))
    (pool / "twin.jpg").write_bytes(to_jpeg(coarse[3].repeat(8, 0).repeat(8, 1), quality=80))
    (pool / "small.jpg").write_bytes(to_jpeg(coarse[4]))
    (pool / "cut.jpg").write_bytes((pool / "0.jpg").read_bytes()[:-50])
    recipe = recipes.miniature(models, unsafe=1.1, defect=1.1, iqa=-100.0, top=3)
    recipe = recipe.with_thresholds({"defect_watermark": 1.1})
    ledger = embedded.run(recipe, pool, tmp_path / "run", workers=1)
    rows = {row.step: row for row in funnel(ledger)}
    assert rows["resolution"].reasons == {"too small": 1, "undecodable": 1}
    assert rows["duplicates"].reasons == {"near-duplicate of a better picture": 1}
    assert (rows["top"].entered, rows["recaption"].kept) == (8, 3)
    assert {why(ledger, "3.jpg").step, why(ledger, "twin.jpg").step} >= {"duplicates"}
    kept = ledger.survivors(columns=["prompt", "impact", "impact_rank"]).to_pylist()
    assert sorted(row["impact_rank"] for row in kept) == [1, 2, 3]
    assert all(row["prompt"] and row["impact"] is not None for row in kept)
