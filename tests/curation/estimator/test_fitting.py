"""Calibration on planted answers, and whole on a tiny real pipeline."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from curation.errors import CalibrationError
from curation.estimator import fitting
from curation.estimator.attention import NORMS
from curation.estimator.calibration import ATTENTION, IMPACT, LIKELIHOOD, Calibration, Estimator
from curation.estimator.denoiser import Token
from curation.estimator.fitting import Search, Statistic, calibrate, fit
from curation.estimator.keywords import Keywords
from curation.estimator.likelihood import KINDS, Probe, Readings, measure
from curation.estimator.pipelines import denoiser_of
from curation.estimator.score import auc

LAYERS = ("down", "mid", "up")
TOKENS = tuple(Token(index=index, text=f"word{index}", role="word") for index in range(1, 6))
KEYWORDS = Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""})
PROBE = Probe(keywords=KEYWORDS, timesteps=(100, 300, 500), contrasts=("opposite", "empty"), image_size=64)
ALONE = Search(statistic=Statistic.ATTENTION, kept=(1, 4))
QUICK = Search(timesteps=(200, 600), kept=(1, 4), ridges=(3.0, 30.0), max_passes=6, batch=8)


def planted(count: int = 400, *, seed: int = 0) -> tuple[Readings, np.ndarray]:
    """Noise, but for: the "value" norm of word3 in layer "up" at 300 falls, the ratio to the opposite at 500 rises."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2 == 0
    norms_BTNLK = rng.normal(5, 1, (count, 3, 2, 3, 5)).astype(np.float32)
    norms_BTNLK[:, 1, 1, 2, 2] -= 1.5 * labels
    names = [f"{kind}/{role}" for role in ("opposite", "empty") for kind in KINDS] + ["residual/quality"]
    statistics = {f"{name}@{t}": rng.normal(size=count) for t in PROBE.timesteps for name in names}
    statistics["ratio/opposite@500"] += 1.5 * labels
    return Readings(
        statistics=statistics, norms_BTNLK=norms_BTNLK, layers=LAYERS, tokens=tuple(t.index for t in TOKENS)
    ), labels


