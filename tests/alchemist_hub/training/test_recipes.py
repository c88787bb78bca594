import json
from dataclasses import FrozenInstanceError

import pytest

from alchemist_hub.errors import TrainingError
from alchemist_hub.models import MODELS
from alchemist_hub.training.recipes import RECIPES, TrainingRecipe, miniature, parse, recipe


def test_a_recipe_survives_json():
    recipe = miniature(steps=7, min_snr_gamma=5.0)
    assert TrainingRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert recipe.steps == 7


def test_a_recipe_is_frozen():
    with pytest.raises(FrozenInstanceError):
        miniature().steps = 3


@pytest.mark.parametrize("make", [lambda values: miniature(**values), TrainingRecipe.from_dict])
def test_an_unknown_key_is_named(make):
    with pytest.raises(TrainingError, match="no lerning_rate; it has steps, learning_rate"):
        make({"lerning_rate": 1e-4})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("caption_dropout", 1.5),
        ("ema", -0.1),
        ("warmup", -1),
        ("size", 0),
        ("schedule", "linear"),
        ("attention", "flash"),
        ("mixed_precision", "fp16"),
    ],
)
def test_an_impossible_value_is_refused_by_name(name: str, value):
    with pytest.raises(TrainingError, match=f"{name} is {value!r}"):
        miniature(**{name: value})


def test_every_model_key_has_a_recipe_that_comes_out_even():
    assert list(RECIPES) == list(MODELS)
    assert RECIPES["sd35l"].weights == "bfloat16"
    with pytest.raises(TrainingError, match="no training recipe for 'sd16'; there are sd15"):
        recipe("sd16")


def test_flow_models_draw_their_timesteps_as_sd3_does():
    for key, spec in MODELS.items():
        if spec.objective == "flow":
            assert (RECIPES[key].timesteps, RECIPES[key].uniform_share) == ("logit_normal", 0.0)
            assert RECIPES[key].min_snr_gamma is None


def test_settings_are_json_or_words():
    told = parse(["steps=7", "buckets=sdxl", "size=null", "flip=true", 'validation_prompts=["a b"]'])
    assert told == {"steps": 7, "buckets": "sdxl", "size": None, "flip": True, "validation_prompts": ["a b"]}
    assert recipe("sdxl", **told).validation_prompts == ("a b",)


def test_settings_that_cannot_go_together_are_refused():
    with pytest.raises(TrainingError, match="batch_size is 4; it has to be a multiple of micro_batch_size, 3"):
        miniature(batch_size=4, micro_batch_size=3)
    with pytest.raises(TrainingError, match="loses updates in bfloat16"):
        miniature(weights="bfloat16")
