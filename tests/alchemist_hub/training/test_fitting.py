import re

import pytest

from alchemist_hub.errors import TrainingError
from alchemist_hub.models import model
from alchemist_hub.training.fitting import admit, fitting, ladder, settings_of, show_plan, usable
from alchemist_hub.training.memory import Settings, parse_size, plan_of
from alchemist_hub.training.recipes import parse, recipe


def test_a_recipe_that_fits_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    found = show_plan(recipe("mini"), model("mini"), parse_size("8GiB"))
    assert found.settings == settings_of(recipe("mini"), model("mini"), 1)
    assert (found.settings.size, found.settings.micro_batch_size, found.settings.accumulates) == (64, 32, False)
    printed = capsys.readouterr().out
    assert "Miniature at 64 px: float32 weights" in printed and "activations" in printed


def test_a_recipe_that_does_not_fit_is_refused_with_settings_that_do() -> None:
    spec, asked = model("mini"), recipe("mini", micro_batch_size=16)
    need = plan_of(spec, settings_of(asked, spec, 1)).peak
    memory = next(size for size in range(2 * 2**30, 4 * 2**30, 2**20) if usable(size) > 0.9 * need)
    with pytest.raises(TrainingError, match="mini as asked needs .* with --set ") as refused:
        admit(asked, spec, memory)
    changed = parse(re.findall(r"--set (\S+)", str(refused.value)))
    found = admit(recipe("mini", **{"micro_batch_size": 16, **changed}), spec, memory)
    assert found.peak <= usable(memory) < need


def test_every_step_down_the_ladder_needs_less_and_the_micro_batch_shrinks_before_the_weights_do() -> None:
    steps = list(ladder(Settings(size=64, micro_batch_size=64)))
    assert [step.mixed_precision for step in steps[:2]] == ["no", "bf16"]
    shrunk = next(index for index, step in enumerate(steps) if step.micro_batch_size < 64)
    lean = next(index for index, step in enumerate(steps) if step.weights == "bfloat16")
    assert shrunk < lean
    in_float32 = [plan_of(model("mini"), step).peak for step in steps[:lean]]
    assert in_float32 == sorted(in_float32, reverse=True)
    assert (steps[-1].micro_batch_size, steps[-1].optimizer, steps[-1].average_on) == (1, "adamw8bit", "host")


def test_the_settings_found_fit_and_the_ones_before_them_do_not() -> None:
    spec, start = model("mini"), Settings(size=64, micro_batch_size=64)
    plans = [plan_of(spec, settings) for settings in ladder(start)]
    for before, found in ((plans[0], plans[1]), (plans[2], plans[3])):
        memory = next(size for size in range(2 * 2**30, 4 * 2**30, 2**20) if usable(size) >= found.peak)
        assert usable(memory) < before.peak
        assert fitting(spec, memory, micro_batch_size=64) == found


def test_the_largest_model_fits_80_gib_only_with_every_saving() -> None:
    with pytest.raises(TrainingError) as refused:
        fitting(model("sd35l"), parse_size("24GiB"))
    assert "\n" not in str(refused.value)
    for part in ("bfloat16 weights", "8-bit AdamW", "use a card of", "or 4 of these"):
        assert part in str(refused.value)
    found = fitting(model("sd35l"), parse_size("80GiB"))
    lean = {"weights": "bfloat16", "optimizer": "adamw8bit", "average_on": "host", "gradient_checkpointing": True}
    assert {name: getattr(found.settings, name) for name in lean} == lean
    assert 45 * 2**30 < found.peak < 60 * 2**30


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "memory"), [("sd15", "24GiB"), ("sd21", "24GiB"), ("sdxl", "80GiB"), ("sd35m", "80GiB")]
)
def test_the_other_models_stay_in_float32_weights(key: str, memory: str) -> None:
    assert fitting(model(key), parse_size(memory)).settings.weights == "float32"