def planted_from(depth: int, *, count: int = 200) -> tuple[Readings, np.ndarray]:
    """Noise, but for word2's "value" norm: from `depth` on it rises, and deeper layers repeat it a little clearer."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2 == 0
    norms_BTNLK = rng.normal(5, 1, (count, 3, 2, 3, 5)).astype(np.float32)
    for layer in range(depth - 1, 3):
        norms_BTNLK[:, :, 1, layer, 1] = norms_BTNLK[:, :, 1, -1, 1] + (1 + 0.02 * layer) * labels[:, None]
    return replace(planted()[0], norms_BTNLK=norms_BTNLK), labels


@pytest.fixture(scope="module")
def pipe(v_pipeline: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32)


def pictures(count: int, *, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures lit from the left, label true, and from the right: a difference that any network feels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2 == 0
    rows = [np.repeat(rng.integers((170, 10), (240, 80)), 32).astype(np.uint8)[:: 1 if left else -1] for left in labels]
    images = [np.broadcast_to(row[:, None], (64, 64, 3)) for row in rows]
    return images, labels


@pytest.fixture(scope="module")
def calibration(pipe: StableDiffusionPipeline) -> Calibration:
    return calibrate(pipe, *pictures(40), keywords=KEYWORDS, search=QUICK)


def test_the_planted_activation_and_timesteps_are_found() -> None:
    readings, labels = planted()
    found = fit(readings, PROBE, labels, tokens=TOKENS, model="m", search=Search(kept=(1, 4), slack=0.01))
    assert found.norm == "value" == NORMS[1]
    best = next(position for position in found.positions if position.timestep == 300)
    assert (best.layer, best.token, best.text, best.sign) == ("up", 3, "word3", -1.0)
    assert best.auc < 0.2
    assert set(found.probe.timesteps) >= {300, 500}
    assert found.probe.contrasts == ("opposite",)  # the empty prompt told nothing and costs passes
    weights = {term.statistic: term.weight for term in found.heads[IMPACT].terms}
    assert sorted(weights, key=weights.get)[-2:] == ["attention@300", "ratio/opposite@500"]


def test_scores_of_fresh_pictures_follow_the_planted_truth() -> None:
    readings, labels = planted()
    found = fit(readings, PROBE, labels, tokens=TOKENS, model="m", search=Search())
    fresh, truth = planted(seed=1)
    index = [PROBE.timesteps.index(timestep) for timestep in found.probe.timesteps]
    statistics = found.statistics(replace(fresh, norms_BTNLK=fresh.norms_BTNLK[:, index]))
    aucs = {name: auc(head.score(statistics), truth) for name, head in found.heads.items()}
    assert aucs[IMPACT] > max(aucs[ATTENTION], aucs[LIKELIHOOD]) > 0.75


def test_labels_without_meaning_are_not_believed() -> None:
    readings, labels = planted()
    shuffled = np.random.default_rng(2).permutation(labels)
    found = fit(readings, PROBE, shuffled, tokens=TOKENS, model="m", search=Search())
    assert found.heads[IMPACT].cross_validated_auc < 0.62


def test_the_budget_of_passes_is_kept() -> None:
    readings, labels = planted()
    for most in (4, 8):
        found = fit(readings, PROBE, labels, tokens=TOKENS, model="m", search=Search(max_passes=most, slack=0.0))
        assert found.probe.passes <= most
    with pytest.raises(CalibrationError, match="max_passes=1 "):
        fit(readings, PROBE, labels, tokens=TOKENS, model="m", search=Search(max_passes=1))


def test_answers_that_are_not_numbers_are_refused() -> None:
    readings, labels = planted()
    readings.norms_BTNLK[3, 0, 0, 0, 0] = np.nan
    with pytest.raises(CalibrationError, match="float32"):
        fit(readings, PROBE, labels, tokens=TOKENS, model="m", search=Search())


def test_too_few_labels_of_one_kind_are_refused(pipe: StableDiffusionPipeline) -> None:
    images, labels = pictures(40)
    with pytest.raises(CalibrationError, match="rarer label has 3 pictures"):
        calibrate(pipe, images, np.arange(40) < 3, keywords=KEYWORDS, search=QUICK)
    with pytest.raises(CalibrationError, match="40 pictures came with 39 labels"):
        calibrate(pipe, images, labels[1:], keywords=KEYWORDS, search=QUICK)


def test_a_calibrated_pipeline_tells_unseen_pictures_apart(
    pipe: StableDiffusionPipeline, calibration: Calibration
) -> None:
    images, labels = pictures(20, seed=5)
    scores = Estimator(pipe, calibration).score(images)
    assert set(scores) == {IMPACT, ATTENTION, LIKELIHOOD}
    assert auc(scores[IMPACT], labels) > 0.9
    assert {position.role for position in calibration.positions} <= {"start", "word", "end"}
    assert calibration.probe.image_size == 64


@pytest.mark.parametrize(("planted_depth", "standard_errors", "depth"), [(1, 1.0, 1), (2, 1.0, 2), (1, 0.0, 3)])
def test_attention_alone_goes_no_deeper_than_pays(planted_depth: int, standard_errors: float, depth: int) -> None:
    readings, labels = planted_from(planted_depth)
    search = Search(statistic=Statistic.ATTENTION, kept=(1,), standard_errors=standard_errors)
    found = fit(readings, PROBE, labels, tokens=TOKENS, model="m", search=search)
    assert found.depth(LAYERS) == depth
    assert {(position.layer, position.text) for position in found.positions} == {(LAYERS[depth - 1], "word2")}


def test_attention_alone_is_told_as_only_tells_it_and_asks_no_contrast() -> None:
    readings, labels = planted()
    found = fit(readings, PROBE, labels, tokens=TOKENS, model="m", search=ALONE)
    assert found.probe.contrasts == () and found.probe.passes == len(found.probe.timesteps) * PROBE.draws
    assert {term.statistic.partition("@")[0] for term in found.heads[IMPACT].terms} == {"attention"}
    assert found == found.only(ATTENTION)
    assert {p.timestep for p in found.positions} == set(found.probe.timesteps) >= {300}


def test_likelihood_alone_keeps_no_position_and_its_own_statistics() -> None:
    readings, labels = planted()
    search = Search(statistic=Statistic.LIKELIHOOD, slack=0.01)
    found = fit(readings, PROBE, labels, tokens=TOKENS, model="m", search=search)
    assert found.positions == () and found == found.only(LIKELIHOOD)
    kinds = {term.statistic.partition("/")[0] for term in found.heads[IMPACT].terms}
    assert kinds == {"ratio", "relative"}
    assert found.probe.contrasts == ("opposite",) and 500 in found.probe.timesteps


def test_attention_calibrated_alone_ends_its_passes_at_the_depth_it_chose(pipe: StableDiffusionPipeline) -> None:
    search = replace(QUICK, statistic=Statistic.ATTENTION, standard_errors=100.0)
    found = calibrate(pipe, *pictures(40), keywords=KEYWORDS, search=search)
    running = denoiser_of(pipe).text_layers()
    assert found.depth(running) == 1  # any quality is within a hundred errors
    ran: list[int] = []
    hook = pipe.unet.conv_out.register_forward_pre_hook(lambda *_: ran.append(1))
    images, labels = pictures(20, seed=5)
    scores = Estimator(pipe, found).score(images)
    hook.remove()
    assert not ran and set(scores) == {IMPACT, ATTENTION}
    assert auc(scores[ATTENTION], labels) > 0.9


def test_likelihood_calibrated_alone_records_no_attention(pipe: StableDiffusionPipeline, monkeypatch) -> None:
    seen: list[Readings] = []
    monkeypatch.setattr(fitting, "measure", lambda *args, **kwargs: seen.append(measure(*args, **kwargs)) or seen[0])
    search = replace(QUICK, statistic=Statistic.LIKELIHOOD)
    found = calibrate(pipe, *pictures(40), keywords=KEYWORDS, search=search)
    assert seen[0].norms_BTNLK.size == 0 and not found.positions
    images, labels = pictures(20, seed=5)
    scores = Estimator(pipe, found).score(images)
    assert set(scores) == {IMPACT, LIKELIHOOD} and auc(scores[LIKELIHOOD], labels) > 0.9


def test_a_score_does_not_depend_on_the_batch(pipe: StableDiffusionPipeline, calibration: Calibration) -> None:
    images, _ = pictures(11, seed=6)
    estimator = Estimator(pipe, calibration)
    together = estimator.score(images)
    for name, values in estimator.score(images[9:3:-2]).items():
        assert values.tolist() == together[name][9:3:-2].tolist()
    assert all(len(values) == 0 for values in estimator.score([]).values())


def test_a_calibration_survives_its_file(tmp_path: Path, calibration: Calibration) -> None:
    calibration.save(tmp_path / "estimator.json")
    again = Calibration.load(tmp_path / "estimator.json")
    assert again == calibration
    assert again.digest() == calibration.with_held_out({"auc": 0.8}).digest()
    assert again.digest() != replace(calibration, norm="other").digest()


def test_a_calibration_without_its_precision_is_one_of_float32_by_the_same_digest(calibration: Calibration) -> None:
    record = asdict(calibration)
    del record["precision"]
    again = Calibration.from_dict(json.loads(json.dumps(record)))
    assert again == calibration and again.digest() == calibration.digest()
    assert again.digest() != replace(calibration, precision="bfloat16").digest()


def test_a_calibration_remembers_the_precision_it_was_made_in(v_pipeline: Path, calibration: Calibration) -> None:
    half = denoiser_of(StableDiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32))
    search = Search(timesteps=(300,), contrasts=((),), kept=(1,), ridges=(10.0,), folds=2, batch=8)
    made = calibrate(half.to(torch.device("cpu"), "bfloat16"), *pictures(8), keywords=KEYWORDS, search=search)
    assert (made.precision, calibration.precision) == ("bfloat16", "float32")
    assert made.model == calibration.model  # the weights as they were read


def test_the_shipped_calibration_keeps_the_digest_that_finished_runs_know() -> None:
    from alchemist_hub.miniature import weights

    assert Calibration.load(weights() / "estimator.json").digest() == "ab764c809133216ee92233b635c06a04"


def test_a_score_alone_is_the_score_among_others_and_asks_less(
    pipe: StableDiffusionPipeline, calibration: Calibration
) -> None:
    images, _ = pictures(5, seed=6)
    whole = Estimator(pipe, calibration).score(images)
    attention, likelihood = calibration.only(ATTENTION), calibration.only(LIKELIHOOD)
    assert not attention.probe.contrasts and not likelihood.positions and not attention.held_out
    assert attention.probe.passes < calibration.probe.passes
    for column, alone, tolerance in ((ATTENTION, attention, 0.0), (LIKELIHOOD, likelihood, 1e-2)):
        scores = Estimator(pipe, alone).score(images)
        assert set(scores) == {IMPACT, column}
        for values in scores.values():
            assert values == pytest.approx(whole[column], rel=tolerance, abs=tolerance)
    assert calibration.only(IMPACT).heads.keys() == {IMPACT}


@pytest.mark.parametrize("text", ["{", "{}", '{"format": 99}', '{"format": 1, "probe": 3}', "[]"])
def test_a_file_that_is_no_calibration_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"bad\.json is not an estimator calibration"):
        Calibration.load(path)
    with pytest.raises(CalibrationError, match="no estimator calibration at"):
        Calibration.load(tmp_path / "missing.json")


def test_a_calibration_of_other_weights_is_refused(pipe: StableDiffusionPipeline, calibration: Calibration) -> None:
    with pytest.raises(CalibrationError, match="other weights"):
        Estimator(pipe, replace(calibration, model="0" * 64))
