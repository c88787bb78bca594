"""What the page shows: sizes, files, words."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alchemist_hub.models import model
from alchemist_hub.ui.live import Settings, View
from alchemist_hub.ui.result import download_file, enlarged, picture_file, summary, unknown_words
from alchemist_hub.ui.services import PairLoader

SETTINGS = Settings(prompt="Mars <b>rises</b>", negative="", seed=11, steps=20, guidance=4.5)


@pytest.fixture(autouse=True)
def page_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


def picture(colour: str = "orange") -> Image.Image:
    return Image.new("RGB", (64, 64), colour)


def view() -> View:
    return View(base=picture(), tuned=picture("navy"), painting=None, step=20, seconds=(0.71, 0.68))


@pytest.mark.parametrize(
    ("size", "shown"), [((64, 64), (512, 512)), ((64, 32), (512, 256)), ((1024, 768), (1024, 768))]
)
def test_small_pictures_are_enlarged_and_large_ones_left_alone(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert enlarged(Image.new("RGB", size)).size == shown


def test_enlarging_makes_no_blocks() -> None:
    half = Image.new("L", (64, 1))
    half.paste(255, (32, 0, 64, 1))
    assert len(np.unique(np.asarray(enlarged(half)))) > 4  # nearest-neighbour would keep two levels


def test_a_shown_file_is_written_once_so_that_no_reader_meets_half_of_it() -> None:
    first = Path(picture_file(picture()))
    os.utime(first, (1, 1))
    assert Path(picture_file(picture())) == first
    assert first.stat().st_mtime == 1
    assert Image.open(first).size == (512, 512)
    assert [path.name for path in first.parent.iterdir()] == ["picture.webp"]


def test_download_is_the_picture_as_painted_with_its_settings(page_cache: Path) -> None:
    path = Path(download_file("tuned", view(), SETTINGS, "mini"))
    saved = Image.open(path)
    assert path.name == "mars-b-rises-b_seed-11_tuned.png"
    assert page_cache in path.parents
    assert saved.size == (64, 64) and saved.getpixel((0, 0)) == (0, 0, 128)
    assert saved.text["prompt"] == SETTINGS.prompt and saved.text["side"] == "tuned" and saved.text["seed"] == "11"


def test_a_prompt_without_latin_letters_still_gives_a_file_name() -> None:
    settings = Settings(prompt="火星", negative="", seed=1, steps=2, guidance=1.0)
    assert Path(download_file("base", view(), settings, "mini")).name == "picture_seed-1_base.png"


def test_summary_says_model_times_and_settings_and_escapes_the_prompt() -> None:
    loader = PairLoader(spec=model("mini"), vocabulary=frozenset({"mars", "b"}))
    text = summary(view(), SETTINGS, loader)
    for fact in ("Miniature", "base 0.7 s, tuned 0.7 s", "seed 11", "20 steps", "guidance 4.5", "64 × 64 pixels"):
        assert fact in text
    assert "never learned: rises." in text
    assert "<b>rises" not in text


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("Mars rises, on THE horizon.", ["rises"]),
        ("mars, mars: unicorn unicorn", ["unicorn"]),
        ("on_the horizon", []),
        ("", []),
    ],
)
def test_unknown_words_ignore_case_and_punctuation(text: str, unknown: list[str]) -> None:
    assert unknown_words(text, frozenset({"mars", "on", "the", "horizon"})) == unknown


def test_a_model_without_a_vocabulary_knows_every_word() -> None:
    assert unknown_words("unicorn", frozenset()) == []
