"""Files that claim to be pictures: cut short, flipped, bombs, odd but sound. Each with what must become of it."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

SIDE = 96
SOUND = "sound"  # kept, and its pixels are right
DAMAGED = "damaged"  # refused
EITHER = "either"  # what a flipped bit does depends on where it fell: refused, or a picture

File = tuple[str, bytes, str]  # name, content, what must become of it


def scene(seed: int = 0) -> np.ndarray:
    """A smooth picture with some texture, uint8 (SIDE, SIDE, 3)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-12, 13, (SIDE, SIDE, 1))).clip(0, 255).astype(np.uint8)


def encoded(picture: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    """Encode as `kind`, PIL's name of the format."""
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def every_file() -> Iterator[File]:
    """Yield the whole collection; no two contents are equal."""
    for part in (sound_files, truncated_files, flipped_files, bombs, impostors):
        yield from part()


def sound_files() -> Iterator[File]:
    """Odd, and whole."""
    picture = Image.fromarray(scene(1))
    yield "plain.jpg", encoded(picture, "JPEG", quality=95), SOUND
    yield "progressive.jpg", encoded(picture, "JPEG", quality=95, progressive=True), SOUND
    yield "gray.jpg", encoded(picture.convert("L"), "JPEG", quality=95), SOUND
    yield "cmyk.jpg", encoded(picture.convert("CMYK"), "JPEG", quality=95), SOUND
    yield "really_a_png.jpg", encoded(picture, "PNG"), SOUND
    yield "really_a_jpeg.png", encoded(picture, "JPEG", quality=94), SOUND
    yield "lossless.webp", encoded(picture, "WEBP", lossless=True), SOUND
    yield "plain.bmp", encoded(picture, "BMP"), SOUND
    yield "plain.tif", encoded(picture, "TIFF"), SOUND
    yield "packed.tiff", encoded(picture, "TIFF", compression="tiff_lzw"), SOUND
    yield "palette.gif", encoded(picture.quantize(64), "GIF"), SOUND
    yield "palette.png", encoded(picture.quantize(64), "PNG"), SOUND
    yield "palette_transparent.png", encoded(picture.quantize(64), "PNG", transparency=0), SOUND
    yield "alpha.png", encoded(picture.convert("RGBA"), "PNG"), SOUND
    yield "gray_alpha.png", encoded(picture.convert("LA"), "PNG"), SOUND
    yield "black_and_white.png", encoded(picture.convert("1"), "PNG"), SOUND
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    yield "sixteen_bit.png", encoded(Image.fromarray(deep), "PNG"), SOUND
    yield "sixteen_bit.tif", encoded(Image.fromarray(deep), "TIFF"), SOUND
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"turned_{orientation}.jpg", encoded(picture, "JPEG", quality=95, exif=exif), SOUND
    yield "huge_comment.jpg", _with_segments(encoded(picture, "JPEG", quality=95), b"x" * 65_000, 160), SOUND
    profile = np.random.default_rng(0).bytes(3 << 20)
    yield "large_profile.png", encoded(picture, "PNG", icc_profile=profile[: 1 << 19]), SOUND
    yield "huge_profile.png", encoded(picture, "PNG", icc_profile=profile), DAMAGED
    yield "appended.jpg", encoded(picture, "JPEG", quality=93) + b"and then some" * 1000, EITHER
    yield "exif_of_noise.jpg", encoded(picture, "JPEG", quality=92, exif=b"Exif\0\0" + profile[:5000]), EITHER


def truncated_files() -> Iterator[File]:
    """Every format, cut at every 5% of its length."""
    for name, data in _formats(seed=2):
        for percent in range(5, 100, 5):
            yield f"cut_{percent:02d}_{name}", data[: len(data) * percent // 100], DAMAGED


def flipped_files() -> Iterator[File]:
    """Every format, a single bit flipped at a place of its own."""
    rng = np.random.default_rng(3)
    for name, data in _formats(seed=4):
        for number in range(16):
            flipped = bytearray(data)
            flipped[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            yield f"flip_{number:02d}_{name}", bytes(flipped), EITHER


def bombs() -> Iterator[File]:
    """Small files that would fill the memory, and animations."""
    yield "bomb.png", _png_header(100_000, 100_000) + _chunk(b"IDAT", zlib.compress(bytes(1 << 20))), DAMAGED
    yield "bomb.bmp", _bmp_header(100_000, 100_000), DAMAGED
    yield "bomb.gif", b"GIF89a" + struct.pack("<HHBBB", 65_000, 65_000, 0, 0, 0) + b";", DAMAGED
    jpeg = encoded(scene(5), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    yield "bomb.jpg", jpeg[:at] + struct.pack(">HH", 65_000, 65_000) + jpeg[at + 4 :], DAMAGED
    wide = encoded(scene(5), "PNG")
    header = _chunk(b"IHDR", struct.pack(">II", 2**31 - 1, 1) + wide[24:29])
    yield "wide.png", wide[:8] + header + wide[33:], DAMAGED
    note = PngImagePlugin.PngInfo()
    note.add_text("bomb", "0" * (80 << 20), zip=True)
    yield "text_bomb.png", encoded(scene(6), "PNG", pnginfo=note), EITHER
    frames = [Image.fromarray(scene(seed)) for seed in (7, 8, 9)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        yield f"animated.{kind.lower()}", data, DAMAGED


def impostors() -> Iterator[File]:
    """No pictures at all."""
    yield "empty.jpg", b"", DAMAGED
    yield "one_byte.png", b"\x89", DAMAGED
    yield "page.jpg", b"<!doctype html><title>404</title>", DAMAGED
    yield "drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", DAMAGED
    yield "paper.jpg", b"%PDF-1.7\n%%EOF", DAMAGED
    yield "program.gif", b"\x7fELF" + bytes(4096), DAMAGED
    yield "zeros.jpg", bytes(65_536), DAMAGED
    yield "script.png", b"cos\nsystem\n(S'touch pwned'\ntR.", DAMAGED
    for seed in range(12):
        yield f"noise_{seed:02d}.jpg", np.random.default_rng(seed).bytes(3000 + seed), DAMAGED


def odd_places(folder: Path) -> None:
    """Names that are no files: a pipe, a folder, links to nowhere and to itself, a name that is not UTF-8."""
    os.mkfifo(folder / "pipe.jpg")
    (folder / "folder.jpg").mkdir()
    (folder / "nowhere.jpg").symlink_to(folder / "gone")
    (folder / "itself.jpg").symlink_to(folder / "itself.jpg")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(encoded(scene(10), "JPEG"))


def _formats(seed: int) -> Iterator[tuple[str, bytes]]:
    picture = Image.fromarray(scene(seed))
    yield "baseline.jpg", encoded(picture, "JPEG", quality=90)
    yield "progressive.jpg", encoded(picture, "JPEG", quality=90, progressive=True)
    yield "plain.png", encoded(picture, "PNG")
    yield "lossy.webp", encoded(picture, "WEBP", quality=90)
    yield "palette.gif", encoded(picture.quantize(128), "GIF")
    yield "plain.bmp", encoded(picture, "BMP")
    yield "packed.tif", encoded(picture, "TIFF", compression="tiff_lzw")


def _with_segments(jpeg: bytes, content: bytes, count: int) -> bytes:
    """Insert `count` application segments behind the first two bytes."""
    return jpeg[:2] + (b"\xff\xed" + struct.pack(">H", len(content) + 2) + content) * count + jpeg[2:]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def _bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info
