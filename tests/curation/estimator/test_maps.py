"""The maps of where the estimator responds have its statistics for their means, on tiny pipelines of each class."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from curation.estimator.attention import token_norms, token_places
from curation.estimator.calibration import Calibration, Estimator
from curation.estimator.fitting import Search, calibrate
from curation.estimator.keywords import Keywords
from curation.estimator.likelihood import likelihood_ratio, measure
from curation.estimator.maps import maps, on_grid, ratio_deviations, ratio_map
from curation.estimator.pipelines import denoiser_of

KEYWORDS = Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""})
CLASSES = ("v_pipeline", "xl_pipeline", "sd3_pipeline")


def pictures(count: int, side: int = 64) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


@pytest.fixture(params=CLASSES)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    pipe = DiffusionPipeline.from_pretrained(request.getfixturevalue(request.param), dtype=torch.float32)
    search = Search(timesteps=(200, 600), kept=(3,), batch=4)
    found = calibrate(pipe, pictures(20), np.arange(20) % 2 == 0, keywords=KEYWORDS, search=search)
    return Estimator(pipe, found).unfilled()


def read(estimator: Estimator, image: np.ndarray) -> dict[str, float]:
    calibration = estimator.calibration
    tokens = sorted({position.token for position in calibration.positions})
    readings = measure(estimator.denoiser, calibration.probe, [image], tokens=tokens, layers=calibration.layers)
    return {name: float(values[0]) for name, values in calibration.statistics(readings).items()}


def test_each_map_has_its_statistic_for_a_mean(estimator: Estimator) -> None:
    calibration, image = estimator.calibration, pictures(21)[20]
    found, statistics = maps(estimator.denoiser, calibration, image), read(estimator, image)
    ratios = [statistics[name] / deviation for name, deviation in ratio_deviations(calibration).items()]
    assert found.likelihood.mean() == pytest.approx(np.mean(ratios), rel=1e-3, abs=1e-4)
    times = [position.timestep for position in calibration.positions]
    attention = np.mean([statistics[f"attention@{timestep}"] for timestep in times])
    assert found.attention.mean() == pytest.approx(attention, rel=1e-3, abs=1e-3)
    assert found.likelihood.shape == found.attention.shape
    assert found.likelihood.std() > 0 and found.attention.std() > 0


def test_a_calibration_of_one_statistic_has_one_map(v_pipeline: Path) -> None:
    pipe = DiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32)
    search = Search(timesteps=(300,), kept=(2,), batch=4)
    both = calibrate(pipe, pictures(20), np.arange(20) % 2 == 0, keywords=KEYWORDS, search=search)
    alone: Calibration = both.only("impact_attention")
    found = maps(denoiser_of(pipe), alone, pictures(1)[0])
    assert found.likelihood is None and found.attention is not None
    of_ratio = maps(denoiser_of(pipe), both.only("impact_likelihood"), pictures(1)[0])
    assert of_ratio.attention is None and of_ratio.likelihood is not None


def test_the_ratio_is_high_where_the_keywords_are_right() -> None:
    target, quality, against = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    against[0, :, 0, 1] = 2.0
    quality[0, :, 1, 0] = 3.0
    found = ratio_map(target, quality, against)
    assert found[0].tolist() == [[0, 4], [-9, 0]]
    assert found.mean().item() == likelihood_ratio(target, quality, against).item()


def test_the_mean_over_places_is_the_norm() -> None:
    probability, value = torch.rand(2, 3, 16, 5), torch.randn(1, 3, 5, 7)
    places = token_places(probability, value)
    assert places.shape == (2, 2, 5, 16)
    assert torch.allclose(places.mean(dim=-1), token_norms(probability, value), rtol=1e-5)
    assert (places >= 0).all()
    assert token_places(torch.zeros(1, 1, 4, 1), torch.zeros(1, 1, 1, 2)).abs().max() == 0


@pytest.mark.parametrize("size", [(2, 4), (4, 8), (8, 16)])
def test_a_coarse_layer_keeps_its_mean_and_its_places_on_the_grid(size: tuple[int, int]) -> None:
    places = torch.arange(8.0)
    found = on_grid(places, size)
    assert tuple(found.shape) == size
    assert found.mean() == places.mean()
    assert found[0, 0] == 0 and found[-1, -1] == 7 and found[0, -1] == 3


def test_one_picture_alone_scores_as_in_a_full_pass(v_pipeline: Path) -> None:
    pipe = DiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32)
    search = Search(timesteps=(300,), kept=(2,), batch=8)
    full = Estimator(pipe, calibrate(pipe, pictures(20), np.arange(20) % 2 == 0, keywords=KEYWORDS, search=search))
    image = pictures(1)
    alone, together = full.unfilled().score(image), full.score(image)
    assert {name: value[0] for name, value in alone.items()} == pytest.approx(
        {name: value[0] for name, value in together.items()}, rel=1e-3, abs=1e-3
    )
