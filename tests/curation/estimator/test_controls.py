"""The estimator beside its controls on a tiny real pipeline: same procedure, figures on unseen labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from curation.estimator.calibration import ATTENTION, IMPACT, LIKELIHOOD, Calibration, Estimator
from curation.estimator.controls import Labelled, build_estimator, calibrate_with_controls, held_out_figures
from curation.estimator.fitting import Search, Statistic
from curation.estimator.keywords import Family, Keywords
from curation.estimator.pipelines import denoiser_of

FAMILY = Family(
    keywords=Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""}),
    unrelated=Keywords(quality="the moon", against={"opposite": "at night", "empty": ""}),
)
SEARCH = Search(timesteps=(400,), contrasts=(("opposite",),), kept=(2,), ridges=(10.0,), batch=8)


@pytest.fixture(scope="module")
def pipe(v_pipeline: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32)


def pictures(count: int, *, seed: int) -> Labelled:
    """Pictures lit from the left, label true, and from the right."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2 == 0
    rows = [np.repeat(rng.integers((170, 10), (240, 80)), 32).astype(np.uint8)[:: 1 if left else -1] for left in labels]
    return Labelled(images=[np.broadcast_to(row[:, None], (64, 64, 3)) for row in rows], labels_B=labels)


def test_controls_go_through_the_same_procedure_and_stand_beside_the_keywords(pipe: StableDiffusionPipeline) -> None:
    calibrations = calibrate_with_controls(pipe, pictures(20, seed=0), family=FAMILY, search=SEARCH)
    assert calibrations["empty prompt"].probe.passes == 2  # equal prompts are asked once
    assert calibrations["unrelated words"].probe.keywords == FAMILY.unrelated
    figures = held_out_figures(pipe, calibrations, pictures(20, seed=1), resamples=50)
    assert figures["pictures"] == {"high": 10, "low": 10}
    columns = (IMPACT, ATTENTION, LIKELIHOOD)
    assert set(figures["auc"]) == {f"{prompt}/{column}" for prompt in calibrations for column in columns}
    assert figures["auc"]["empty prompt/impact_likelihood"]["auc"] == 0.5
    assert {(row["of"], row["over"]) for row in figures["above"]} == {
        (f"keywords/{column}", f"{control}/{column}")
        for column in columns
        for control in ("empty prompt", "unrelated words")
    }


def test_the_built_file_judges_as_the_returned_estimator_and_carries_its_figures(
    pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    out = tmp_path / "weights" / "estimator.json"
    built = build_estimator(
        pipe, out, calibration=pictures(20, seed=0), held_out=pictures(12, seed=1), family=FAMILY, search=SEARCH
    )
    loaded = Calibration.load(out)
    assert loaded == built
    images = pictures(4, seed=2).images
    expected = Estimator(pipe, built).score(images)[IMPACT]
    assert Estimator(pipe, loaded).score(images)[IMPACT].tolist() == expected.tolist()
    assert loaded.held_out["pictures"] == {"high": 6, "low": 6} and "depth" not in loaded.held_out


def test_attention_alone_says_how_deep_its_passes_go(pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    search = replace(SEARCH, statistic=Statistic.ATTENTION)
    built = build_estimator(
        pipe,
        tmp_path / "estimator.json",
        calibration=pictures(20, seed=0),
        held_out=pictures(12, seed=1),
        family=FAMILY,
        search=search,
    )
    running = denoiser_of(pipe).text_layers()
    assert built.held_out["depth"] == {"read": built.depth(running), "layers": len(running)}
    assert {position.layer for position in built.positions} <= set(running[: built.depth(running)])
    assert "keywords/impact_likelihood" not in built.held_out["auc"]
