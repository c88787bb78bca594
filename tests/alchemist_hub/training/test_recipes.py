import json
from dataclasses import FrozenInstanceError

import pytest

from alchemist_hub.errors import TrainingError
from alchemist_hub.training.recipes import TrainingRecipe, miniature


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
