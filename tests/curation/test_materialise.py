"""A published table becomes images again: what arrived is kept, what has rotted is told, nothing is asked twice."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from curation.errors import SourceError
from curation.images import to_jpeg
from curation.materialise import materialise
from curation.records import img_key
from tests.hostile_server import body, serving


def picture(index: int) -> bytes:
    return to_jpeg(np.full((12, 20, 3), 9 * index, np.uint8))


@pytest.fixture
def server():
    answers = {f"/{index}.jpg": body(picture(index)) for index in range(6)}
    answers["/5.jpg"] = body(picture(25))  # not what it was when the table was made
    with serving(answers) as server:
        yield server


def table(path, server):
    rows = [
        {"img_key": img_key(picture(index)), "url": server.url(f"/{index}.jpg"), "prompt": f"words {index}"}
        for index in range(8)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_what_arrives_unchanged_is_a_data_set_and_the_rest_has_its_reason(tmp_path, server):
    report = materialise(table(tmp_path / "published.parquet", server), tmp_path / "out", allowed=(server.host,))
    assert (report.arrived, dict(report.lost)) == (5, {"unavailable: HTTP 404": 2, "changed": 1})
    rows = load_dataset(str(tmp_path / "out" / "data"), split="train")
    assert rows["prompt"][:] == [f"words {index}" for index in range(5)]
    assert rows["img_key"][:] == [img_key(picture(index)) for index in range(5)]
    assert rows[2]["image"].size == (20, 12)
    lost = [json.loads(line) for line in (tmp_path / "out" / "rotted.jsonl").read_text().splitlines()]
    assert [row["url"].rpartition("/")[2] for row in lost] == ["5.jpg", "6.jpg", "7.jpg"]
    assert report.lines()[0].startswith("5 of 8 images")


def test_run_again_it_asks_for_nothing(tmp_path, server):
    published = table(tmp_path / "published.parquet", server)
    first = materialise(published, tmp_path / "out", allowed=(server.host,))
    server.asked.clear()
    assert materialise(published, tmp_path / "out", allowed=(server.host,)) == first
    assert not server.asked


def test_what_is_no_table_of_urls_is_one_line(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture(1))
    with pytest.raises(SourceError, match="expected a table of URLs"):
        materialise(tmp_path, tmp_path / "out")
