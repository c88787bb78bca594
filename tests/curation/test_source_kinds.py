"""One pool in every form a pool can have: the same pictures give the same ledger, and one broken row stays one row."""

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, Value
from toy_stages import recipe

from curation import dataset, images
from curation.engines import embedded
from curation.errors import SourceError
from curation.ledger import Ledger
from curation.records import SAMPLE, img_key
from curation.sources import Stored, open_source, reopen, stored
from curation.sources import base as source_base
from tests.hostile_server import body, serving

COUNT = 20


def picture(index: int) -> bytes:
    pixels = np.full((16, 24, 3), 10 * index + 20, np.uint8)
    pixels[index % 16, :, 0] = 255
    return images.to_jpeg(pixels)


FILES = {f"{index:03d}.jpg": picture(index) for index in range(COUNT)} | {"broken.jpg": picture(3)[:-40]}
RECORDS = [
    {"file_name": name, "caption": f"picture {name}", "similarity": 0.25 + index}
    for index, name in enumerate(sorted(FILES))
]


def folder(root: Path) -> str:
    root.mkdir()
    for name, data in FILES.items():
        (root / name).write_bytes(data)
    (root / "metadata.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in RECORDS))
    return str(root)


def tars(root: Path) -> str:
    root.mkdir()
    for number in range(2):
        with tarfile.open(root / f"{number:05d}.tar", "w") as archive:
            for record in RECORDS[number::2]:
                name = record["file_name"]
                told = {"caption": record["caption"], "similarity": record["similarity"]}
                for suffix, data in ((".jpg", FILES[name]), (".json", json.dumps(told).encode())):
                    member = tarfile.TarInfo(name.removesuffix(".jpg") + suffix)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    return str(root)


def image_rows() -> Dataset:
    rows = [
        {
            "image": {"bytes": FILES[record["file_name"]], "path": record["file_name"]},
            "caption": record["caption"],
            "similarity": record["similarity"],
        }
        for record in RECORDS
    ]
    features = Features({"image": Image(), "caption": Value("string"), "similarity": Value("float64")})
    return Dataset.from_list(rows, features=features)


def parquet_set(root: Path) -> str:
    (root / "data").mkdir(parents=True)
    image_rows().to_parquet(root / "data" / "train-00000-of-00001.parquet", batch_size=7)
    return str(root)


def saved_set(root: Path) -> str:
    image_rows().save_to_disk(root)
    return str(root)


def url_rows(host: str) -> list[dict]:
    return [
        {"url": f"http://{host}/{r['file_name']}", "caption": r["caption"], "similarity": r["similarity"]}
        for r in RECORDS
    ]


def url_parquet(path: Path, host: str) -> str:
    pq.write_table(pa.Table.from_pylist(url_rows(host)), path.with_suffix(".parquet"), row_group_size=6)
    return str(path.with_suffix(".parquet"))


def url_csv(path: Path, host: str) -> str:
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["url", "caption", "similarity"])
        writer.writeheader()
        writer.writerows(url_rows(host))
    return str(path.with_suffix(".csv"))


