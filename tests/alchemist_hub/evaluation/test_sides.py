"""Who is compared with whom, from the names that people give."""

import json
from pathlib import Path

import pytest
from PIL import Image
from tiny_models import tiny_flux_pipeline, tiny_pipeline

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import generate
from alchemist_hub.evaluation.generate import Settings
from alchemist_hub.evaluation.sides import Contest, Side, contest
from alchemist_hub.miniature import weights


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_pipeline(tmp_path_factory.mktemp("flux") / "pipeline")


def test_a_key_alone_is_its_pair():
    found = contest("mini")
    assert [(side.name, side.folder) for side in found.sides] == [
        ("base", weights() / "base"),
        ("tuned", weights() / "tuned"),
    ]
    assert [(side.steps, side.guidance) for side in found.sides] == [(20, 3.5)] * 2
    assert (found.pairs, found.opponents, found.key) == ((("tuned", "base"),), (), "mini")


def test_a_key_is_its_base_in_front_and_its_tuned_behind(v_pipeline):
    assert contest("mini", str(v_pipeline)).sides[0].folder == weights() / "base"
    assert contest(str(v_pipeline), "mini").sides[1].folder == weights() / "tuned"


def test_a_training_run_stands_for_its_pipeline(v_pipeline, tmp_path):
    tiny_pipeline(tmp_path / "run" / "pipeline", seed=2)
    assert contest(str(v_pipeline), str(tmp_path / "run")).sides[1].folder == tmp_path / "run" / "pipeline"


def test_arms_meet_base_and_tuned_and_everyone_meets_the_opponent(v_pipeline, flux):
    found = contest("mini", arms=[f"7k={v_pipeline}"], against=[f"FLUX={flux}"])
    assert [side.name for side in found.sides] == ["base", "tuned", "7k", "FLUX"]
    assert found.pairs == (
        ("tuned", "base"),
        ("7k", "base"),
        ("tuned", "7k"),
        ("base", "FLUX"),
        ("tuned", "FLUX"),
        ("7k", "FLUX"),
    )
    assert found.opponents == ("FLUX",)


def test_an_opponent_of_another_class_samples_as_its_class_does_and_paints(flux, tmp_path):
    side = Side.of("FLUX", flux)
    assert (side.steps, side.guidance) == (28, 3.5)
    settings = Settings(seeds=(0,), steps=1, guidance=side.guidance)
    (file,) = generate.paint(flux, ["a photo of mars"], settings, tmp_path)["file"].to_pylist()
    with Image.open(tmp_path / file) as picture:
        assert picture.size == (128, 128)


def test_steps_and_guidance_can_be_asked_of_all(flux):
    found = contest("mini", against=[str(flux)], steps=3, guidance=0.0)
    assert [(side.steps, side.guidance) for side in found.sides] == [(3, 0.0)] * 3
    assert found.sides[2].name == "pipeline"


def test_names_that_clash_or_say_nothing_are_one_clear_error(v_pipeline, tmp_path):
    folder = str(v_pipeline)
    for arguments, named, says in (
        ((folder,), {}, "against what"),
        (("mini",), {"arms": [f"tuned={folder}"]}, "two sides are called tuned"),
        (("mini",), {"arms": [f"a={folder}", f"a={folder}"]}, "two sides are called a"),
        (("mini",), {"arms": [f"a={folder}"], "against": [f"a={folder}"]}, "two sides are called a"),
        (("mini",), {"arms": ["a="]}, "expected NAME=SOURCE"),
    ):
        with pytest.raises(EvaluationError, match=says):
            contest(*arguments, **named)
    with pytest.raises(ModelError, match="does not exist"):
        contest("mini", str(tmp_path / "nowhere"))


def test_a_pipeline_that_paints_no_pictures_from_text_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "WhateverPipeline"}))
    with pytest.raises(ModelError, match="WhateverPipeline, which this version of diffusers does not know"):
        Side.of("tuned", tmp_path)


def test_every_other_side_meets_the_base_unless_pairs_are_given(v_pipeline):
    base, tuned = Side.of("base", v_pipeline), Side.of("tuned", v_pipeline)
    assert Contest.between(base, tuned).pairs == (("tuned", "base"),)
    assert Contest.between(base, tuned, pairs=[("base", "tuned")]).pairs == (("base", "tuned"),)
