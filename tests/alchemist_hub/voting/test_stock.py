"""Pairs painted ahead: uniform draws, bounded work and disk, nothing void, an end when told."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from painted_noise import LISTED, WEIGHTS, noise
from PIL import Image
from scipy.stats import chisquare

from alchemist_hub.errors import ModelError
from alchemist_hub.sampling import Cancelled
from alchemist_hub.voting import stock as stock_module
from alchemist_hub.voting.stock import Drawn, Pictures, Stock, is_void

MakeStock = Callable[..., Stock]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeStock]:
    made: list[Stock] = []

    def make(paint=noise, **options) -> Stock:
        made.append(Stock(LISTED, paint, lambda: WEIGHTS, tmp_path / "pictures", rng=random.Random(0), **options))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.stop()


def take(stock: Stock) -> Drawn:
    drawn = stock.take(wait=20)
    assert drawn is not None
    return drawn


def test_draws_are_uniform_over_prompts_and_seeds(make: MakeStock) -> None:
    stock = make()
    drawn = [take(stock) for _ in range(600)]
    counts = Counter((each.subject.prompt, each.subject.seed) for each in drawn)
    assert len(counts) == 6
    assert chisquare(list(counts.values())).pvalue > 0.001
    assert abs(np.corrcoef(*_pairs([each.subject.seed for each in drawn]))[0, 1]) < 0.15  # no memory


def _pairs(values: list[int]) -> tuple[list[int], list[int]]:
    return values[:-1], values[1:]


def test_a_draw_tells_what_it_was_painted_from(make: MakeStock) -> None:
    drawn = take(make())
    assert vars(drawn.subject) == {
        "model": "mini", "prompt": drawn.subject.prompt, "seed": drawn.subject.seed, "steps": 2, "guidance": 2.0,
        "base": WEIGHTS[0], "tuned": WEIGHTS[1],
    }  # fmt: skip
    expected = noise(drawn.subject.prompt, drawn.subject.seed, bool)
    for path, picture in zip((drawn.base, drawn.tuned), expected, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(picture))
        assert "base" not in path.name and "tuned" not in path.name


def test_a_pair_is_painted_once_and_the_disk_holds_at_most_the_list(make: MakeStock, tmp_path: Path) -> None:
    painted: list[tuple[str, int]] = []

    def paint(prompt: str, seed: int, should_stop: Callable[[], bool]) -> Pictures:
        painted.append((prompt, seed))
        return noise(prompt, seed, should_stop)

    stock = make(paint)
    for _ in range(100):
        take(stock)
    assert len(painted) == len(set(painted)) == 6
    assert len(list((tmp_path / "pictures").iterdir())) == 12


def test_it_rests_when_enough_is_ready(make: MakeStock) -> None:
    painted = []
    stock = make(lambda *asked: painted.append(asked) or noise(*asked), ahead=1)
    drawn = take(stock)
    assert drawn.base.exists()
    time.sleep(0.2)
    assert len(painted) <= 2  # the one taken and the one ready


def test_a_void_pair_is_never_dealt(make: MakeStock) -> None:
    black = Image.new("RGB", (8, 8))

    def paint(prompt: str, seed: int, should_stop: Callable[[], bool]) -> Pictures:
        base, tuned = noise(prompt, seed, should_stop)
        return (base, black) if prompt == "mars" else (base, tuned)

    stock = make(paint)
    assert {take(stock).subject.prompt for _ in range(40)} == {"the moon", "saturn"}
    assert is_void(black) and not is_void(noise("mars", 1, bool)[0])


def test_a_failure_is_waited_out(make: MakeStock, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(stock_module, "REST", 0.01)
    failures = [ModelError("no such folder"), RuntimeError("out of memory\nat 0x7f"), OSError("disk full")]

    def paint(*asked) -> Pictures:
        if failures:
            raise failures.pop()
        return noise(*asked)

    assert take(make(paint)) is not None
    assert "no ballot of mini: out of memory; again in" in caplog.text


def test_stop_ends_the_painter_at_its_step(make: MakeStock) -> None:
    at_work = threading.Event()

    def paint(prompt: str, seed: int, should_stop: Callable[[], bool]) -> Pictures:
        at_work.set()
        while not should_stop():
            time.sleep(0.005)
        raise Cancelled

    stock = make(paint)
    assert at_work.wait(20)
    stock.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "ballot painter"]
    assert stock.take(wait=5) is None  # at once


def test_nothing_is_ready_before_it_starts(tmp_path: Path) -> None:
    assert Stock(LISTED, noise, lambda: WEIGHTS, tmp_path).take(wait=0.01) is None
