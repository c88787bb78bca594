"""Calibrating on two folders: halves that do not depend on the order of files, figures from the unseen one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.calibrate import calibrate, lines
from curation.errors import CalibrationError, RecipeError, SourceError
from curation.estimator.calibration import Calibration
from curation.estimator.fitting import Search, Statistic
from curation.estimator.keywords import Family, Keywords
from curation.images import to_jpeg

FAMILY = Family(
    keywords=Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""}),
    unrelated=Keywords(quality="the moon", against={"opposite": "at night", "empty": ""}),
)
SEARCH = Search(timesteps=(400,), contrasts=(("opposite",),), kept=(2,), ridges=(10.0,), batch=8, folds=2)


def folder(root: Path, count: int, *, bright: bool) -> Path:
    root.mkdir()
    rng = np.random.default_rng(bright)
    for index in range(count):
        low, high = (150, 250) if bright else (10, 110)
        pixels = rng.integers(low, high, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        (root / f"{index}.jpg").write_bytes(to_jpeg(pixels))
    return root


def test_labels_are_split_and_the_figures_come_from_the_unseen_half(v_pipeline: Path, tmp_path: Path) -> None:
    good, plain = folder(tmp_path / "good", 24, bright=True), folder(tmp_path / "plain", 24, bright=False)
    (good / "broken.jpg").write_bytes(b"not a picture")
    out = tmp_path / "estimator.json"
    made = calibrate(str(v_pipeline), good=good, plain=plain, out=out, family=FAMILY, search=SEARCH)
    assert Calibration.load(out) == made
    assert made.pictures["high"] + made.held_out["pictures"]["high"] == 24
    assert made.pictures["low"] + made.held_out["pictures"]["low"] == 24
    told = lines(made)
    assert any("AUC of keywords/impact: " in line for line in told)
    assert any("keywords/impact over empty prompt/impact: " in line for line in told)
    for path in good.iterdir():  # other names, another order: the same halves
        path.rename(good / f"x{hash(path.name) % 1000}-{path.name}")
    again = calibrate(str(v_pipeline), good=good, plain=plain, out=out, family=FAMILY, search=SEARCH)
    assert again == made


def test_the_depth_of_attention_alone_is_told(v_pipeline: Path, tmp_path: Path) -> None:
    good, plain = folder(tmp_path / "good", 24, bright=True), folder(tmp_path / "plain", 24, bright=False)
    search = replace(SEARCH, statistic=Statistic.ATTENTION, standard_errors=100.0)
    out = tmp_path / "estimator.json"
    made = calibrate(str(v_pipeline), good=good, plain=plain, out=out, family=FAMILY, search=search)
    count = made.held_out["depth"]["layers"]
    assert lines(made)[0].startswith(f"2 passes a picture at timesteps 400, reads 1 of {count} layers; held out: ")
    assert "layers" not in lines(made.with_held_out(made.held_out | {"depth": None}))[0]


def test_mistakes_are_named(v_pipeline: Path, tmp_path: Path) -> None:
    good, plain = folder(tmp_path / "good", 3, bright=True), folder(tmp_path / "plain", 3, bright=False)
    asked = {"good": good, "plain": plain, "out": tmp_path / "e.json", "search": SEARCH}
    with pytest.raises(CalibrationError, match="the rarer label|too few"):
        calibrate(str(v_pipeline), **asked, family=FAMILY)
    with pytest.raises(RecipeError, match="unknown family"):
        calibrate(str(v_pipeline), **asked, family="magic")
    with pytest.raises(SourceError, match="no such file"):
        calibrate(str(v_pipeline), **{**asked, "good": tmp_path / "none"}, family=FAMILY)
    with pytest.raises(RecipeError, match="no model folder"):
        calibrate(str(tmp_path / "no" / "model"), **asked)
