"""Facts files: every one is whole, a wrong one is refused, names move with the organisation, texts stay texts."""

import pytest

from alchemist_hub.errors import EvaluationError
from alchemist_hub.models import MODELS
from alchemist_hub.publishing.facts import CARDS, amount, cell, duration, energy, read_dataset_facts, read_model_facts


@pytest.mark.parametrize("key", MODELS)
def test_every_model_has_facts_that_agree_with_its_spec(key):
    facts, spec = read_model_facts(key), MODELS[key]
    assert facts.limits and facts.intended_use and facts.summary
    if key != "mini":
        assert (facts.base_model, facts.authors_repository) == (spec.base, spec.tuned)
        assert facts.repository.rpartition("/")[2] == spec.tuned.rpartition("/")[2]


def test_the_data_set_has_facts():
    facts = read_dataset_facts()
    assert facts.authors_repository == "yandex/alchemist"
    assert {"img_key", "url", "prompt", "image"} <= facts.columns.keys()


@pytest.mark.parametrize(
    ("old", "new"), [("base_model:", "base_modle:"), ("language: en", ""), ("name:", "x: 1\nname:")]
)
def test_a_missing_misspelt_or_unknown_fact_is_named(tmp_path, old, new):
    (tmp_path / "mini.yaml").write_text((CARDS / "mini.yaml").read_text().replace(old, new, 1))
    with pytest.raises(EvaluationError, match=r"wrong or missing are (base_model, base_modle|language|x);"):
        read_model_facts("mini", tmp_path)


def test_without_a_checkout_the_error_says_where_cards_are_made(tmp_path):
    with pytest.raises(EvaluationError, match="in a checkout of the project"):
        read_model_facts("mini", tmp_path)


def test_only_this_projects_repositories_move_to_another_organisation():
    moved = read_model_facts("sdxl").published_by("someone")
    assert moved.repository == "someone/stable-diffusion-xl-base-1.0-alchemist"
    assert moved.datasets == ["someone/alchemist"]
    assert moved.base_model.startswith("stabilityai/") and moved.authors_repository.startswith("yandex/")


def test_a_text_of_others_stays_one_line_of_text_in_a_table():
    assert cell("a | b\n![x](y) <i>") == "a \\| b \\!\\[x\\](y) &lt;i&gt;"


@pytest.mark.parametrize(("seconds", "told"), [(162.4, "162 s"), (2520, "42 minutes"), (40_680, "11.3 hours")])
def test_a_duration_is_told_in_the_unit_that_people_use(seconds, told):
    assert duration(seconds) == told


@pytest.mark.parametrize(("kwh", "told"), [(0.00068, "0.68 Wh"), (2.34, "2.3 kWh"), (1234.5, "1,234 kWh")])
def test_energy_is_told_with_as_many_digits_as_an_estimate_has(kwh, told):
    assert energy(kwh) == told


@pytest.mark.parametrize(("count", "told"), [(9_508_820, "10 million"), (8_056_627_520, "8.1 billion")])
def test_a_large_number_is_told_as_people_say_it(count, told):
    assert amount(count) == told
