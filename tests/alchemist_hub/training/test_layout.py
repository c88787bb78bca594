import io
import struct
import zlib
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from alchemist_hub.errors import TrainingError
from alchemist_hub.training.buckets import SDXL, Size, enlargement, table
from alchemist_hub.training.encode import to_pixels
from alchemist_hub.training.layout import EMPTY, SMALL, Layout, lay_out

SQUARE = ((64, 64),)


def measured(*sizes: Size, prompts: list[str | None] | None = None) -> datasets.Dataset:
    """Rows as a curation run leaves them, less the pictures: their sizes are columns."""
    return datasets.Dataset.from_dict(
        {
            "prompt": prompts or ["a photo of mars"] * len(sizes),
            "height": [height for height, _ in sizes],
            "width": [width for _, width in sizes],
        }
    )


def unmeasured(*files: bytes) -> datasets.Dataset:
    columns = {
        "img_key": [f"key{index}" for index in range(len(files))],
        "prompt": ["a photo of mars"] * len(files),
        "image": [{"bytes": file, "path": None} for file in files],
    }
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


def jpeg(width: int, height: int, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(file := io.BytesIO(), "JPEG", exif=exif)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that claims 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def laid(rows: datasets.Dataset, buckets=SQUARE, *, least: int = 1, enlarge: float = 1.0) -> Layout:
    return lay_out(rows, buckets, least=least, enlarge=enlarge)


def test_empty_prompts_and_small_pictures_are_left_out_and_counted():
    prompts = ["mars", "", "  \n", None, "the moon", "the sea", "the forest"]
    sizes = [(64, 64), (64, 64), (64, 64), (20, 20), (63, 200), (200, 63), (65, 64)]
    layout = laid(measured(*sizes, prompts=prompts))
    assert layout.rows == (0, 6)
    assert layout.sizes == ((64, 64), (65, 64))
    assert layout.skipped == {EMPTY: 3, SMALL: 2}


def test_small_pictures_are_shown_where_that_is_asked_for():
    layout = laid(measured((20, 20), (64, 64)), enlarge=4.0)
    assert layout.rows == (0, 1)
    assert layout.skipped == {}


def test_nothing_left_is_one_line_that_says_why():
    rows = measured((64, 64), (20, 20), (30, 30), prompts=["", "mars", "mars"])
    with pytest.raises(TrainingError) as caught:
        laid(rows)
    assert str(caught.value) == ("no picture of 3 can be shown: 1 with an empty prompt, 2 too small for their bucket")
    with pytest.raises(TrainingError, match="no picture of 0 can be shown: the data set is empty"):
        laid(measured())


def test_pictures_are_in_the_bucket_of_their_shape_height_first():
    layout = laid(measured((128, 64), (64, 128), (64, 64), (130, 66)), ((64, 128), (64, 64), (128, 64)))
    assert layout.buckets == ((64, 64), (64, 128), (128, 64))
    assert layout.bucket_of == (2, 1, 0, 2)
    assert [layout.members(bucket) for bucket in range(3)] == [[2], [1], [0, 3]]


@settings(max_examples=40)
@given(
    sizes=st.lists(st.tuples(st.integers(300, 1500), st.integers(300, 1500)), min_size=1, max_size=15),
    least=st.integers(1, 6),
)
def test_no_picture_that_is_shown_is_enlarged_whichever_buckets_are_given_up(sizes: list[Size], least: int):
    try:
        layout = laid(measured(*sizes), table(512), least=least)
    except TrainingError:
        assert all(enlargement(size, (512, 512)) > 1 for size in sizes)
        return
    for size, bucket in zip(layout.sizes, layout.bucket_of, strict=True):
        assert enlargement(size, layout.buckets[bucket]) <= 1
    assert len(layout.rows) + layout.skipped.get(SMALL, 0) == len(sizes)
    assert len(layout.buckets) == 1 or min(map(len, map(layout.members, range(len(layout.buckets))))) >= least


def test_what_a_bucket_that_is_given_up_held_is_left_out_if_it_is_too_small_for_the_next():
    sizes = [(512, 2048), (1024, 1024), (1024, 1024), (1100, 2048)]
    layout = laid(measured(*sizes), ((512, 2048), (1024, 1024)), least=2)
    assert layout.rows == (1, 2, 3)
    assert layout.skipped == {SMALL: 1}


def test_a_bucket_that_loses_such_pictures_is_given_up_in_turn():
    sizes = [(60, 170), *[(64, 160)] * 2, *[(100, 100)] * 3]  # the first fills the bucket of the next two, too low
    layout = laid(measured(*sizes), ((60, 170), (64, 160), (100, 100)), least=3)
    assert layout.buckets == ((100, 100),)
    assert layout.rows == (3, 4, 5)


def test_small_pictures_keep_no_bucket_alive():
    sizes = [(64, 128), (60, 120), (60, 120), *[(64, 64)] * 3]
    assert laid(measured(*sizes), ((64, 64), (64, 128)), least=3).buckets == ((64, 64),)


def test_sizes_come_from_the_columns_where_there_are_some():
    rows = unmeasured(jpeg(96, 64)).add_column("width", [640]).add_column("height", [480])
    assert laid(rows).sizes == ((480, 640),)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_of_unmeasured_pictures_are_those_people_see(orientation: int):
    file = jpeg(96, 64, orientation)
    seen = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).size
    assert laid(unmeasured(file)).sizes == (seen[::-1],)
    assert seen == ((64, 96) if orientation >= 5 else (96, 64))