def url_jsonl(path: Path, host: str) -> str:
    path.with_suffix(".jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in url_rows(host)))
    return str(path.with_suffix(".jsonl"))


@pytest.fixture(scope="module")
def server():
    with serving({f"/{name}": body(data) for name, data in FILES.items()}) as server:
        yield server


@pytest.fixture(scope="module", params=[folder, tars, parquet_set, saved_set, url_parquet, url_csv, url_jsonl])
def source(request, server, tmp_path_factory):
    make, place = request.param, tmp_path_factory.mktemp("pools") / "pool"
    if make.__name__.startswith("url"):
        return open_source(make(place, server.host), allowed=(server.host,))
    return open_source(make(place))


def rows(source, rows_per_shard: int = 4) -> list[dict]:
    tables = [source.read(part) for part in source.slices(rows_per_shard)]
    assert all(table.schema.equals(SAMPLE) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def told(row: dict) -> tuple:
    extra = json.loads(row["extra"])
    return row["img_key"], row["text"], row["status"], float(extra["similarity"]), row["width"], row["height"]


def expected() -> set[tuple]:
    return {
        (
            img_key(FILES[record["file_name"]]),
            record["caption"],
            "ok",
            record["similarity"],
            24,
            16,
        )
        for record in RECORDS
    }


def test_every_kind_of_source_gives_the_same_samples(source):
    assert len(source) == COUNT + 1
    assert {told(row) for row in rows(source)} == expected()


def test_a_source_tells_how_large_its_samples_are(source):
    mean = sum(map(len, FILES.values())) / len(FILES)
    if source.kind in ("folder", "webdataset"):
        assert source.mean_bytes() == mean
    elif source.kind == "images":
        assert 0.5 * mean < source.mean_bytes() < 20 * mean  # a file of few rows is mostly its schema
    else:
        assert source.mean_bytes() == 500_000


def test_slices_are_the_same_in_every_run_and_hold_every_row_once(source):
    first, again = source.slices(4), open_source(source.identity()["location"]).slices(4)
    assert [part.id for part in first] == [part.id for part in again] and len({part.id for part in first}) == len(first)
    assert sum(len(part.rows) for part in first) == len(source)
    urls = [row["url"] for row in rows(source)]
    assert len(set(urls)) == len(urls)


def test_chosen_rows_are_read_and_no_others(source):
    part = source.slices(6)[0]
    urls = source.read(part)["url"].to_pylist()
    assert source.read(part, {urls[1], urls[3], "elsewhere"})["url"].to_pylist() == [urls[1], urls[3]]


def test_every_kind_of_source_gives_the_same_ledger_and_data_set(source, tmp_path):
    embedded.run(recipe(), source, tmp_path / "run", workers=1)
    ledger = Ledger(tmp_path / "run")
    names = ["img_key", "text", "status", "detail", "width", "height", "bytes", *ledger.outline.columns]
    reference = tmp_path / "reference"
    embedded.run(recipe(), folder(tmp_path / "pool"), reference, workers=1)
    assert ledger.scores(names).equals(Ledger(reference).scores(names))
    wanted = ["img_key", "kept", "step", "reason"]
    assert ledger.verdicts().select(wanted).equals(Ledger(reference).verdicts().select(wanted))
    frozen = dataset.freeze(tmp_path / "run")
    assert dataset.fingerprint(frozen) == dataset.fingerprint(dataset.freeze(reference))
    by_key = {img_key(FILES[record["file_name"]]): record["similarity"] for record in RECORDS}
    for row in dataset.read(frozen).select_columns(["img_key", "similarity"]):
        assert float(row["similarity"]) == by_key[row["img_key"]]


def test_what_was_downloaded_once_is_not_asked_for_again(server, tmp_path):
    source = open_source(url_parquet(tmp_path / "pool", server.host), allowed=(server.host,))
    server.asked.clear()
    embedded.run(recipe(), source, tmp_path / "run", workers=1)
    dataset.freeze(tmp_path / "run")
    assert set(server.asked.values()) == {1} and len(server.asked) == COUNT + 1
    assert len(list((tmp_path / "run" / "images").iterdir())) > 1


def test_a_row_that_the_store_has_lost_is_downloaded_again(server, tmp_path):
    pool = open_source(url_parquet(tmp_path / "pool", server.host), allowed=(server.host,))
    kept = stored(pool, tmp_path / "run")
    assert isinstance(kept, Stored)
    part = kept.slices(4)[0]
    table = kept.read(part)
    urls = table["url"].to_pylist()
    kept.keep(part, 0, table.slice(0, 2))
    server.asked.clear()
    assert sorted(kept.read(part, set(urls))["url"].to_pylist()) == sorted(urls)
    assert sum(server.asked.values()) == 2
    assert isinstance(reopen(pool.identity(), tmp_path / "run"), Stored)


def test_a_url_that_fails_is_a_row_with_its_reason(tmp_path):
    answers = {"/a.jpg": body(picture(1)), "/gone.jpg": body(b"", status=404), "/page.jpg": body(b"<html>sorry")}
    with serving(answers) as server:
        addresses = [
            *(f"http://{server.host}{path}" for path in answers),
            "file:///etc/passwd",
            "http://10.0.0.1/x.jpg",
        ]
        (tmp_path / "pool.csv").write_text("\n".join(["url,caption", *(f"{url},words" for url in addresses)]))
        found = rows(open_source(tmp_path / "pool.csv", allowed=(server.host,)))
    assert [(row["status"], row["detail"]) for row in found] == [
        ("ok", None),
        ("unavailable", "HTTP 404"),
        ("undecodable", "not an image: none of jpeg, png, webp, gif, bmp, tiff"),
        ("unavailable", "refused: only http and https are fetched, not 'file'"),
        ("unavailable", "refused: 10.0.0.1 is 10.0.0.1, not a public address"),
    ]
    assert len({row["img_key"] for row in found}) == 5


def test_an_archive_that_is_cut_short_keeps_what_is_whole(tmp_path):
    (whole, _) = sorted(Path(tars(tmp_path / "pool")).iterdir())
    data = whole.read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(data[: len(data) // 2])
    found = rows(open_source(cut))
    assert 2 < len(found) < COUNT // 2
    assert {row["status"] for row in found[:-1]} == {"ok"}


def test_a_member_of_an_archive_beyond_all_bounds_is_not_read(tmp_path, monkeypatch):
    place = tars(tmp_path / "pool")
    monkeypatch.setattr(source_base, "MAX_BYTES", 10)
    assert all(row["detail"].startswith("too large: ") for row in rows(open_source(place)))


def test_a_binary_column_and_a_place_as_url(tmp_path):
    table = pa.table(
        {"jpg": [picture(1), None], "TEXT": ["one", "two"]}, pa.schema([("jpg", pa.binary()), ("TEXT", pa.string())])
    )
    pq.write_table(table, tmp_path / "pool.parquet")
    first, second = rows(open_source(tmp_path / "pool.parquet"))
    assert (first["url"], first["text"], first["status"]) == ("pool.parquet#0", "one", "ok")
    assert (second["status"], second["detail"]) == ("undecodable", "the row holds no image bytes")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "name,caption\nx,y\n", "expected images, or URLs in a column url"),
        ("a.jsonl", '{"url": "http://x"\n', "line 1 is not JSON"),
        ("a.jsonl", "[1]\n", "expected an object"),
        ("a.parquet", "not parquet", "cannot read"),
        ("a.tar", "not a tar" * 200, "not a tar archive"),
        ("a.zip", "x", "expected a folder of images, a table of URLs"),
        ("a.csv", "", "expected images, or URLs"),
        ("a.csv", "url\n", "holds no sample|expected images, or URLs"),
    ],
)
def test_what_is_no_pool_is_one_clear_line(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(SourceError, match=told) as refused:
        open_source(tmp_path / name)
    assert "\n" not in str(refused.value)
