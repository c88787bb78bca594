"""Fitting the defect network: real pictures, a real small ResNet, real tables."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from curation import cli
from curation.degrade import DEFECTS
from curation.errors import RecipeError, SourceError
from curation.fit_defects.fit import fit_defects
from curation.fit_defects.pictures import LABELS, clean_pictures, known, labelled_pictures, split
from curation.fit_defects.report import card, measure
from curation.fit_defects.training import Settings, loss, view
from curation.images import to_jpeg
from curation.stages.defects import Defects

SMALL = Settings(size=32, batch=8, views=48, seed=1)


def scene(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, (96, 72), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures") / "pool"
    folder.mkdir()
    for seed in range(10):
        (folder / f"{seed}.jpg").write_bytes(to_jpeg(scene(seed)))
    (folder / "cut.jpg").write_bytes((folder / "0.jpg").read_bytes()[:-60])
    return folder


@pytest.fixture(scope="module")
def fitted(pool, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "defects"
    fit_defects(pool, out, settings=SMALL)
    return out


def keep(pool: Path, folder: Path):
    return clean_pictures(pool, folder, 64, lambda rows: None)


def test_the_stage_reads_what_was_fitted_and_judges(fitted, pool):
    import pyarrow as pa

    from curation.sources import open_source

    stage = Defects(fitted)
    assert stage.labels == tuple(DEFECTS)  # low appeal is known from labels only
    stage.open()
    source = open_source(pool)
    scored = stage(pa.concat_tables([source.read(part) for part in source.slices(64)]))
    readable = scored.filter(pa.compute.equal(scored["status"], "ok"))
    assert readable.num_rows >= 10 and 0 < readable["defect_blur"][0].as_py() < 1


def test_only_the_result_is_left_and_the_card_tells_its_figures(fitted):
    names = {path.name for path in fitted.iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "preprocessor_config.json", "training.json"}
    record = json.loads((fitted / "training.json").read_text())
    assert record["data"] | {"fingerprint": ""} == {"fingerprint": "", "training": 8, "validation": 2, "labelled": 0}
    _, head, text = (fitted / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(head)["pipeline_tag"] == "image-classification"
    low, high = record["figures"]["blur"]["interval"]
    assert f"| blur | {record['figures']['blur']['auc']:.3f} [{low:.3f}, {high:.3f}] | 2 | 16 |" in text


def test_a_training_that_was_stopped_ends_in_the_same_weights(pool, fitted, tmp_path):
    out = tmp_path / "defects"
    assert fit_defects(pool, out, settings=SMALL, stop=2) is None
    assert not (out / "config.json").exists()
    fit_defects(pool, out, settings=SMALL)
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (out, fitted))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_finished_folder_answers_at_once_and_refuses_another_training(pool, fitted):
    before = (fitted / "model.safetensors").stat().st_mtime_ns
    assert fit_defects(pool, fitted, settings=SMALL) == json.loads((fitted / "training.json").read_text())["figures"]
    assert (fitted / "model.safetensors").stat().st_mtime_ns == before and not (fitted / "work").exists()
    with pytest.raises(RecipeError, match="other settings or pictures"):
        fit_defects(pool, fitted, settings=Settings(size=32, batch=8, views=48, seed=2))


def test_files_held_out_are_others_and_the_same_every_time(pool, tmp_path):
    pictures = keep(pool, tmp_path)
    learnt, measured = split(pictures, 0.2)
    assert (len(learnt), len(measured)) == (8, 2)
    assert not {picture.key for picture in learnt} & {picture.key for picture in measured}
    assert split(pictures[::-1], 0.2) == (learnt, measured)


def test_a_view_says_what_was_done_to_it(pool, tmp_path):
    picture = keep(pool, tmp_path)[0]
    views = [view(picture, np.random.default_rng(seed), 32) for seed in range(60)]
    counts = np.sum([shown.labels[: len(DEFECTS)] for shown in views], axis=0)
    assert (counts > 3).all() and (counts < 35).all()
    assert all(np.isnan(shown.labels[-1]) for shown in views)
    again = view(picture, np.random.default_rng(7), 32)
    assert (again.pixels == views[7].pixels).all()


def test_labels_nobody_gave_do_not_move_the_network():
    logits = torch.zeros(2, 3, requires_grad=True)
    loss(logits, torch.tensor([[1.0, float("nan"), 0.0], [float("nan")] * 3])).backward()
    assert (logits.grad != 0).tolist() == [[True, False, True], [False, False, False]]


def test_the_lowest_opinions_become_low_appeal(pool, tmp_path):
    table = pool / "opinions.csv"
    table.write_text("image_name,mos\n" + "".join(f"{number}.jpg,{number}.5\n" for number in range(10)))
    pictures = labelled_pictures(table, tmp_path, 64, lowest=0.2)
    table.unlink()
    appeal = [picture.labels[LABELS.index("low_appeal")] for picture in pictures]
    assert sorted(appeal) == [0.0] * 8 + [1.0] * 2
    assert all(np.isnan(picture.labels[0]) for picture in pictures)
    assert list(known(pictures)) == ["low_appeal"]


def test_label_columns_may_have_gaps(pool, tmp_path):
    table, wrong, other = (pool / f"{name}.csv" for name in ("labels", "wrong", "other"))
    table.write_text("path,blur,noise\n0.jpg,1,\n1.jpg,0,0.5\n")
    pictures = labelled_pictures(table, tmp_path, 64, lowest=0.2)
    found = {picture.labels[LABELS.index("blur")]: picture.labels[LABELS.index("noise")] for picture in pictures}
    assert np.isnan(found[1.0]) and found[0.0] == 0.5
    wrong.write_text("path,blur\n0.jpg,7\n")
    with pytest.raises(SourceError, match=r"a label is 7; expected \[0,1\]"):
        labelled_pictures(wrong, tmp_path, 64, lowest=0.2)
    other.write_text("path,colour\n0.jpg,7\n")
    with pytest.raises(SourceError, match="expected one of image, path"):
        labelled_pictures(other, tmp_path, 64, lowest=0.2)


class Knows(torch.nn.Module):
    """Answers low contrast by the spread of the pixels, everything else with zero."""

    device = torch.device("cpu")

    def forward(self, pixels):
        logits = torch.zeros(len(pixels), len(DEFECTS))
        logits[:, list(DEFECTS).index("low_contrast")] = -pixels.std(dim=(1, 2, 3))
        return type("Output", (), {"logits": logits})


def test_figures_tell_a_network_that_knows_from_one_that_does_not(pool, tmp_path):
    def to_pixels(images):
        return torch.from_numpy(np.stack([cv2.resize(image, (48, 48)) for image in images])).permute(0, 3, 1, 2) / 255

    figures = measure(Knows(), to_pixels, keep(pool, tmp_path), list(DEFECTS), SMALL)
    assert figures["low_contrast"]["auc"] > 0.8 and figures["border"]["auc"] == 0.5
    low, high = figures["low_contrast"]["interval"]
    assert low < figures["low_contrast"]["auc"] < high
    assert figures["low_contrast"]["views"] == 8 * figures["low_contrast"]["files"]


def test_a_label_of_one_kind_only_has_no_figure(pool, tmp_path):
    table = pool / "bad.csv"
    table.write_text("path,low_appeal\n0.jpg,1\n1.jpg,1\n")
    pictures = labelled_pictures(table, tmp_path, 64, lowest=0.2)
    table.unlink()
    figures = measure(Knows(), lambda images: torch.zeros(1, 3, 8, 8), pictures, ["low_appeal"], SMALL)
    assert figures["low_appeal"]["auc"] is None
    record = {"settings": {"backbone": None, "size": 8, "batch": 2, "seed": 0}, "steps": 1}
    told = card(figures, record | {"data": {"training": 1, "validation": 2, "labelled": 2}})
    assert "not measured: one kind only in 2 views" in told


def test_a_backbone_keeps_its_body_and_gets_a_new_head(pool, tmp_path):
    from tiny_funnel import tiny_classifier

    tiny_classifier(tmp_path / "body", "cat", "dog", "bird")
    settings = Settings(size=32, batch=4, views=4, rate=0.0, backbone=str(tmp_path / "body"))
    fit_defects(pool, tmp_path / "out", settings=settings)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "body"))
    kept = [name for name in theirs if name.endswith("convolution.weight")]
    assert kept and all(torch.equal(ours[name], theirs[name]) for name in kept)
    assert Defects(tmp_path / "out").labels == tuple(DEFECTS)


def test_the_command_fits_and_mistakes_are_one_line(pool, tmp_path):
    app = cli.make_app(None)
    words = ["fit-defects", "--out", str(tmp_path / "out"), "--size", "32", "--batch", "4", "--epochs", "1"]
    told = CliRunner().invoke(app, [*words, "--clean", str(pool)])
    assert told.exit_code == 0 and "blur: AUC" in told.stdout, told.output
    refused = CliRunner().invoke(app, [*words, "--clean", str(tmp_path / "nowhere")])
    assert refused.exit_code == 2 and refused.stderr.splitlines()[-1].startswith("error: no such file")


def test_an_interrupt_says_how_to_go_on(pool, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("curation.fit_defects.fit.fit_defects", interrupted)
    words = ["fit-defects", "--out", str(tmp_path / "out"), "--clean", str(pool)]
    told = CliRunner().invoke(cli.make_app(None), words)
    assert told.exit_code == cli.INTERRUPTED
    assert f"goes on from the last checkpoint in {tmp_path / 'out'}" in told.stderr