@pytest.mark.parametrize("file", [b"not a picture", jpeg(96, 64)[:20], bomb()], ids=["text", "cut short", "bomb"])
def test_a_header_that_cannot_be_read_is_one_line(file: bytes):
    with pytest.raises(
        TrainingError, match="picture key1 cannot be decoded: .*; take it out of the data set"
    ) as caught:
        laid(unmeasured(jpeg(96, 64), file))
    assert "\n" not in str(caught.value)


def test_the_digest_is_that_of_what_is_shown_where():
    rows, buckets = measured((64, 64), (64, 128), (128, 64)), ((64, 64), (64, 128))
    digest = laid(rows, buckets).digest()
    assert laid(rows, tuple(reversed(buckets))).digest() == digest
    assert laid(rows, buckets, least=2).digest() != digest
    assert laid(measured((64, 64), (64, 128), (128, 64), prompts=["mars", "mars", ""]), buckets).digest() != digest
    swapped = laid(measured((64, 128), (64, 64), (128, 64)), buckets)
    assert (swapped.rows, swapped.buckets) == (laid(rows, buckets).rows, laid(rows, buckets).buckets)
    assert swapped.digest() != digest


def test_a_square_that_is_not_cut_has_the_time_ids_that_the_pipeline_uses(xl_pipeline: Path):
    pipe = StableDiffusionXLPipeline.from_pretrained(xl_pipeline)
    own = pipe._get_add_time_ids((64, 64), (0, 0), (64, 64), torch.float32, pipe.text_encoder_2.config.projection_dim)
    assert torch.equal(laid(measured((64, 64))).sizes_N6, own)


@pytest.mark.parametrize(
    ("size", "time_ids"),
    [
        ((2048, 2048), [2048, 2048, 0, 0, 1024, 1024]),
        ((1500, 3000), [1500, 3000, 0, 512, 1024, 1024]),  # resized to 1024 x 2048
        ((3000, 1500), [3000, 1500, 512, 0, 1024, 1024]),
    ],
)
def test_time_ids_are_height_and_width_top_and_left_then_the_size_shown(size: Size, time_ids: list[int]):
    assert laid(measured(size), ((1024, 1024),)).sizes_N6.tolist() == [time_ids]


def test_time_ids_of_a_picture_in_sdxls_table():
    assert laid(measured((3000, 2000)), SDXL).sizes_N6.tolist() == [[3000, 2000, 16, 0, 1216, 832]]  # of 1248 x 832


def test_the_corner_in_the_time_ids_is_where_the_cut_lies_in_both_views():
    columns = np.broadcast_to(np.arange(256, dtype=np.uint8), (128, 256))  # each pixel holds its column
    picture = Image.fromarray(np.stack([columns] * 3, axis=-1))
    layout = laid(measured((128, 256)), SQUARE)
    left = layout.sizes_N6[0, 3].item()
    assert left == 32  # of 128 columns, after halving
    seen = (to_pixels(picture, (64, 64)) + 1) * 127.5
    assert seen[0, 0, 0].item() == pytest.approx(2 * left, abs=1.5)
    assert torch.equal(to_pixels(ImageOps.mirror(picture), (64, 64)), to_pixels(picture, (64, 64)).flip(-1))
