"""Model cards: what the Hub parses, what people read, what they admit, what they never tell."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from PIL import Image
from tiny_models import tiny_base

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import votes
from alchemist_hub.evaluation.generate import Settings, checkpoint_id, folder_name, noise_seed, picture_name
from alchemist_hub.evaluation.results import Judged, Report, compare, write_json
from alchemist_hub.models import MODELS
from alchemist_hub.publishing.cards import write_model_card
from alchemist_hub.publishing.facts import read_model_facts

TRAINING = {
    "recipe": {
        "steps": 400,
        "batch_size": 32,
        "learning_rate": 2e-4,
        "schedule": "cosine",
        "seed": 0,
        "ema": 0.99,
        "caption_dropout": 0.1,
        "warmup": 20,
    },
    "base": {"name": "/home/someone/bases/mini", "revision": None},
    "data": {"fingerprint": "abc123", "samples": 161, "not shown": {"empty prompt": 0, "too small": 7}},
    "objective": "v_prediction",
    "final_loss": 0.31415,
    "code": {"alchemist-hub": "0.1.0"},
    "hardware": "cpu",
    "seconds": 123.4,
    "energy": {"kWh": 0.00104, "watts": 30.0, "watts are": "assumed: 15 a thread"},
}
FUNNEL = {
    "pool": 4000,
    "kept": {"count": 160, "tiers": {"excellent": 88}, "unsafe": 0, "watermarked": 0, "degraded": 1, "repeated": 0},
    "enrichment": {"value": 3.31, "low": 2.8, "high": 3.9},
}


PROMPTS = tuple(f"prompt {row} | <b>of</b> [mars]" for row in range(20))
SETTINGS = Settings(seeds=(0, 1), steps=20, guidance=4.0)


def report(tuned: str, arms: tuple[str, ...] = ("tuned", "random")) -> Report:
    """A report on a checkpoint of the id `tuned`."""
    rng = np.random.default_rng(0)
    names = ("aesthetics", "complexity", "defects", "relevance")
    scores = {arm: {name: rng.uniform(0, 1, (20, 2)) for name in names} for arm in ("base", *arms)}
    return Report(
        title="t",
        version="0.1.0",
        checkpoints=dict.fromkeys(scores, "0" * 12) | {"tuned": tuned},
        prompts=PROMPTS,
        seeds=SETTINGS.seeds,
        steps=SETTINGS.steps,
        guidance=SETTINGS.guidance,
        training={"tuned": TRAINING},
        comparisons=compare(scores, [(arm, "base") for arm in arms]),
        shown={arm: {"ground": votes.Interval(value=0.8, low=0.7, high=0.9)} for arm in scores},
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "tuned" / "pipeline"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "X"]}')
    (folder / "unet" / "config.json").write_text("{}")
    (folder / "training.json").write_text(json.dumps(TRAINING))
    return folder


@pytest.fixture
def evaluation(tmp_path: Path, checkpoint: Path) -> Path:
    folder = tmp_path / "report"
    (folder / "figures").mkdir(parents=True)
    tuned = checkpoint_id(checkpoint)
    write_json(asdict(report(tuned)), folder / "report.json")
    write_json(FUNNEL, folder / "funnel.json")
    for colour, weights in (((255, 0, 0), "0" * 12), ((0, 0, 255), tuned)):
        painted = folder / "pictures" / folder_name(weights, SETTINGS)
        painted.mkdir(parents=True)
        for prompt in PROMPTS[:2]:
            Image.new("RGB", (64, 32), colour).save(painted / picture_name(prompt, 0))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "card"


@pytest.mark.parametrize("key", MODELS)
def test_the_metadata_names_licence_base_relation_and_data(key, out):
    data = ModelCard.load(write_model_card(key, None, out)).data.to_dict()
    spec = MODELS[key]
    assert (data["library_name"], data["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert data["base_model_relation"] == "finetune"
    assert data["license"] == spec.licence
    assert (data.get("license_name"), data.get("license_link")) == (spec.licence_name, spec.licence_link)
    if key == "mini":
        names = ("alchemist-hub/miniature-base", ["alchemist-hub/miniature-dataset"])
        assert (data["base_model"], data["datasets"]) == names
    else:
        assert (data["base_model"], data["datasets"]) == (spec.base, ["alchemist-hub/alchemist"])


@pytest.mark.parametrize("key", MODELS)
def test_without_an_evaluation_the_card_says_so_and_claims_nothing(key, out):
    card = ModelCard.load(write_model_card(key, None, out))
    assert "has not been evaluated" in card.text and "win rate" not in card.text
    assert "No training record" in card.text
    assert card.data.eval_results is None and not (out / ".eval_results").exists()


@pytest.mark.parametrize("key", MODELS)
def test_the_example_is_python_that_loads_the_repository_as_its_class(key, out):
    text = write_model_card(key, None, out, organisation="someone").read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    compile(example, "example", "exec")
    own = f"someone/{MODELS[key].tuned.rpartition('/')[2]}" if key != "mini" else "someone/miniature"
    assert f'{MODELS[key].pipeline}.from_pretrained(\n    "{own}",' in example
    assert "alchemist-hub/" not in text


@pytest.mark.parametrize("key", ["sd21", "sdxl", "sd35m", "mini"])
def test_the_example_paints_a_picture(key, out, tmp_path, monkeypatch):
    repository = read_model_facts(key).repository
    tiny_base("sd21" if key == "mini" else key, tmp_path / repository)
    text = write_model_card(key, None, out).read_text()
    example = text.partition("```python\n")[2].partition("```")[0]
    steps = f"num_inference_steps={MODELS[key].steps}"
    assert steps in example
    for found, here in ((steps, "num_inference_steps=2"), ('"cuda"', '"cpu"'), ("float16", "float32")):
        example = example.replace(found, here)
    monkeypatch.chdir(tmp_path)  # where the repository's name is a folder's
    names: dict[str, Any] = {}
    exec(example.replace("bfloat32", "float32"), names)
    assert isinstance(names["image"], Image.Image)


def test_a_card_names_what_judged_its_pictures_and_what_could_not(evaluation, checkpoint, out):
    judged = (
        Judged(name="clip-score", about="a", source="openai/clip", revision="abc"),
        Judged(name="size", about="b"),
    )
    found = replace(report(checkpoint_id(checkpoint)), judged=judged, left_out={"pickscore": "no weights"})
    write_json(asdict(found), evaluation / "report.json")
    text = write_model_card("sdxl", checkpoint, out, report=evaluation).read_text()
    assert "Judged by clip-score (openai/clip at `abc`), size.\nNot measured: pickscore.\n" in text


def test_figures_against_a_reference_opponent_are_shown_and_go_with_it(evaluation, checkpoint, out):
    Image.new("RGB", (80, 40), "teal").save(evaluation / "figures" / "before_after_FLUX.1-dev.png")
    found = report(checkpoint_id(checkpoint), ("tuned", "FLUX.1-dev"))
    write_json(asdict(replace(found, opponents=("FLUX.1-dev", "drawn by none"))), evaluation / "report.json")
    card = write_model_card("mini", checkpoint, out, report=evaluation)
    assert card.read_text().count("](assets/before_after_FLUX.1-dev.png)") == 1
    with Image.open(out / "assets" / "before_after_FLUX.1-dev.png") as figure:
        assert figure.size == (80, 40)
    write_json(asdict(found), evaluation / "report.json")
    write_model_card("mini", checkpoint, out, report=evaluation)
    assert not list(out.glob("assets/before_after*"))


def test_both_forms_of_the_results_give_the_measured_win_rates_back(evaluation, checkpoint, out):
    card = ModelCard.load(write_model_card("mini", checkpoint, out, evaluation))
    expected = {aspect.aspect: round(aspect.win_rate.value, 4) for aspect in report("").comparison("tuned").aspects}
    again = ModelCard(str(card)).data
    assert {result.metric_name.partition(":")[0]: result.metric_value for result in again.eval_results} == expected
    assert "model-index" in again.to_dict()
    (file,) = (out / ".eval_results").iterdir()
    entries = parse_eval_result_entries(yaml.safe_load(file.read_text()))
    assert {entry.task_id: entry.value for entry in entries} == expected
    assert all("95%" in entry.notes and "20 prompts" in entry.notes for entry in entries)


def test_results_are_filed_under_the_prompts_data_set_where_they_have_one(evaluation, out):
    write_model_card("sdxl", None, out, evaluation)
    assert not (out / ".eval_results").exists()
    write_model_card("sdxl", None, out, evaluation, prompts_dataset="someone/prompts")
    (file,) = (out / ".eval_results").iterdir()
    assert {entry.dataset_id for entry in parse_eval_result_entries(yaml.safe_load(file.read_text()))} == {
        "someone/prompts"
    }


def test_the_text_gives_win_rates_with_intervals_and_how_many(evaluation, checkpoint, out):
    text = write_model_card("mini", checkpoint, out, evaluation).read_text()
    aspect = report("").comparison("tuned").aspect("aesthetics")
    won = f"{aspect.votes.wins}, {aspect.votes.ties}, {aspect.votes.losses}"
    rate = aspect.win_rate
    assert f"| aesthetics | {rate.value:.0%} | {rate.low:.0%} to {rate.high:.0%} | {won} |" in text
    assert "40 pairs of pictures" in text and "Holm over all 8 tests" in text
    assert "random over base" in text
    assert "88 of 160, 3.3 times their share" in text
    assert "not been evaluated" not in text


def test_training_facts_are_told_with_the_origin_of_the_watts(checkpoint, out):
    text = write_model_card("mini", checkpoint, out).read_text()
    assert "400 steps of 32 pictures" in text and "`abc123`" in text and "0.3141" in text
    assert "161 shown; not shown: 7 too small" in text
    assert "about 1 Wh at 30 W (assumed: 15 a thread)" in text


def test_watts_that_a_card_did_not_tell_are_not_made_up(checkpoint, out):
    energy = {"kWh": None, "watts": None, "watts are": "not told by the card"}
    (checkpoint / "training.json").write_text(json.dumps(TRAINING | {"energy": energy}))
    assert "| energy | not recorded: not told by the card |" in write_model_card("mini", checkpoint, out).read_text()


def test_a_card_names_no_folder_of_the_machine_it_was_made_on(evaluation, checkpoint, out, tmp_path):
    for file in write_model_card("mini", checkpoint, out, evaluation).parent.rglob("*"):
        told = file.read_bytes() if file.is_file() else b""
        assert b"someone" not in told and str(tmp_path).encode() not in told


def test_the_first_pairs_are_shown_enlarged_with_their_prompts_escaped(evaluation, checkpoint, out):
    text = write_model_card("mini", checkpoint, out, evaluation).read_text()
    noise = noise_seed("prompt 0 | <b>of</b> [mars]", 0)
    assert f"| prompt 0 \\| &lt;b&gt;of&lt;/b&gt; \\[mars\\] (seed {noise}) | ![base](assets/0-base.jpg)" in text
    assert sorted(path.name for path in (out / "assets").iterdir()) == [
        f"{number}-{arm}.jpg" for number in range(2) for arm in ("base", "tuned")
    ]
    shown = Image.open(out / "assets" / "1-tuned.jpg")
    assert shown.size == (384, 192) and shown.getpixel((0, 0))[2] > 250


def test_a_sheet_of_samples_is_shown_without_what_its_file_says_of_its_maker(checkpoint, out, tmp_path):
    sheet, exif = tmp_path / "sheet.png", Image.Exif()
    exif[0x013B] = "someone"
    Image.new("RGB", (8, 8)).save(sheet, exif=exif)
    text = write_model_card("sdxl", checkpoint, out, samples=sheet).read_text()
    assert "](assets/samples.png)" in text and "has not been evaluated" in text
    assert not Image.open(out / "assets" / "samples.png").getexif()


def test_a_new_card_leaves_nothing_of_the_older_one(evaluation, checkpoint, out):
    write_model_card("mini", checkpoint, out, evaluation)
    (out / "assets" / "own.txt").write_text("not a card's")
    with pytest.raises(EvaluationError, match="is no picture"):
        write_model_card("mini", checkpoint, out, samples=out / "nothing.png")
    assert (out / "assets" / "0-base.jpg").is_file()
    write_model_card("mini", checkpoint, out)
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["README.md", "own.txt"]


def test_a_funnel_alone_is_told_but_no_comparison_is_claimed(evaluation, checkpoint, out):
    (evaluation / "report.json").unlink()
    text = write_model_card("mini", checkpoint, out, evaluation).read_text()
    assert "88 of 160" in text and "has not been evaluated" in text


def test_a_run_folder_stands_for_its_checkpoint_and_a_report_for_its_training(evaluation, checkpoint, out):
    assert "400 steps of 32" in write_model_card("mini", checkpoint.parent, out).read_text()
    assert "400 steps of 32" in write_model_card("mini", None, out, evaluation).read_text()


def test_a_report_of_another_checkpoint_is_refused(evaluation, checkpoint, out):
    (checkpoint / "unet" / "config.json").write_text('{"other": 1}')
    with pytest.raises(EvaluationError, match="is about the checkpoint .* evaluate it first"):
        write_model_card("mini", checkpoint, out, evaluation)
    assert not out.exists()


def test_a_folder_that_is_no_report_of_the_tuned_model_is_refused(out, tmp_path):
    with pytest.raises(EvaluationError, match="no evaluation in"):
        write_model_card("mini", None, out, tmp_path)
    write_json(asdict(report("", ("random",))), tmp_path / "report.json")
    with pytest.raises(EvaluationError, match='does not compare "tuned" with "base"'):
        write_model_card("mini", None, out, tmp_path)


def test_a_training_record_that_lacks_a_fact_is_refused(checkpoint, out):
    (checkpoint / "training.json").write_text(json.dumps({"recipe": TRAINING["recipe"]}))
    with pytest.raises(EvaluationError, match="training.json has no 'objective'"):
        write_model_card("mini", checkpoint, out)


def test_a_damaged_training_record_is_one_line(checkpoint, out):
    (checkpoint / "training.json").write_text("{bad")
    with pytest.raises(EvaluationError, match="training.json is damaged"):
        write_model_card("mini", checkpoint, out)
