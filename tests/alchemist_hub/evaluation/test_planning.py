"""From what people ask for to a plan: what is usual, what has to be left out, what is refused, in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import planning
from alchemist_hub.evaluation.planning import Asked, make_plan, run
from alchemist_hub.evaluation.results import read_report


def pictures(folder: Path, count: int = 8) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in range(count):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def names(plan: planning.Plan) -> list[str]:
    return [measure.judged.name for measure in plan.measures]


def test_the_miniature_is_judged_by_its_judge_on_its_own_prompts():
    plan = make_plan(Asked(), "cpu")
    assert names(plan) == ["judge"] and not plan.left_out
    assert (plan.prompts.source.name, len(plan.prompts.prompts), plan.seeds) == ("miniature", 200, (0,))
    assert plan.dtype == "float32" and plan.title.startswith("Miniature")


def test_other_models_get_the_projects_prompts_and_the_measures_that_this_machine_has(sd3_pipeline):
    plan = make_plan(Asked(base=str(sd3_pipeline), tuned=str(sd3_pipeline), seeds=2), "cpu")
    assert names(plan) == ["complexity"]
    assert list(plan.left_out) == [name for name in planning.USUAL if name != "complexity"]
    assert all("\n" not in reason and len(reason) > 20 for reason in plan.left_out.values())
    assert plan.prompts.source.name == "project" and plan.seeds == (0, 1)


def test_the_miniature_on_other_prompts_is_not_asked_of_its_judge():
    assert names(make_plan(Asked(prompts="project", count=3), "cpu")) == ["complexity"]


def test_a_measure_that_was_asked_for_is_not_left_out():
    with pytest.raises(ModelError, match="PickScore|pickscore"):
        make_plan(Asked(metrics=("complexity", "pickscore")), "cpu")
    assert names(make_plan(Asked(metrics=("judge", "complexity-jpeg", "judge")), "cpu")) == ["judge", "complexity-jpeg"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Asked(metrics=("judge", "beauty")), "unknown measure beauty; there are judge, clip-score"),
        (Asked(metrics=()), "nothing to judge by: --metrics names none"),
        (Asked(weights={"beauty": "x"}), "unknown measure beauty"),
        (Asked(reference="/nowhere"), "--reference /nowhere does not exist"),
        (Asked(training_data="{tmp}"), "--training-data {tmp} holds neither pictures nor a frozen data set"),
        (Asked(dtype="int8"), "--dtype int8 is unknown: expected float32, bfloat16, float16"),
        (Asked(prompts="{tmp}/none.txt"), "no prompts called"),
    ],
)
def test_bad_wishes_are_one_clear_error(asked, says, tmp_path):
    filled = {
        name: value.format(tmp=tmp_path) if isinstance(value, str) else value for name, value in vars(asked).items()
    }
    with pytest.raises(EvaluationError) as error:
        make_plan(Asked(**filled), "cpu")
    assert says.format(tmp=tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_too_few_pictures_for_a_set_are_refused_before_any_is_painted(tmp_path):
    few, enough = pictures(tmp_path / "few", 5), pictures(tmp_path / "enough", 6)
    with pytest.raises(EvaluationError, match="holds 5 pictures; 6 are the least"):
        make_plan(Asked(reference=str(few), count=20), "cpu")
    with pytest.raises(EvaluationError, match="6 x 1 pictures are none: ask for 10 or more"):
        make_plan(Asked(reference=str(enough), count=6), "cpu")
    assert make_plan(Asked(reference=str(enough), count=3, seeds=3), "cpu").reference == "6 pictures of enough"
    assert make_plan(Asked(reference="miniature", count=20), "cpu").reference == "1000 pictures of miniature"


def test_a_device_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(EvaluationError, match="--device warp cannot be used"):
        run(Asked(device="warp"), tmp_path)


def test_what_a_process_that_only_paints_needs_no_measure():
    assert make_plan(Asked(metrics=("judge",)), "cpu", judging=False).measures == ()


def test_sets_are_held_against_real_pictures_and_copies_are_looked_for(v_pipeline, tmp_path):
    real = pictures(tmp_path / "photos")
    (real / "cut.png").write_bytes((real / "0.png").read_bytes()[:100])
    asked = Asked(
        base=str(v_pipeline),
        tuned="mini",
        prompts="miniature",
        count=8,
        metrics=("complexity",),
        reference=str(real),
        training_data=str(real),
        features="thumbnail",
        steps=1,
    )
    out = tmp_path / "report"
    report = run(asked, out)
    assert read_report(out) == report
    assert list(report.sets["tuned"]) == ["FD-thumbnail", "precision", "recall", "density", "coverage"]
    found = report.sets["base"]["FD-thumbnail"]
    assert found.low <= found.value <= found.high and found.value > 0
    assert report.reference == "8 pictures of photos"  # of nine files one is broken
    assert (report.copies.arm, report.copies.generated, report.copies.training) == ("tuned", 8, 8)
    assert (
        "pictures of photos" in (out / "report.html").read_text()
        and str(tmp_path) not in (out / "report.json").read_text()
    )
