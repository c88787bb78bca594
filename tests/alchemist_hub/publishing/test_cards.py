"""The miniature's card: what the Hub parses, what people read, what it admits."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import votes
from alchemist_hub.evaluation.results import Report, compare, write_json
from alchemist_hub.publishing import cards

TRAINING = {
    "recipe": {
        "steps": 400,
        "batch_size": 32,
        "learning_rate": 2e-4,
        "schedule": "cosine",
        "seed": 0,
        "ema": 0.99,
        "caption_dropout": 0.1,
    },
    "data": {"fingerprint": "abc123", "samples": 161},
    "objective": "v_prediction",
    "final_loss": 0.31415,
    "code": {"alchemist-hub": "0.1.0"},
    "hardware": "cpu",
    "seconds": 123.4,
}
FUNNEL = {
    "pool": 4000,
    "kept": {"count": 160, "tiers": {"excellent": 88}, "unsafe": 0, "watermarked": 0, "degraded": 1, "repeated": 0},
    "enrichment": {"value": 3.31, "low": 2.8, "high": 3.9},
}


def report(arms: tuple[str, ...] = ("tuned", "random")) -> Report:
    rng = np.random.default_rng(0)
    names = ("aesthetics", "complexity", "defects", "relevance")
    scores = {arm: {name: rng.uniform(0, 1, (20, 2)) for name in names} for arm in ("base", *arms)}
    return Report(
        title="t",
        version="0.1.0",
        checkpoints=dict.fromkeys(scores, "0" * 12),
        prompts=tuple(f"prompt {row}" for row in range(20)),
        seeds=(0, 1),
        steps=20,
        guidance=4.0,
        training={"tuned": TRAINING},
        comparisons=compare(scores, [(arm, "base") for arm in arms]),
        shown={arm: {"ground": votes.Interval(value=0.8, low=0.7, high=0.9)} for arm in scores},
    )


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    return tmp_path / "tuned" / "README.md"


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    write_json(asdict(report()), folder / "report.json")
    write_json(FUNNEL, folder / "funnel.json")
    Image.new("RGB", (8, 8)).save(folder / "figures" / "grid.png")
    return folder


def test_the_metadata_names_licence_base_and_relation(evaluation, readme):
    data = ModelCard.load(cards.write_card(evaluation, readme)).data.to_dict()
    assert data["license"] == "apache-2.0"
    assert (data["base_model"], data["base_model_relation"]) == ("alchemist-hub/miniature-base", "finetune")
    assert (data["library_name"], data["pipeline_tag"]) == ("diffusers", "text-to-image")


def test_the_hubs_client_reads_the_measured_win_rates_back(evaluation, readme):
    card = ModelCard.load(cards.write_card(evaluation, readme))
    expected = report().comparison("tuned")
    found = {result.metric_name.partition(":")[0]: result.metric_value for result in card.data.eval_results}
    assert found == {aspect.aspect: round(aspect.win_rate.value, 4) for aspect in expected.aspects}
    assert "model-index" in card.data.to_dict()


def test_the_text_gives_win_rates_with_intervals_training_facts_and_funnel_numbers(evaluation, readme):
    text = cards.write_card(evaluation, readme).read_text()
    aspect = report().comparison("tuned").aspect("aesthetics")
    assert (
        f"| aesthetics | {aspect.win_rate.value:.0%} | {aspect.win_rate.low:.0%} to {aspect.win_rate.high:.0%} |"
        in text
    )
    assert "random over base" in text
    assert "400 steps of 32 pictures" in text and "`abc123`" in text and "0.3141" in text
    assert "88 of 160, 3.3 times their share" in text
    assert "not been evaluated" not in text


def test_only_figures_that_exist_are_shown(evaluation, readme):
    text = cards.write_card(evaluation, readme).read_text()
    assert "](assets/grid.png)" in text and (readme.parent / "assets" / "grid.png").is_file()
    assert "win_rates.png" not in text


def test_without_an_evaluation_the_card_says_so_and_claims_nothing(readme):
    card = ModelCard.load(cards.write_card(None, readme))
    assert "has not been evaluated" in card.text and "win rate" not in card.text
    assert card.data.eval_results is None


def test_a_funnel_alone_is_told_but_no_comparison_is_claimed(evaluation, readme):
    (evaluation / "report.json").unlink()
    text = cards.write_card(evaluation, readme).read_text()
    assert "88 of 160" in text and "has not been evaluated" in text


def test_training_facts_come_from_the_checkpoint_if_one_is_named(readme):
    assert "No training record" in cards.write_card(None, readme).read_text()
    readme.with_name("training.json").write_text(json.dumps(TRAINING))
    assert "400 steps of 32" in cards.write_card(None, readme, checkpoint=readme.parent).read_text()


def test_a_folder_that_is_no_report_of_the_tuned_model_is_refused(readme, tmp_path):
    with pytest.raises(EvaluationError, match="no evaluation in"):
        cards.write_card(tmp_path, readme)
    write_json(asdict(report(("random",))), tmp_path / "report.json")
    with pytest.raises(EvaluationError, match='does not compare "tuned" with "base"'):
        cards.write_card(tmp_path, readme)


def test_a_facts_file_with_a_misspelt_fact_is_refused(tmp_path):
    text = (cards.CARDS / "miniature.yaml").read_text().replace("base_model:", "base_modle:")
    (tmp_path / "facts.yaml").write_text(text)
    with pytest.raises(EvaluationError, match="base_model, base_modle"):
        cards.read_facts(tmp_path / "facts.yaml")
