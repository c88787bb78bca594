"""Painting while someone watches: previews, the finished pair, and what happens when the watcher leaves."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from tiny_services import PROMPT, tiny_services

from alchemist_hub import sampling
from alchemist_hub.ui.live import Settings, finish, watch

SETTINGS = Settings(prompt=PROMPT, negative="", seed=3, steps=4, guidance=3.0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> sampling.Pair:
    return tiny_services(tmp_path_factory.mktemp("pair")).pairs["mini"].pair()


def painters() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("painter")]


def wait_until(happened, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_finished_pictures_are_those_of_each_model_alone(pair: sampling.Pair) -> None:
    view = finish(pair, SETTINGS)
    for side in ("base", "tuned"):
        (alone,) = sampling.generate(getattr(pair, side), [PROMPT], [3], steps=4, guidance=3.0)
        assert np.array_equal(np.asarray(getattr(view, side)), np.asarray(alone))
    assert view.painting is None
    assert len(view.seconds) == 2 and min(view.seconds) > 0


def test_negative_prompt_and_seed_reach_the_models(pair: sampling.Pair) -> None:
    plain, negative, other = (
        np.asarray(finish(pair, Settings(prompt=PROMPT, negative=words, seed=seed, steps=4, guidance=3.0)).base)
        for words, seed in (("", 3), ("sketch night", 3), ("", 4))
    )
    assert not np.array_equal(plain, negative)
    assert not np.array_equal(plain, other)


def test_watcher_sees_base_grow_then_tuned_beside_the_finished_base(pair: sampling.Pair) -> None:
    views = list(watch(pair, Settings(prompt=PROMPT, negative="", seed=3, steps=12, guidance=3.0)))
    at_work = [view.painting for view in views]
    assert at_work == sorted(at_work[:-1]) + [None]
    previews = [view for view in views if view.painting == "base" and view.base is not None]
    assert previews and 1 <= previews[0].step <= 12
    assert all(view.tuned is None for view in previews)
    last = views[-1]
    assert all(view.base is last.base for view in views if view.painting == "tuned")


def test_leaving_stops_the_painting_at_its_step(pair: sampling.Pair) -> None:
    long: Iterator = watch(pair, Settings(prompt=PROMPT, negative="", seed=3, steps=1000, guidance=3.0))
    next(long)
    assert painters()
    long.close()
    wait_until(lambda: not painters())


def test_what_goes_wrong_in_the_painter_reaches_the_watcher(pair: sampling.Pair) -> None:
    with pytest.raises(ZeroDivisionError):  # what the scheduler says to no steps; the page never asks for that
        finish(pair, Settings(prompt=PROMPT, negative="", seed=3, steps=0, guidance=3.0))
    wait_until(lambda: not painters())
