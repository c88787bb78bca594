"""A comparison from the question to the pictures, as a line of moments: waiting, loading, painting, finished.

Nothing here blocks the server: whoever waits costs no thread, and one comparison paints at a time.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Thread
from typing import Any

from alchemist_hub.errors import HubError
from alchemist_hub.ui.asked import EXAMPLES, example, refusal
from alchemist_hub.ui.live import Settings, View, watch
from alchemist_hub.ui.machine import needs_card
from alchemist_hub.ui.painted import key_of
from alchemist_hub.ui.services import PairLoader, Services
from alchemist_hub.ui.turns import Turn
from alchemist_hub.ui.zero import on_card, seconds_on_card

LOOK = 0.25  # seconds between two looks at the line, or at a pair being loaded
ECHO = 1.0  # seconds between two lines about the same thing
Painter = Callable[[str, Settings], Iterator[View]]
Moment = str | View  # one line about what is going on, or what there is to see

log = logging.getLogger(__name__)


def painter(services: Services) -> Painter:
    """Return what paints a model key's pair; on ZeroGPU, with a card lent for as long as its steps need."""

    def paint(key: str, settings: Settings) -> Iterator[View]:
        loader = services.pairs[key]
        yield from watch(loader.pair(), settings, loader.guard())

    def seconds(key: str, settings: Settings) -> int:
        return seconds_on_card(services.pairs[key].spec, settings.steps)

    lent = on_card(paint, seconds)
    return lambda key, settings: (lent if needs_card(services.pairs[key].spec) else paint)(key, settings)


async def moments(services: Services, paint: Painter, key: str, settings: Settings) -> AsyncIterator[Moment]:
    """Yield what there is to tell and to see, last the finished View. Raises `gr.Error`, one line.

    A comparison that was painted before is there at once. Closing the iterator leaves the line, or stops the painting.
    """
    loader = services.pairs[key]
    if loader.blocked:
        raise refusal(loader.blocked)
    if (view := recall(services, loader, settings)) is not None:
        yield view
        return
    with services.turns.join(key, settings.steps) as turn:
        if turn is None:
            raise refusal("Too many people are waiting; try again in a minute.")
        async for line in _turn_comes(services, turn):
            yield line
        if (view := recall(services, loader, settings)) is not None:  # the one before asked the same
            yield view
            return
        async for line in _loaded(loader, settings):
            yield line
        turn.begun = time.monotonic()
        view = View()
        async for view in _stepwise(paint(key, settings)):
            yield view
        services.turns.learn(key, settings.steps, time.monotonic() - turn.begun)
    remember(services, loader, settings, view)


def recall(services: Services, loader: PairLoader, settings: Settings) -> View | None:
    """Return the comparison as it was painted before, None if it was not."""
    return services.painted.get(key_of(loader.sources, settings))


def remember(services: Services, loader: PairLoader, settings: Settings, view: View) -> None:
    """Keep a finished comparison: an example on disk, anything else only while the app runs."""
    lasting = any(settings == example(loader.spec, prompt) for prompt in EXAMPLES)
    services.painted.keep(key_of(loader.sources, settings), view, lasting=lasting)


def paint_ahead(services: Services) -> Thread:
    """Load the first pair and paint the examples while nobody else does; return the thread, which is a daemon."""
    thread = Thread(target=_paint_examples, args=(services,), name="ahead", daemon=True)
    thread.start()
    return thread


def _paint_examples(services: Services) -> None:
    loader = next(iter(services.pairs.values()))
    try:
        for prompt in EXAMPLES:
            _paint_ahead(services, loader, example(loader.spec, prompt))
    except (HubError, OSError):  # OSError: its files were taken away
        log.exception("the examples cannot be painted ahead")


def _paint_ahead(services: Services, loader: PairLoader, settings: Settings) -> None:
    pair, guard = loader.pair(), loader.guard()
    while recall(services, loader, settings) is None:
        while services.turns.busy():
            time.sleep(LOOK)
        view = _while_idle(services, watch(pair, settings, guard))
        if view is not None:
            remember(services, loader, settings, view)


def _while_idle(services: Services, views: Iterator[View]) -> View | None:
    """Return the last view, or None when someone came in between: visitors go first."""
    last = None
    for view in views:
        if services.turns.busy():
            views.close()
            return None
        last = view
    return last


async def _turn_comes(services: Services, turn: Turn) -> AsyncIterator[str]:
    """Yield lines about the place in the line until it is this one's turn."""
    told = 0.0
    while place := services.turns.before(turn):
        if time.monotonic() - told >= ECHO:
            told = time.monotonic()
            yield _waiting(place, services.turns.wait(turn))
        await asyncio.sleep(LOOK)


def _waiting(place: int, seconds: float | None) -> str:
    people = "1 comparison" if place == 1 else f"{place} comparisons"
    return f"Waiting for {people} before yours" + (f", about {max(1, round(seconds))} s" if seconds else "")


async def _loaded(loader: PairLoader, settings: Settings) -> AsyncIterator[str]:
    """Load pair and filter, telling how far it is, and see whether the pair can read the whole prompt."""
    loading = asyncio.ensure_future(asyncio.to_thread(_ready, loader))
    told = ""
    while not loading.done():
        if (line := loader.loading()) != told:
            told = line
            yield line
        await asyncio.wait({loading}, timeout=LOOK)
    try:
        tokenizer = await loading
    except HubError as error:  # its message may name folders of this machine
        log.exception("%s cannot be loaded", loader.spec.name)
        raise refusal(f"{loader.spec.name} cannot be loaded here; the server's log says why.") from error
    tokens = len(tokenizer(settings.prompt).input_ids)
    if tokens > tokenizer.model_max_length and settings.prompt not in EXAMPLES:  # the page refuses nobody its own
        raise refusal(f"The prompt has {tokens} tokens; this model reads {tokenizer.model_max_length}. Shorten it.")


def _ready(loader: PairLoader) -> Any:
    tokenizer = loader.pair().base.tokenizer
    loader.guard()
    return tokenizer


async def _stepwise(views: Iterator[View]) -> AsyncIterator[View]:
    """Yield from an iterator that blocks, in a thread; closing this one closes it as soon as its step is over."""
    try:
        while (view := await asyncio.to_thread(next, views, None)) is not None:
            yield view
    finally:
        Thread(target=_close, args=(views,), daemon=True).start()


def _close(views: Iterator[View]) -> None:
    while True:
        try:
            return views.close()
        except ValueError:  # its thread is still inside
            time.sleep(0.02)
