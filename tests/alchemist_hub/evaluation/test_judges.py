"""The judge network: grouped labels, any input, clear refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_judge import LABELS, tiny_judge

from alchemist_hub.errors import ModelError
from alchemist_hub.evaluation.aspects import aspect_scores, judged_quality, shown_correctly
from alchemist_hub.evaluation.judges import JudgeNetwork, probabilities
from alchemist_hub.miniature.world import Prompt


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> JudgeNetwork:
    return JudgeNetwork.load(tiny_judge(tmp_path_factory.mktemp("judge")))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (70, 64, 64, 3), dtype=np.uint8)


def test_each_group_of_exclusive_labels_sums_to_one_and_the_rest_stand_alone(judge, pixels):
    scores = judge.score_images(pixels)
    assert set(scores) == set(LABELS)
    for group in ("style", "time", "ground", "body"):
        total = sum(values for label, values in scores.items() if label.startswith(f"{group}:"))
        np.testing.assert_allclose(total, 1, atol=1e-5)
    assert not np.allclose(sum(values for label, values in scores.items() if label.startswith("defect:")), 1)
    assert all(values.shape == (70,) and values.min() >= 0 and values.max() <= 1 for values in scores.values())


def test_pil_images_score_as_their_pixels_whatever_the_batch(judge, pixels):
    whole = judge.score_images(pixels)
    alone = judge.score_images([Image.fromarray(pixels[69])])
    for label in LABELS:
        np.testing.assert_allclose(alone[label][0], whole[label][69], atol=1e-5)


def test_softmax_runs_inside_the_group_only():
    labels = ("complexity", "style:photo", "style:oil", "defect:blur")
    found = probabilities(torch.tensor([[0.0, 1.0, 1.0, 0.0]]), labels)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5, 0.5, 0.5]]))
    shifted = probabilities(torch.tensor([[0.0, 9.0, 9.0, 0.0]]), labels)
    torch.testing.assert_close(shifted, found)  # a common shift inside a group changes nothing


def test_no_pictures_make_empty_scores(judge):
    assert judge.score_images([])["aesthetics"].shape == (0,)


def test_a_folder_without_a_judge_is_refused_in_words(tmp_path: Path):
    with pytest.raises(ModelError, match="no judge network in"):
        JudgeNetwork.load(tmp_path)
    with pytest.raises(ModelError, match="lacks aesthetics"):
        JudgeNetwork.load(tiny_judge(tmp_path / "other", labels=("complexity", "quality")))


def judged(**values: float) -> dict[str, np.ndarray]:
    base = dict.fromkeys(LABELS, 0.0) | {"complexity": 0.4, "aesthetics": 0.8}
    return {label: np.array([value]) for label, value in (base | values).items()}


def test_relevance_is_the_mean_probability_of_what_was_asked():
    asked = [Prompt(text="an oil painting of the sea at night", style="oil", time="night", ground="sea", body="none")]
    scores = judged(
        **{
            "style:oil": 1.0,
            "time:night": 0.5,
            "time:day": 0.4,
            "ground:lake": 0.9,
            "ground:sea": 0.1,
            "body:none": 0.4,
        }
    )
    assert aspect_scores(scores, asked)["relevance"][0] == pytest.approx(0.5)
    shown = shown_correctly(scores, asked)
    assert {part: values[0] for part, values in shown.items()} == {"style": 1, "time": 1, "ground": 0, "body": 1}


def test_defects_add_up_and_cost_quality():
    scores = judged(**{"defect:blur": 0.5, "defect:noise": 0.25})
    asked = [Prompt(text="", style="oil", time="night", ground="sea", body="none")]
    assert aspect_scores(scores, asked)["defects"][0] == pytest.approx(0.75)
    assert judged_quality(scores)[0] == pytest.approx(0.6 - 0.75)
