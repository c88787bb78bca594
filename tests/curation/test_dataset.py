"""Freezing what a run kept, and reading it back, also with `datasets` itself."""

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from PIL import Image
from toy_stages import recipe, write_pool

from curation import dataset
from curation.engines import embedded
from curation.errors import LedgerError, SourceError
from curation.images import decode
from curation.ledger import Ledger
from curation.plan import Recipe
from curation.records import img_key


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    write_pool(folder / "pool")
    embedded.run(recipe(), folder / "pool", folder / "run", workers=1)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def test_datasets_loads_the_folder_with_its_pictures(run):
    folder = dataset.freeze(run)
    rows = load_dataset(str(folder), split="train")
    assert rows.column_names[:7] == ["img_key", "url", "prompt", "text", "image", "width", "height"]
    assert rows["impact_rank"][:] == list(range(1, 12))
    first = rows[0]
    assert first["url"] == "019.jpg" and first["text"] == first["prompt"] == "019"
    assert isinstance(first["image"], Image.Image) and first["image"].size == (24, 16)


def test_images_are_the_files_own_bytes(run):
    (file,) = (dataset.freeze(run) / "data").iterdir()
    for row in pq.read_table(file).to_pylist():
        assert img_key(row["image"]["bytes"]) == row["img_key"]
        assert row["image"]["path"] == row["url"]


def test_only_what_was_kept_is_frozen(run):
    rows = dataset.read(dataset.freeze(run))
    assert set(rows["img_key"]) == set(Ledger(run).survivors()["img_key"].to_pylist())
    assert np.asarray(rows[0]["image"]).shape == (16, 24, 3)


def test_freezing_again_changes_nothing(run):
    folder = dataset.freeze(run)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*.*")}
    dataset.freeze(run)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*.*")} == before
    shutil.rmtree(folder)
    dataset.freeze(run)
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == {path: b for path, (_, b) in before.items()}


def test_fingerprint_is_over_keys_and_prompts_in_order(run):
    folder = dataset.freeze(run)
    told = json.loads((folder / "dataset.json").read_text())
    assert dataset.fingerprint(folder) == told["fingerprint"] and told["samples"] == 11
    (file,) = (folder / "data").iterdir()
    table = pq.read_table(file)
    for changed in (
        table.take([1, 0, *range(2, 11)]),
        table.slice(1),
        table.set_column(2, "prompt", pa.array(["x"] * 11)),
    ):
        pq.write_table(changed, file)
        assert dataset.fingerprint(folder) != told["fingerprint"]
    pq.write_table(table.set_column(3, "text", pa.array(["x"] * 11)), file)
    assert dataset.fingerprint(folder) == told["fingerprint"]


def test_other_thresholds_replace_the_data_set(finished, run):
    first = dataset.fingerprint(dataset.freeze(run))
    embedded.run(recipe(top=0.2), finished / "pool", run, workers=1)
    assert dataset.fingerprint(dataset.freeze(run)) != first
    assert len(dataset.read(run / "dataset")) == 4
    assert [path.name for path in run.iterdir() if "dataset" in path.name] == ["dataset"]


def test_many_pictures_make_several_files(run, monkeypatch):
    whole = dataset.fingerprint(dataset.freeze(run))
    shutil.rmtree(run / "dataset")
    monkeypatch.setattr(dataset, "BYTES_PER_FILE", 3000)
    folder = dataset.freeze(run)
    names = sorted(path.name for path in (folder / "data").iterdir())
    assert names[0] == f"train-00000-of-{len(names):05d}.parquet" and len(names) > 1
    assert dataset.fingerprint(folder) == whole
    assert len(load_dataset(str(folder), split="train")) == 11


def test_an_unfinished_run_is_not_frozen(finished, run):
    for marker in (run / "ledger").glob("02-*/*.done"):
        marker.unlink()
    with pytest.raises(LedgerError, match="not finished: wide has samples left"):
        dataset.freeze(run)
    with pytest.raises(LedgerError, match="not finished: rank"):
        embedded.run(recipe(), finished / "pool", run, workers=1)
        (run / "recipe.json").write_text(
            json.dumps(Ledger(run).outline.with_thresholds({"light": 0.6}).to_json())
        )  # thresholds changed, the ranks are of another question
        dataset.freeze(run)
    next((run / "ledger").glob("00-*/*.done")).unlink()
    with pytest.raises(LedgerError, match="not finished: light"):
        dataset.freeze(run)


def test_nothing_kept_is_said(finished, run):
    embedded.run(recipe(bright=2.0), finished / "pool", run, workers=1)
    with pytest.raises(LedgerError, match="no sample of .* passed every rule"):
        dataset.freeze(run)


