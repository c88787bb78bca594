"""Bytes to pixels: header probe, strict decode, resize, encode. Pixels are uint8 RGB, (H, W, 3), [0, 255].

Strict means that a file which is cut short or damaged is refused with the reason, where most readers would return a
picture with grey stripes: JPEG through simplejpeg (the only reader that rejects every truncated or bit-flipped file),
PNG with every checksum verified, the rest through PIL.
"""

import functools
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
import simplejpeg
from PIL import Image

from curation.errors import ImageError
from curation.records import OK, UNDECODABLE

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 89_478_485  # refused above, like PIL warns: a decompression bomb, or nothing that a laptop should open
MAX_WEBP_PIXELS = 40_000_000  # its decoder holds each pixel four times over
GRAY_SIDE = 224  # pixels that a reduced picture keeps on its shorter side, if it has them: what networks look at
BACKGROUND = (255, 255, 255)  # what shows through transparency
STRIP = 1_000_000  # pixels converted at once: a large picture is held once as it came and once as RGB, never more

# The standard luminance table, quality 50 (ITU T.81, table K.1), row by row.
_LUMINANCE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56]
    + [14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92]
    + [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)
_JPEG_SIGNATURE = b"\xff\xd8"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, 5 to 8 swap width and height
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    EOFError,
    LookupError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)  # what PIL raises on damaged files


@dataclass(frozen=True)
class Header:
    """What the first bytes of a file promise: pixels as displayed (EXIF orientation applied) and the format."""

    width: int
    height: int
    format: str  # "jpeg", "png", "webp", "gif", "bmp", "tiff"


def probe(data: bytes) -> Header:
    """Read the header only. Raises ImageError if it is none of `FORMATS`, too large or animated."""
    with _opened(data) as picture:
        width, height = picture.size
        if _orientation(picture) >= 5:
            width, height = height, width
        return Header(width, height, _format(picture))


def decode(data: bytes) -> np.ndarray:
    """Return the picture as uint8 RGB (H, W, 3), upright, on white where transparent; 16-bit and CMYK converted.

    Raises ImageError if the bytes are not one whole, supported picture.
    """
    with _opened(data) as picture:
        orientation = _orientation(picture)
        if _format(picture) == "jpeg":
            pixels = _jpeg_pixels(data, picture)
        else:
            if _format(picture) == "png":
                _check_png(data)
            picture.load()
            pixels = _rgb(picture)
    return np.ascontiguousarray(_upright(pixels, orientation))


def decode_gray(data: bytes, *, least: int = GRAY_SIDE) -> np.ndarray:
    """Return the picture as uint8 gray (H, W), upright: as strict as `decode`, and cheaper.

    A JPEG is reduced while it is decoded, by eighths, as long as both sides keep `least` pixels. Raises
    ImageError if the bytes are not one whole, supported picture.
    """
    with _opened(data) as picture:
        if _format(picture) == "jpeg" and picture.mode != "CMYK":
            gray = simplejpeg.decode_jpeg(data, "GRAY", min_height=least, min_width=least)[..., 0]
            return np.ascontiguousarray(_upright(gray, _orientation(picture)))
    return cv2.cvtColor(decode(data), cv2.COLOR_RGB2GRAY)


def jpeg_quality(data: bytes) -> int:
    """Return the quality, 1 to 100, whose luminance table is nearest to the file's; 100 if it is no JPEG."""
    with _opened(data) as picture:
        tables = getattr(picture, "quantization", None)
    if not tables:
        return 100
    return 1 + int(np.abs(_table_sums() - sum(tables[min(tables)])).argmin())


