"""A packed run answers like the run it was made of, and tells nothing of where that was."""

import io
import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image
from toy_stages import ranked_recipe, write_pool

from curation import dataset
from curation.engines import embedded
from curation.errors import CurationError, LedgerError
from curation.ledger import Ledger
from curation.pack import pack
from curation.review import THUMBNAILS, Review


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_pool(folder / "pool")
    embedded.run(ranked_recipe(), folder / "pool", folder / "run", workers=1)
    return folder


@pytest.fixture(scope="module")
def packed(finished):
    return pack(finished / "run", finished / "packed", side=12)


def test_it_answers_what_the_run_answers(finished, packed):
    whole, small = Review(finished / "run"), Review(packed)
    assert Ledger(packed).unfinished() is None
    assert small.ledger.scores().equals(whole.ledger.scores())
    for changes in ({}, {"light": 0.7}, {"impact_rank": 2}):
        assert small.ask(changes) == whole.ask(changes)
    assert small.controls == whole.controls


def test_it_brings_thumbnails_of_what_can_be_read(packed):
    review = Review(packed)
    pictures = pq.read_table(packed / THUMBNAILS)
    assert len(pictures) == 20  # of 22 files two are broken
    assert Image.open(io.BytesIO(pictures["picture"][0].as_py())).format == "WEBP"
    assert review.has_pictures and review.thumbnail(review.kept({})[0].img_key).size == (12, 8)
    broken = review.dropped({}, "light", "undecodable")
    assert len(broken) == 2 and review.thumbnail(broken[0].img_key) is None


def test_it_tells_nothing_of_the_machine_and_cannot_be_gone_on_with(finished, packed):
    told = b"".join(path.read_bytes() for path in packed.rglob("*") if path.is_file())
    assert str(finished).encode() not in told
    with pytest.raises(CurationError, match="packed run, without its pool"):
        dataset.freeze(packed)


def test_what_cannot_be_packed_is_refused_and_nothing_is_left(finished, tmp_path):
    with pytest.raises(LedgerError, match="there already"):
        pack(finished / "run", finished / "pool")
    shutil.copytree(finished / "run", tmp_path / "run")
    (segment,) = (tmp_path / "run" / "ledger").glob("*glow*")
    next(segment.glob("*.done")).unlink()
    with pytest.raises(LedgerError, match="not finished: glow"):
        pack(tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()
