"""Three hundred files that no run may stumble over: one by one, and as a pool."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from curation import images
from curation.errors import ImageError
from curation.explain import why
from curation.ledger import Ledger
from tests.hostile_images import DAMAGED, SOUND, encoded, every_file, odd_places

FILES = list(every_file())
MOST_MEMORY = 1.5 * 2**30  # bytes, of one worker
RUN = """
import json, resource, sys
from pathlib import Path
from alchemist_hub import miniature
from curation import recipes
from curation.engines import embedded

if __name__ == "__main__":
    embedded.run(recipes.miniature(miniature.weights()), sys.argv[1], Path(sys.argv[2]), workers=2)
    print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024))
"""


def test_the_collection_is_large_and_has_no_file_twice():
    assert len(FILES) >= 300
    assert len({data for _, data, _ in FILES}) == len(FILES)


@pytest.mark.parametrize("fate", [SOUND, DAMAGED])
def test_sound_files_are_opened_and_damaged_ones_refused_in_one_line(fate):
    wrong = {}
    for name, data, expected in FILES:
        if expected == fate:
            outcomes = {_outcome(images.decode, data), _outcome(images.decode_gray, data)}
            if outcomes != {fate}:
                wrong[name] = outcomes
    assert not wrong


def test_a_flipped_bit_is_refused_or_read_the_same_by_both_decoders():
    for name, data, _ in FILES:
        assert _outcome(images.decode, data) == _outcome(images.decode_gray, data), name


@pytest.mark.parametrize("name", [name for name, _, fate in FILES if fate == SOUND])
def test_odd_but_sound_files_have_the_pixels_that_pil_shows(name):
    data = next(data for other, data, _ in FILES if other == name)
    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode.startswith("I"):
            shown = Image.fromarray((np.asarray(picture) // 257).astype(np.uint8))
        else:
            layer = ImageOps.exif_transpose(picture).convert("RGBA")
            shown = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        expected = np.asarray(shown.convert("RGB")).astype(int)
    pixels = images.decode(data)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_over_all_of_them_ends_normally_in_bounded_memory_with_a_reason_for_each(tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    for name, data, _ in FILES:
        (pool / name).write_bytes(data)
    odd_places(pool)
    _largest_allowed(pool)
    with (pool / "fat.jpg").open("wb") as fat:
        fat.truncate(300 << 20)  # a hole: nothing is on the disk

    (tmp_path / "run.py").write_text(RUN)
    command = [sys.executable, tmp_path / "run.py", pool, tmp_path / "run"]
    told = subprocess.run(command, capture_output=True, text=True, cwd=Path.cwd(), env=_environment())
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout.splitlines()[-1]) < MOST_MEMORY

    ledger = Ledger(tmp_path / "run")
    rows = {row["url"]: row for row in ledger.scores(["url", "img_key", "status", "detail"]).to_pylist()}
    for name, _, fate in FILES:
        assert (rows[name]["status"] == "ok") == (fate == SOUND) or fate not in (SOUND, DAMAGED), rows[name]
    for row in rows.values():
        assert row["status"] == "ok" or (row["detail"] and "\n" not in row["detail"]), row
    assert rows["pipe.jpg"]["detail"] == "not a file"
    assert rows["fat.jpg"]["detail"].startswith("too large: 314,572,800 bytes")
    assert {rows[name]["status"] for name in ("nowhere.jpg", "itself.jpg", "bomb.png")} == {"undecodable"}
    assert {rows[name]["status"] for name in ("largest.png", "largest.webp", "caf\\udce9.jpg")} == {"ok"}
    assert why(ledger, "cut_50_plain.png").reason.startswith("undecodable: damaged")


def _outcome(decoder, data: bytes) -> str:
    try:
        assert decoder(data).dtype == np.uint8
    except ImageError as error:
        assert "\n" not in str(error) and str(error)
        return DAMAGED
    return SOUND


def _largest_allowed(pool: Path) -> None:
    """The largest files that are opened, of the kinds that cost the most memory."""
    side = int(images.MAX_PIXELS**0.5)
    (pool / "largest.png").write_bytes(encoded(Image.new("RGBA", (side, side), (9, 90, 200, 128)), "PNG"))
    (pool / "largest_cmyk.jpg").write_bytes(encoded(Image.new("CMYK", (side, side), (9, 90, 200, 0)), "JPEG"))
    side = int(images.MAX_WEBP_PIXELS**0.5)
    (pool / "largest.webp").write_bytes(encoded(Image.new("RGBA", (side, side), (200, 90, 9, 128)), "WEBP"))


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path.cwd())}
