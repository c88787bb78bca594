"""Both sides of a comparison, painted by a thread of their own while someone watches."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING

from PIL import Image

from alchemist_hub.ui.safety import Guard

if TYPE_CHECKING:  # seconds to import: the page is served before they are needed
    from diffusers import DiffusionPipeline
    from torch import Tensor

    from alchemist_hub.sampling import Pair

SIDES = ("base", "tuned")
PREVIEW_REST = 4  # after a preview, paint at least this many times as long as the preview took
PREVIEW_PAUSE = 0.1  # seconds between previews, at least


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What both sides are asked for."""

    prompt: str
    negative: str
    seed: int
    steps: int
    guidance: float


@dataclass(frozen=True, kw_only=True)
class View:
    """A comparison at one moment: pictures at native size, None where nothing is to be seen."""

    base: Image.Image | None = None
    tuned: Image.Image | None = None
    painting: str | None = SIDES[0]  # the side at work; None once both are finished
    step: int = 0  # of that side, counted from 1
    seconds: tuple[float, ...] = ()  # what each finished side took
    hidden: tuple[str, ...] = ()  # sides that the safety filter hides: finished, and None
    guarded: bool = False  # a safety filter looks at every picture

    @property
    def complete(self) -> bool:
        """Whether both pictures are there to be compared: only then may anyone vote on them."""
        return self.base is not None and self.tuned is not None and self.painting is None


def watch(pair: "Pair", settings: Settings, guard: Guard | None = None) -> Iterator[View]:
    """Yield what there is to see, last the finished comparison; a watcher who is slow misses previews.

    Closing the iterator stops the painting after the step it is at. Raises what painting raises.
    """
    views: SimpleQueue[View | None] = SimpleQueue()
    stop = Event()
    painter = ThreadPoolExecutor(1, thread_name_prefix="painter")
    finished = painter.submit(_paint_both, pair, settings, guard, views, stop)
    finished.add_done_callback(lambda _: views.put(None))
    try:
        while (view := views.get()) is not None:
            yield view
        yield finished.result()
    finally:
        stop.set()
        painter.shutdown(wait=False)


def finish(pair: "Pair", settings: Settings, guard: Guard | None = None) -> View:
    """Return the finished comparison, without anyone watching."""
    *_, view = watch(pair, settings, guard)
    return view


def _paint_both(
    pair: "Pair", settings: Settings, guard: Guard | None, views: "SimpleQueue[View | None]", stop: Event
) -> View:
    from alchemist_hub.sampling import generate

    view = View(guarded=guard is not None)
    for side in SIDES:
        view = replace(view, painting=side, step=0)
        views.put(view)
        pipe, start = getattr(pair, side), time.perf_counter()
        (picture,) = generate(
            pipe,
            [settings.prompt],
            [settings.seed],
            steps=settings.steps,
            guidance=settings.guidance,
            negative=settings.negative or None,
            on_step=_shower(pipe, view, guard, views),
            should_stop=stop.is_set,
        )
        view = replace(view, seconds=(*view.seconds, time.perf_counter() - start))
        hides = guard is not None and guard(picture)
        view = replace(view, hidden=(*view.hidden, side)) if hides else replace(view, **{side: picture})
    return replace(view, painting=None, step=settings.steps)


def _shower(
    pipe: "DiffusionPipeline", view: View, guard: Guard | None, views: "SimpleQueue[View | None]"
) -> "Callable[[int, Tensor], None]":
    """Return what shows a side's steps: never faster than the watcher looks, and at a bounded share of the time."""
    from alchemist_hub.sampling import preview

    rested = 0.0

    def show(step: int, estimate_BChw: "Tensor") -> None:
        nonlocal rested
        start = time.perf_counter()
        if start < rested or not views.empty():
            return
        (picture,) = preview(pipe, estimate_BChw)
        seen = {} if guard is not None and guard(picture) else {view.painting: picture}
        views.put(replace(view, **seen, step=step))
        now = time.perf_counter()
        rested = now + max(PREVIEW_PAUSE, PREVIEW_REST * (now - start))

    return show
