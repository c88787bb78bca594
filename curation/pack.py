"""A run made small enough to be sent: its ledger and thumbnails of its pool, without the pictures and their place.

OUT/recipe.json, OUT/source.json   as the run has them; the source without its location
OUT/ledger/SEGMENT/                one shard for each segment that judges samples
OUT/thumbnails.parquet             img_key, picture (WebP); unsafe pictures have none

What is packed answers every question that the run answers from its ledger. It cannot be gone on with.
"""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curation import shards
from curation.errors import LedgerError
from curation.ledger import Ledger
from curation.review import THUMBNAILS, Review

SIDE = 64  # pixels, the longer side of a thumbnail
QUALITY = 70  # of WebP
SHARD = "packed"
PACKED, NOWHERE = "packed", "(a packed run, without its pool)"  # kind and location of its source


def pack(
    run: str | Path, out: Path, *, side: int = SIDE, progress: Callable[[int, int], None] = lambda done, total: None
) -> Path:
    """Write the finished run `run` to the folder `out`, which must not be there, and return it.

    Raises LedgerError if the run is not finished, its pictures are gone, or `out` cannot be written.
    """
    ledger = Ledger(run)
    if step := ledger.unfinished():
        raise LedgerError(f"{run} is not finished: {step} has samples left to judge; run `alchemist curate run` again")
    review = Review(run)
    if not review.has_pictures:
        raise LedgerError(f"the pictures of {run} are no longer there: nothing to make thumbnails of")
    if out.exists():
        raise LedgerError(f"{out} is there already; remove it or name another folder")
    temporary = out.with_name(f".{out.name}.tmp")
    with shards.writing(out):
        shutil.rmtree(temporary, ignore_errors=True)
        for segment in ledger.outline.segments:
            _pack_segment(ledger, segment, temporary / "ledger" / segment)
        pq.write_table(_thumbnails(review, side, progress), temporary / THUMBNAILS, compression="none")
        source = {name: ledger.source[name] for name in ("samples", "listing", "rows_per_shard")}
        source |= {"kind": PACKED, "location": NOWHERE, "options": {}, "shards": 1}
        shards.write_atomically(temporary / "source.json", (json.dumps(source, indent=1) + "\n").encode())
        outline = json.dumps(ledger.outline.to_json(), indent=1) + "\n"
        shards.write_atomically(temporary / "recipe.json", outline.encode())
        temporary.rename(out)
    return out


def _pack_segment(ledger: Ledger, segment: str, folder: Path) -> None:
    files = shards.committed(ledger.folder(segment))
    if (ledger.folder(segment) / "current.json").exists():  # a reduction's answer is known by its name
        (path,) = files
        shards.commit(folder, path.stem, pq.read_table(path))
        shards.point_at(folder, path.stem)
    elif files:
        shards.commit(folder, SHARD, pa.concat_tables([pq.read_table(path) for path in files]))


def _thumbnails(review: Review, side: int, progress: Callable[[int, int], None]) -> pa.Table:
    keys = review.ledger.scores(["img_key"])["img_key"].to_pylist()
    veiled = review.veiled(keys)
    rows = []
    for place, key in enumerate(keys):
        picture = None if key in veiled else review.thumbnail(key)
        if picture is not None:
            rows.append({"img_key": key, "picture": _encoded(picture, side)})
        progress(place + 1, len(keys))
    return pa.Table.from_pylist(rows, pa.schema([("img_key", pa.string()), ("picture", pa.binary())]))


def _encoded(picture: Image.Image, side: int) -> bytes:
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=QUALITY, method=6)
    return stream.getvalue()
