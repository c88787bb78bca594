"""The impact stage on a tiny real pipeline: columns, bad rows, batches, and its place in a recipe."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from diffusers import StableDiffusionPipeline

from curation.calibrate import calibrate as calibrate_folders
from curation.errors import CalibrationError, RecipeError
from curation.estimator.calibration import Calibration
from curation.estimator.fitting import Search, calibrate
from curation.estimator.keywords import Family, Keywords
from curation.images import decode, to_jpeg
from curation.records import OK, SAMPLE, UNDECODABLE, img_key
from curation.stages.impact import Impact


def jpegs(count: int) -> list[bytes]:
    """Files (64, 64) of pictures lit from the left and from the right in turn."""
    rng = np.random.default_rng(3)
    rows = [np.repeat(rng.integers((170, 10), (240, 80)), 32).astype(np.uint8)[:: (-1) ** i] for i in range(count)]
    return [to_jpeg(np.broadcast_to(row[:, None], (64, 64, 3))) for row in rows]


def rows(files: list[bytes]) -> pa.Table:
    """A table of the stage's input; a file that is not a JPEG is marked as the source would."""
    good = [file.startswith(b"\xff\xd8") for file in files]
    columns = {
        "img_key": [img_key(file) for file in files],
        "url": [f"{index}.jpg" for index in range(len(files))],
        "text": [""] * len(files),
        "image": files,
        "status": [OK if ok else UNDECODABLE for ok in good],
        "detail": [None if ok else "not an image" for ok in good],
        "width": [64 if ok else None for ok in good],
        "height": [64 if ok else None for ok in good],
        "bytes": [len(file) for file in files],
        "extra": pa.nulls(len(files), pa.string()),
    }
    return pa.table(columns, schema=SAMPLE)


@pytest.fixture(scope="module")
def calibration_file(v_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipe = StableDiffusionPipeline.from_pretrained(v_pipeline, dtype=torch.float32)
    files = jpegs(30)
    calibration = calibrate(
        pipe,
        [decode(file) for file in files],
        np.arange(30) % 2 == 0,
        keywords=Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""}),
        search=Search(timesteps=(300,), kept=(2,), batch=8),
    )
    path = tmp_path_factory.mktemp("estimator") / "estimator.json"
    calibration.save(path)
    return path


@pytest.fixture(scope="module")
def stage(v_pipeline: Path, calibration_file: Path) -> Impact:
    stage = Impact(model=v_pipeline, calibration=calibration_file)
    stage.open()
    return stage


def test_every_row_comes_back_in_order_with_scores_and_a_bad_row_has_none(stage: Impact) -> None:
    files = jpegs(5)
    table = rows([files[0], b"<html>", *files[1:]])
    scored = stage(table)
    assert scored.select(SAMPLE.names).equals(table)
    assert [scored.schema.field(field.name) for field in stage.writes] == list(stage.writes)
    for field in stage.writes:
        column = scored[field.name].to_pylist()
        assert column[1] is None
        assert None not in column[:1] + column[2:]


def test_pictures_lit_from_the_left_rank_first_as_the_labels_said(stage: Impact) -> None:
    impact = stage(rows(jpegs(8)))["impact"].to_pylist()
    assert min(impact[::2]) > max(impact[1::2])


def test_a_row_has_the_same_score_in_any_batch(stage: Impact) -> None:
    table = rows(jpegs(9))
    whole = stage(table).select(stage.writes.names)
    parts = [stage(table.slice(start, 4)).select(stage.writes.names) for start in (0, 4, 8)]
    assert pa.concat_tables(parts).equals(whole)


def test_a_batch_without_a_readable_row_passes(stage: Impact) -> None:
    assert stage(rows([b"<html>"]))["impact"].to_pylist() == [None]


def test_the_configuration_follows_the_calibration_and_not_its_figures(calibration_file: Path, tmp_path: Path) -> None:
    def configured(calibration: Calibration) -> dict:
        calibration.save(tmp_path / "estimator.json")
        return Impact(model="somewhere", calibration=tmp_path / "estimator.json").config()

    calibration = Calibration.load(calibration_file)
    assert configured(calibration) == configured(calibration.with_held_out({"auc": 0.9}))
    assert configured(calibration) != configured(replace(calibration, probe=replace(calibration.probe, noise_seed=9)))


def test_wrong_weights_a_missing_model_and_a_missing_calibration_are_refused(
    epsilon_pipeline: Path, calibration_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(CalibrationError, match="other weights"):
        Impact(model=epsilon_pipeline, calibration=calibration_file).open()
    with pytest.raises(RecipeError, match="no model folder"):
        Impact(model=tmp_path / "nothing", calibration=calibration_file).open()
    with pytest.raises(CalibrationError, match="no estimator calibration at"):
        Impact(model=epsilon_pipeline, calibration=tmp_path / "missing.json").config()


@pytest.mark.parametrize("pipeline", ["xl_pipeline", "sd3_pipeline"])
def test_a_model_of_another_class_is_calibrated_from_folders_and_judges(
    pipeline: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(pipeline)
    for index, file in enumerate(jpegs(48)):
        path = tmp_path / ("plain" if index % 2 else "good") / f"{index}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file)
    words = Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""})
    made = calibrate_folders(
        str(model),
        good=tmp_path / "good",
        plain=tmp_path / "plain",
        out=tmp_path / "estimator.json",
        family=Family(keywords=words, unrelated=Keywords(quality="the moon", against={"opposite": "at night"})),
        search=Search(timesteps=(300,), contrasts=(("opposite",),), kept=(2,), ridges=(10.0,), folds=2, batch=8),
    )
    assert made.held_out["auc"]["keywords/impact"]["auc"] > 0.9
    stage = Impact(model=model, calibration=tmp_path / "estimator.json")
    stage.open()
    table = rows(jpegs(8))
    whole = stage(table)
    impact = whole["impact"].to_pylist()
    assert min(impact[::2]) > max(impact[1::2])
    assert stage(table.slice(3, 2))["impact"].to_pylist() == impact[3:5]


def test_a_pipeline_of_an_unknown_class_is_refused_in_one_line(calibration_file: Path, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1"}')
    with pytest.raises(CalibrationError, match=r"^the estimator reads .*StableDiffusion3Pipeline, not FluxPipeline$"):
        Impact(model=tmp_path, calibration=calibration_file).open()