@functools.cache
def _table_sums() -> np.ndarray:
    """The sum of the luminance table that libjpeg writes at each quality, 1 to 100."""
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((_LUMINANCE * scale + 50) // 100).clip(1, 255).sum(1)


def decode_table(table: pa.Table) -> list[np.ndarray | None]:
    """Return the pixels of each row of a batch, None where the status is not "ok" or the bytes do not decode.

    The pictures of the latest batch are kept, so that the fused stages of a segment decode each file once. Read only.
    """
    return [None if isinstance(pixels, str) else pixels for pixels in _decoded_batch(table, decode)]


def decode_gray_table(table: pa.Table) -> list[np.ndarray | None]:
    """Return what `decode_gray` makes of each row of a batch, like `decode_table`."""
    return [None if isinstance(pixels, str) else pixels for pixels in _decoded_batch(table, decode_gray)]


def mark_undecodable(table: pa.Table, *, gray: bool = False) -> pa.Table:
    """Return the batch with status "undecodable", and the reason as detail, where "ok" bytes do not decode.

    `gray`: nothing in the segment needs more than `decode_gray_table`.
    """
    found = _decoded_batch(table, decode_gray if gray else decode)
    damage = [pixels if isinstance(pixels, str) else None for pixels in found]
    statuses = [
        UNDECODABLE if reason else status for reason, status in zip(damage, _column(table, "status"), strict=True)
    ]
    details = [reason or detail for reason, detail in zip(damage, _column(table, "detail"), strict=True)]
    for name, values in (("status", statuses), ("detail", details)):
        position = table.schema.get_field_index(name)
        table = table.set_column(position, table.field(position), pa.array(values, pa.string()))
    return table


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return `pixels` (H, W, 3) uint8 at `size` = (width, height), bicubic with antialiasing."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def to_jpeg(pixels: np.ndarray, *, quality: int = 95) -> bytes:
    """Encode uint8 RGB (H, W, 3) as JPEG without chroma subsampling."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="444"
    )


Decoder = Callable[[bytes], np.ndarray]
_decoded: dict[tuple[Decoder, str], np.ndarray | str] = {}  # the latest batch: pixels by key, or why there are none


def _column(table: pa.Table, name: str) -> list:
    return table[name].to_pylist()


def _decoded_batch(table: pa.Table, decoder: Decoder) -> list[np.ndarray | str | None]:
    keys, statuses = _column(table, "img_key"), _column(table, "status")
    present = set(keys)
    for entry in [entry for entry in _decoded if entry[1] not in present]:
        del _decoded[entry]
    return [
        _remembered(decoder, key, image) if status == OK and image is not None else None
        for key, status, image in zip(keys, statuses, _column(table, "image"), strict=True)
    ]


def _remembered(decoder: Decoder, key: str, image: bytes) -> np.ndarray | str:
    entry = decoder, key
    if entry not in _decoded:
        try:
            pixels = _known_gray(key, image) if decoder is decode_gray else None
            pixels = decoder(image) if pixels is None else pixels
            pixels.flags.writeable = False  # shared by the stages of a segment
            _decoded[entry] = pixels
        except ImageError as error:
            _decoded[entry] = str(error)
    return _decoded[entry]


def _known_gray(key: str, image: bytes) -> np.ndarray | None:
    """What `decode_gray` would return, from pixels that are there already; a JPEG is reduced from its file, always."""
    pixels = _decoded.get((decode, key))
    if isinstance(pixels, np.ndarray) and not image.startswith(_JPEG_SIGNATURE):
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return None


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """Open lazily; whatever PIL or simplejpeg raise on damage becomes one ImageError with the reason."""
    if not data:
        raise ImageError("empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF, large images: judged below
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                _check_size(picture)
                yield picture
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"not an image: none of {', '.join(FORMATS).lower()}") from error
    except _DAMAGE as error:
        raise ImageError(f"damaged: {' '.join(str(error).split()) or type(error).__name__}") from error


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    most = MAX_WEBP_PIXELS if picture.format == "WEBP" else MAX_PIXELS
    if width * height > most:
        raise ImageError(f"too large: {width} x {height} pixels, at most {most:,} are opened")
    if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        raise ImageError(f"animated: {picture.n_frames} frames, not one picture")


def _format(picture: Image.Image) -> str:
    """MPO is what PIL calls a JPEG with a second view appended; the first is the picture."""
    return "jpeg" if picture.format == "MPO" else str(picture.format).lower()


def _orientation(picture: Image.Image) -> int:
    return picture.getexif().get(_ORIENTATION, 1) if picture.format in ("JPEG", "MPO", "PNG", "WEBP", "TIFF") else 1


def _jpeg_pixels(data: bytes, picture: Image.Image) -> np.ndarray:
    if picture.mode != "CMYK":
        return simplejpeg.decode_jpeg(data, "RGB")
    simplejpeg.decode_jpeg(data, "CMYK")  # for its strictness; PIL knows Adobe's inverted inks
    return _rgb(picture)


def _check_png(data: bytes) -> None:
    """Verify the checksum of every chunk up to IEND, which PIL leaves out for the pixels."""
    at = len(_PNG_SIGNATURE)
    while True:
        if at + 12 > len(data):
            raise ImageError("damaged: cut short")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise ImageError("damaged: cut short")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise ImageError(f"damaged: checksum of {kind.decode('latin-1')} does not match")
        if kind == b"IEND":
            return
        at = end + 4


def _rgb(picture: Image.Image) -> np.ndarray:
    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _rgb_strip(picture.crop((0, top, width, bottom)))
    return pixels


def _rgb_strip(strip: Image.Image) -> np.ndarray:
    if strip.mode.startswith("I"):  # 16-bit gray, sometimes held in 32
        gray = (np.asarray(strip).clip(0, 65535) // 257).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if "A" in strip.getbands() or "transparency" in strip.info:
        layer = strip.convert("RGBA")
        page = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        return np.asarray(Image.alpha_composite(page, layer).convert("RGB"))
    return np.asarray(strip.convert("RGB"))


_TURNS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}  # EXIF orientation -> upright


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    return _TURNS.get(orientation, lambda same: same)(pixels)