def test_a_folder_that_is_no_data_set_is_never_removed(run):
    (run / "dataset").mkdir()
    (run / "dataset" / "thesis.txt").write_text("mine")
    with pytest.raises(LedgerError, match="is not a data set of this project"):
        dataset.freeze(run)
    assert (run / "dataset" / "thesis.txt").read_text() == "mine"
    assert not list(run.glob(".dataset*"))


def test_what_a_killed_freeze_left_is_cleared_away(run):
    (run / ".dataset.123.tmp" / "data").mkdir(parents=True)
    (run / ".dataset.123.tmp" / "data" / "half.parquet").write_bytes(b"PAR1")
    dataset.freeze(run)
    assert not list(run.glob(".dataset*"))


def test_a_picture_that_is_gone_is_named(finished, tmp_path):
    shutil.copytree(finished / "pool", tmp_path / "pool")
    embedded.run(recipe(), tmp_path / "pool", tmp_path / "run", workers=1)
    (tmp_path / "pool" / "018.jpg").write_bytes(b"other")
    with pytest.raises(LedgerError, match="018.jpg is changed or gone"):
        dataset.freeze(tmp_path / "run")
    shutil.rmtree(tmp_path / "pool")
    with pytest.raises(SourceError, match="no such file or folder"):
        dataset.freeze(tmp_path / "run")


def test_scores_carry_the_verdicts(run):
    rows = {row["url"]: row for row in dataset.scores(run).to_pylist()}
    assert len(rows) == 22
    assert rows["019.jpg"]["kept"] and rows["019.jpg"]["step"] is None
    assert (rows["000.jpg"]["kept"], rows["000.jpg"]["step"], rows["000.jpg"]["reason"]) == (False, "light", "too dark")
    assert rows["broken0.jpg"]["status"] == rows["broken0.jpg"]["reason"] == "undecodable"
    assert dataset.steps(run) == ["light", "rank", "wide"]


def test_without_ranks_rows_are_ordered_by_key(finished, tmp_path):
    plain = Recipe(name="plain", steps=recipe().steps[:1])
    embedded.run(plain, finished / "pool", tmp_path / "run", workers=1)
    keys = dataset.read(dataset.freeze(tmp_path / "run"))["img_key"][:]
    assert keys == sorted(keys) and len(keys) == 16


def test_what_is_no_data_set_is_said(tmp_path):
    for ask in (dataset.read, dataset.fingerprint):
        with pytest.raises(LedgerError, match="no data set in"):
            ask(tmp_path)


def test_parquet_beside_the_readme_is_read_too(run, tmp_path):
    (file,) = (dataset.freeze(run) / "data").iterdir()
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(file, flat / "train-00000-of-00001.parquet")
    assert dataset.fingerprint(flat) == dataset.fingerprint(run / "dataset")
    buffer = io.BytesIO()
    dataset.read(flat)[0]["image"].save(buffer, "PNG")
    assert decode(buffer.getvalue()).shape == (16, 24, 3)


def test_further_columns_of_the_source_are_kept_with_their_types(tmp_path):
    write_pool(tmp_path / "pool")
    files = sorted(path.name for path in (tmp_path / "pool").iterdir())
    told = [
        {"file_name": name, "caption": name, "year": 1990 + at, "score": at / 2, "tags": ["a", at], "width": "wide"}
        for at, name in enumerate(files)
    ]
    (tmp_path / "pool" / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in told))
    embedded.run(recipe(), tmp_path / "pool", tmp_path / "run", workers=1)
    rows = dataset.read(dataset.freeze(tmp_path / "run"))
    assert [rows.features[name].dtype for name in ("year", "score", "tags", "source_width")] == [
        "int64",
        "float64",
        "string",
        "string",
    ]
    by_name = {row["file_name"]: row for row in told}
    for row in rows.remove_columns("image"):
        source = by_name[row["url"]]
        assert (row["year"], row["score"], json.loads(row["tags"])) == (source["year"], source["score"], source["tags"])
        assert row["source_width"] == "wide" and row["width"] == 24


def test_a_frozen_data_set_tells_its_files_and_what_it_came_from_and_its_run_the_funnel(run):
    folder = dataset.freeze(run)
    described = dataset.describe(folder)
    assert described["fingerprint"] == dataset.fingerprint(folder)
    assert sum(len(pq.read_table(path)) for path in dataset.files(folder)) == described["samples"]
    source, *rows = dataset.funnel(run)
    assert [row.step for row in rows] == dataset.steps(run)
    assert (source.step, rows[-1].kept) == ("source", described["samples"])
    with pytest.raises(LedgerError, match="no data set in"):
        dataset.describe(run)
