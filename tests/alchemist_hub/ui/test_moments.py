"""A comparison from question to pictures: who waits is told, who leaves costs nothing, what is known is there."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import pytest
from tiny_services import PROMPT, tiny_services

from alchemist_hub.ui import turns
from alchemist_hub.ui.asked import EXAMPLES, example
from alchemist_hub.ui.live import Settings, View
from alchemist_hub.ui.moments import Moment, moments, paint_ahead, painter, recall
from alchemist_hub.ui.painted import Painted
from alchemist_hub.ui.services import Services
from alchemist_hub.ui.turns import Turns

SETTINGS = Settings(prompt=PROMPT, negative="", seed=3, steps=4, guidance=3.0)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Services:
    services = tiny_services(tmp_path_factory.mktemp("services"))
    services.pairs["mini"].pair()
    return services


@pytest.fixture
def services(loaded: Services) -> Services:
    """The same loaded pair, with nobody in the line and nothing painted."""
    return replace(loaded, painted=Painted(), turns=Turns())


async def collected(services: Services, settings: Settings = SETTINGS) -> list[Moment]:
    return [moment async for moment in moments(services, painter(services), "mini", settings)]


def painters() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("painter")]


def wait_until(happened, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_it_ends_with_the_finished_comparison_and_teaches_the_line_its_pace(services: Services) -> None:
    *_, last = asyncio.run(collected(services))
    assert isinstance(last, View) and last.complete
    assert not services.turns.busy()
    with services.turns.join("mini", 4) as turn:
        assert services.turns.left(turn) > 0


def test_the_same_question_is_answered_by_the_picture_that_was_painted(services: Services) -> None:
    *_, first = asyncio.run(collected(services))
    assert asyncio.run(collected(services)) == [first]
    assert len(asyncio.run(collected(services, replace(SETTINGS, seed=4)))) > 1


def test_those_who_wait_are_told_their_place_and_paint_after_the_first(services: Services) -> None:
    async def both() -> tuple[list[Moment], list[Moment]]:
        long = asyncio.ensure_future(collected(services, replace(SETTINGS, steps=50)))
        while not services.turns.busy():
            await asyncio.sleep(0.01)
        return await asyncio.gather(long, collected(services))

    services.turns.learn("mini", 1, 0.5)
    first, second = asyncio.run(both())
    assert first[-1].complete and second[-1].complete
    assert second[0].startswith("Waiting for 1 comparison before yours, about ")


def test_two_who_ask_the_same_at_once_are_painted_once(services: Services) -> None:
    painted: list[Settings] = []
    paint = painter(services)

    def counted(key: str, settings: Settings) -> Iterator[View]:
        painted.append(settings)
        return paint(key, settings)

    async def last() -> Moment:
        return [moment async for moment in moments(services, counted, "mini", SETTINGS)][-1]

    async def both() -> list[Moment]:
        return await asyncio.gather(last(), last())

    one, other = asyncio.run(both())
    assert one is other and len(painted) == 1


def test_leaving_while_painting_stops_it_and_frees_the_line(services: Services) -> None:
    async def leave() -> None:
        watched = moments(services, painter(services), "mini", replace(SETTINGS, steps=1000))
        async for moment in watched:
            if isinstance(moment, View):
                break
        await watched.aclose()

    asyncio.run(leave())
    assert not services.turns.busy()
    wait_until(lambda: not painters())


def test_a_task_cancelled_in_the_middle_of_a_step_stops_it_too(services: Services) -> None:
    async def cancel() -> None:
        task = asyncio.ensure_future(collected(services, replace(SETTINGS, steps=1000)))
        while not painters():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert not services.turns.busy()
    wait_until(lambda: not painters())


def test_a_full_line_refuses_instead_of_growing(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_WAITING", -1)
    with pytest.raises(gr.Error, match="Too many people are waiting"):
        asyncio.run(collected(services))


def test_examples_are_painted_ahead_and_kept_on_disk(services: Services, tmp_path) -> None:
    services = replace(services, painted=Painted(folder=tmp_path))
    paint_ahead(services).join(60)
    loader = services.pairs["mini"]
    assert all(recall(services, loader, example(loader.spec, prompt)).complete for prompt in EXAMPLES)
    assert len(list(tmp_path.iterdir())) == len(EXAMPLES)


def test_painting_ahead_waits_for_visitors(services: Services) -> None:
    loader = services.pairs["mini"]
    with services.turns.join("mini", 4):
        ahead = paint_ahead(services)
        time.sleep(0.5)
        assert recall(services, loader, example(loader.spec)) is None and ahead.is_alive()
    ahead.join(60)
    assert recall(services, loader, example(loader.spec)) is not None
