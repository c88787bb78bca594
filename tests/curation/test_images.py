"""Strictness and conversions of `curation.images`, on real encoded files."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from curation import images
from curation.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_probe_and_decode_agree(kind):
    data = encoded(Image.fromarray(PIXELS), kind)
    header = images.probe(data)
    pixels = images.decode(data)
    assert (header.height, header.width) == pixels.shape[:2] == PIXELS.shape[:2]
    assert header.format == kind.lower()
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.95, -1])
def test_truncated_files_are_refused(kind, kept):
    data = encoded(Image.fromarray(PIXELS), kind)
    with pytest.raises(ImageError):
        images.decode(data[: kept if kept < 0 else int(len(data) * kept)])


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95, -1])
def test_reduced_decoding_is_as_strict(kept):
    pixels = np.random.default_rng(1).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels), "JPEG")
    with pytest.raises(ImageError):
        images.decode_gray(data[: kept if kept < 0 else int(len(data) * kept)])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_gray_is_the_upright_picture_reduced(orientation):
    smooth = np.asarray(Image.fromarray(PIXELS).resize((1400, 1000), Image.Resampling.BICUBIC))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(smooth), "JPEG", quality=95, exif=exif.tobytes())
    gray, full = images.decode_gray(data, least=256), images.decode(data)
    assert 256 <= min(gray.shape) < 500 and gray.dtype == np.uint8
    expected = np.asarray(Image.fromarray(full).convert("L").resize(gray.shape[::-1], Image.Resampling.LANCZOS), int)
    assert np.abs(expected - gray).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_gray_of_other_formats_is_the_whole_picture(kind):
    gray = images.decode_gray(encoded(Image.fromarray(PIXELS), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.abs(gray.astype(int) - np.asarray(Image.fromarray(PIXELS).convert("L"), int)).max() <= 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9), st.binary(max_size=40))
def test_damage_is_an_image_error_or_a_picture_never_another_exception(seed, junk):
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
        data = bytearray(encoded(Image.fromarray(PIXELS), kind))
        at = seed % len(data)
        data[at : at + len(junk)] = junk
        try:
            assert images.decode(bytes(data)).shape[2] == 3
        except ImageError as error:
            assert "\n" not in str(error)


def test_png_with_a_flipped_bit_in_its_pixels_is_refused():
    data = bytearray(encoded(Image.fromarray(PIXELS), "PNG"))
    data[data.index(b"IDAT") + 200] ^= 1
    with pytest.raises(ImageError, match="damaged"):
        images.decode(bytes(data))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pil_does(orientation):
    picture = Image.fromarray(PIXELS)
    exif = picture.getexif()
    exif[0x0112] = orientation
    data = encoded(picture, "JPEG", exif=exif, quality=100, subsampling=0)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    header = images.probe(data)
    assert (header.width, header.height) == upright.size
    assert np.abs(images.decode(data).astype(int) - np.asarray(upright)).max() <= 2


def test_transparency_shows_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (images.decode(encoded(clear, "PNG")) == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30] + [0] * 765)
    assert (images.decode(encoded(palette, "PNG", transparency=0)) == 255).all()
    assert (images.decode(encoded(palette, "PNG")) == (10, 20, 30)).all()


def test_sixteen_bit_gray_keeps_its_range():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = images.decode(encoded(Image.fromarray(ramp), "PNG"))
    assert pixels.min() == 0 and pixels.max() == 255
    assert (np.diff(pixels[..., 0].ravel().astype(int)) >= 0).all()


def test_cmyk_jpeg_becomes_rgb():
    red = Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK")
    pixels = images.decode(encoded(red, "JPEG"))
    assert pixels[..., 0].min() > 200 and pixels[..., 1].max() < 60


def test_animations_and_bombs_are_refused_by_the_header(monkeypatch):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 128, 255)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="animated: 3 frames"):
            images.probe(data)
    monkeypatch.setattr(images, "MAX_PIXELS", 63)
    with pytest.raises(ImageError, match="too large: 8 x 8"):
        images.decode(encoded(frames[0], "PNG"))
    monkeypatch.setattr(images, "MAX_WEBP_PIXELS", 62)
    with pytest.raises(ImageError, match="too large: 8 x 8 pixels, at most 62"):
        images.decode(encoded(frames[0], "WEBP"))


def test_text_is_not_an_image():
    with pytest.raises(ImageError, match="not an image"):
        images.probe(b"<html>404</html>")
    with pytest.raises(ImageError, match="empty"):
        images.decode(b"")


def batch(*rows: tuple[str, str, bytes | None]) -> pa.Table:
    return pa.table({"img_key": [r[0] for r in rows], "status": [r[1] for r in rows], "image": [r[2] for r in rows]})


def test_fused_stages_decode_each_file_once(monkeypatch):
    data = encoded(Image.fromarray(PIXELS), "PNG")
    table = batch(("a", "ok", data), ("b", "undecodable", b"x"), ("c", "ok", data[:90]), ("d", "ok", None))
    decodes = []
    monkeypatch.setattr(images, "decode", lambda d, real=images.decode: decodes.append(d) or real(d))
    first, second = images.decode_table(table), images.decode_table(table)
    assert (first[0] == PIXELS).all() and first[1:] == [None, None, None]
    assert second[0] is first[0] and len(decodes) == 2
    images.decode_table(batch(("z", "ok", data)))
    images.decode_table(table)
    assert len(decodes) == 5  # the earlier batch was forgotten


def test_gray_beside_colour_is_what_it_is_alone_and_decodes_only_a_jpeg_again(monkeypatch):
    kinds = ("PNG", "JPEG")
    files = [encoded(Image.fromarray(PIXELS), kind) for kind in kinds]
    alone = [images.decode_gray(data) for data in files]
    table = batch(*((kind, "ok", data) for kind, data in zip(kinds, files, strict=True)))
    images.decode_table(table)
    opened = []
    monkeypatch.setattr(images, "_opened", lambda data, real=images._opened: opened.append(data) or real(data))
    together = images.decode_gray_table(table)
    assert all((one == other).all() for one, other in zip(alone, together, strict=True))
    assert opened == [files[1]]


def test_a_large_picture_is_converted_strip_by_strip_without_seams(monkeypatch):
    alpha = np.linspace(0, 255, 112 * 80, dtype=np.uint8).reshape(80, 112, 1)
    data = encoded(Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)), "PNG")
    whole = images.decode(data)
    monkeypatch.setattr(images, "STRIP", 300)
    assert (images.decode(data) == whole).all()


def test_resize_and_encode_round_trip():
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    small = images.resize(smooth, (32, 24))
    assert small.shape == (24, 32, 3)
    assert images.resize(small, (32, 24)) is small
    again = images.decode(images.to_jpeg(smooth))
    assert np.abs(again.astype(int) - smooth).mean() < 2


def test_undecodable_rows_are_marked_with_the_reason_and_the_others_left_alone():
    data = encoded(Image.fromarray(PIXELS), "JPEG")
    table = batch(("a", "ok", data), ("b", "undecodable", b"x"), ("c", "ok", data[:900]))
    table = table.append_column("detail", pa.array([None, "not an image", None], pa.string()))
    marked = images.mark_undecodable(table)
    assert marked["status"].to_pylist() == ["ok", "undecodable", "undecodable"]
    assert marked["detail"].to_pylist()[:2] == [None, "not an image"]
    assert marked["detail"][2].as_py().startswith("damaged: ")
    assert marked.drop_columns(["status", "detail"]).equals(table.drop_columns(["status", "detail"]))
