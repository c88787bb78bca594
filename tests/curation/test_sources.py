"""Folders as sources, on real folders."""

import os
import pickle

import numpy as np
import pytest

from curation import images
from curation.errors import SourceError
from curation.records import SAMPLE, img_key
from curation.sources import open_source
from curation.sources.base import MAX_BYTES, MAX_TEXT


def jpeg(seed: int) -> bytes:
    return images.to_jpeg(np.random.default_rng(seed).integers(0, 256, (12, 20, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "pool"
    (root / "deep" / "er").mkdir(parents=True)
    for index, name in enumerate(["b.jpg", "a_red-car.JPG", "deep/c.jpeg", "deep/er/d.webp"]):
        (root / name).write_bytes(jpeg(index))
    (root / "b.txt").write_text("a boat\n")
    (root / ".hidden.jpg").write_bytes(jpeg(9))
    (root / "notes.md").write_text("not a sample")
    return root


def rows(source, rows_per_shard=2):
    return [row for part in source.slices(rows_per_shard) for row in source.read(part).to_pylist()]


def test_every_image_below_the_folder_is_a_row_in_path_order(folder):
    source = open_source(folder)
    assert len(source) == 4
    assert [row["url"] for row in rows(source)] == ["a_red-car.JPG", "b.jpg", "deep/c.jpeg", "deep/er/d.webp"]
    table = source.read(source.slices(10)[0])
    assert table.schema.equals(SAMPLE)
    first = table.to_pylist()[1]
    assert first["img_key"] == img_key(jpeg(0)) and first["image"] == jpeg(0)
    assert (first["width"], first["height"], first["bytes"]) == (20, 12, len(jpeg(0)))


def test_text_comes_from_sidecar_then_metadata_then_name(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "deep/c.jpeg", "text": "a cat"}\n\n')
    assert [row["text"] for row in rows(open_source(folder))] == ["a red car", "a boat", "a cat", "d"]
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text('file_name,caption\ndeep/er/d.webp,"a dog, big"\n')
    assert [row["text"] for row in rows(open_source(folder))] == ["a red car", "a boat", "c", "a dog, big"]


@pytest.mark.parametrize("line", ["{broken", '{"caption": "a boat"}', "[1]"])
def test_malformed_metadata_is_named(folder, line):
    (folder / "metadata.jsonl").write_text(line)
    with pytest.raises(SourceError, match="metadata.jsonl"):
        open_source(folder).slices(2)


def test_broken_files_are_rows_with_the_reason(folder):
    (folder / "b.jpg").write_bytes(b"<html>")
    (folder / "deep" / "c.jpeg").unlink()
    (folder / "deep" / "c.jpeg").symlink_to(folder / "gone")
    by_url = {row["url"]: row for row in rows(open_source(folder))}
    assert by_url["b.jpg"]["status"] == "undecodable" and "not an image" in by_url["b.jpg"]["detail"]
    assert by_url["b.jpg"]["img_key"] == img_key(b"<html>")
    assert by_url["deep/c.jpeg"]["detail"] == "cannot be read: No such file or directory"
    assert by_url["a_red-car.JPG"]["status"] == "ok"


def test_slices_are_the_same_in_every_process_and_survive_pickling(folder):
    source = open_source(folder)
    twin = pickle.loads(pickle.dumps(source))
    assert source.slices(3) == twin.slices(3)
    assert [len(part.rows) for part in source.slices(3)] == [3, 1]
    part = pickle.loads(pickle.dumps(source.slices(3)[0]))
    assert twin.read(part, {"b.jpg"})["url"].to_pylist() == ["b.jpg"]


def test_identity_changes_with_the_files(folder):
    before = open_source(folder).identity()
    assert open_source(folder).identity() == before
    (folder / "e.jpg").write_bytes(jpeg(5))
    assert open_source(folder).identity() != before


def test_a_name_that_is_not_utf8_is_shown_with_escapes(folder):
    path = os.fsencode(folder) + b"/caf\xe9.jpg"
    with open(path, "wb") as file:
        file.write(jpeg(7))
    urls = {row["url"]: row["img_key"] for row in rows(open_source(folder))}
    assert urls["caf\\udce9.jpg"] == img_key(jpeg(7))


def test_a_pipe_and_a_file_beyond_all_bounds_are_not_read(folder):
    os.mkfifo(folder / "pipe.jpg")
    with (folder / "fat.png").open("wb") as fat:
        fat.truncate(MAX_BYTES + 1)  # a hole: nothing is on the disk
    (folder / "a.txt").write_bytes(b"x" * (MAX_TEXT + 1))
    (folder / "a.jpg").write_bytes(jpeg(9))
    found = {row["url"]: row for row in rows(open_source(folder), 100)}
    assert found["pipe.jpg"]["detail"] == "not a file"
    assert found["fat.png"]["detail"] == "too large: 268,435,457 bytes, at most 268,435,456 are read"
    assert len(found["a.jpg"]["text"]) == MAX_TEXT


def test_wrong_places_are_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for place, words in [
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "file", "expected a folder of images, a table"),
        (tmp_path / "empty", "holds no image"),
        ("s3://bucket/pool", "expected a folder"),
    ]:
        with pytest.raises(SourceError, match=words) as raised:
            open_source(place)
        assert "\n" not in str(raised.value)
