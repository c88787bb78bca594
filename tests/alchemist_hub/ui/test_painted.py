"""Comparisons that answer at once: kept as painted, found again only for the same weights and settings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alchemist_hub.models import model
from alchemist_hub.ui import painted
from alchemist_hub.ui.asked import example
from alchemist_hub.ui.live import View
from alchemist_hub.ui.painted import Painted, key_of

SETTINGS = example(model("mini"))


def view(colour: str = "orange", hidden: tuple[str, ...] = ()) -> View:
    picture = Image.new("RGB", (64, 64), colour)
    base = None if "base" in hidden else picture
    return View(base=base, tuned=picture, painting=None, step=20, seconds=(1.5, 2.0), hidden=hidden, guarded=True)


def test_a_lasting_one_is_found_by_the_next_process_as_it_was_painted(tmp_path: Path) -> None:
    Painted(folder=tmp_path).keep("a", view(), lasting=True)
    found = Painted(folder=tmp_path).get("a")
    assert np.array_equal(np.asarray(found.base), np.asarray(view().base))
    assert (found.seconds, found.step, found.guarded, found.complete) == ((1.5, 2.0), 20, True, True)


def test_visitors_pictures_and_hidden_ones_never_reach_the_disk(tmp_path: Path) -> None:
    kept = Painted(folder=tmp_path)
    kept.keep("visitor", view())
    kept.keep("hidden", view(hidden=("base",)), lasting=True)
    assert list(tmp_path.iterdir()) == []
    assert kept.get("visitor") is not None and kept.get("hidden").hidden == ("base",)


def test_half_a_comparison_on_disk_is_none(tmp_path: Path) -> None:
    Painted(folder=tmp_path).keep("a", view(), lasting=True)
    (tmp_path / "a" / "tuned.png").write_bytes(b"half")
    assert Painted(folder=tmp_path).get("a") is None


def test_memory_and_disk_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painted, "IN_MEMORY", 2)
    monkeypatch.setattr(painted, "ON_DISK", 3)
    kept = Painted(folder=tmp_path)
    for name in "abcde":
        kept.keep(name, view(), lasting=True)
    assert len(list(tmp_path.iterdir())) == 3
    assert Painted().get("a") is None and kept.get("e") is not None
    assert len(kept._views) == 2


def test_a_disk_that_takes_nothing_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Painted(folder=tmp_path / "file" / "below")
    kept.keep("a", view(), lasting=True)
    assert kept.get("a") is not None


def test_the_key_changes_with_settings_and_with_any_file_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "unet").mkdir()
    weights = tmp_path / "unet" / "weights.safetensors"
    weights.write_bytes(b"one")
    sources = (str(tmp_path),)
    before = key_of(sources, SETTINGS)
    assert key_of(sources, SETTINGS) == before
    assert key_of(sources, replace(SETTINGS, seed=8)) != before
    weights.write_bytes(b"other")
    assert key_of(sources, SETTINGS) != before
