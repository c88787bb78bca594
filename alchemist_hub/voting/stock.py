"""Pairs of pictures painted ahead, so that a visitor votes at once.

What is asked is drawn uniformly, with replacement, from a fixed list of prompts and seeds, and dealt in the order it
was drawn: each ballot is an independent draw, which is what the live board's interval rests on. A pair is painted the
first time it is drawn and lies on disk from then on, so the disk holds at most the list. The painter is one thread of
low priority that rests while enough draws are ready.
"""

import hashlib
import logging
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from alchemist_hub.errors import HubError
from alchemist_hub.voting.records import SIDES, Subject

AHEAD = 12  # draws that are ready
NICENESS = 10
REST = 5.0  # seconds after a failure, twice as long each time
LONGEST_REST = 300.0
Pictures = tuple[Image.Image, Image.Image]  # base, tuned
Painter = Callable[[str, int, Callable[[], bool]], Pictures | None]  # (prompt, seed, should_stop); None: filtered
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What a model's ballots are about: every prompt with every seed, painted alike."""

    model: str
    prompts: Sequence[str]
    seeds: Sequence[int]
    steps: int
    guidance: float


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One draw whose pictures lie on disk."""

    subject: Subject
    base: Path
    tuned: Path


class Stock:
    """The draws of one model that are ready to be dealt."""

    def __init__(
        self,
        listed: Listed,
        paint: Painter,
        weights: Callable[[], tuple[str, str]],
        folder: str | Path,
        *,
        ahead: int = AHEAD,
        rng: random.Random | None = None,
    ) -> None:
        """`weights` names the weights of base and tuned; it is asked by the painter's thread, once."""
        self.listed, self._paint, self._weights = listed, paint, weights
        self._folder, self._ahead, self._rng = Path(folder), ahead, rng or random.SystemRandom()
        self._ready: deque[Drawn] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._painter: threading.Thread | None = None

    def start(self) -> None:
        """Let the painter work; a second call does nothing."""
        with self._changed:
            if self._painter is None and not self._stopping.is_set():
                self._painter = threading.Thread(target=self._work, name="ballot painter", daemon=True)
                self._painter.start()

    def stop(self) -> None:
        """Let the painter end after the step it is at, and wait for it."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        if self._painter is not None:
            self._painter.join()

    def take(self, *, wait: float = 0.0) -> Drawn | None:
        """Return the oldest draw, or None if none is ready within `wait` seconds."""
        end = time.monotonic() + wait
        with self._changed:
            while not self._ready and (left := end - time.monotonic()) > 0 and not self._stopping.is_set():
                self._changed.wait(left)
            drawn = self._ready.popleft() if self._ready else None
            self._changed.notify_all()
        return drawn

    def _work(self) -> None:
        from alchemist_hub.sampling import Cancelled  # seconds to import: the page is served before

        if sys.platform == "linux":  # where a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        rest, names = REST, None
        while self._wanted():
            try:
                names = names or self._weights()
                drawn = self._draw(*names)
            except Cancelled:
                return
            except (HubError, OSError, RuntimeError) as error:  # RuntimeError: torch's own, out of memory among them
                log.warning("no ballot of %s: %s; again in %g s", self.listed.model, _line(error), rest)
                self._stopping.wait(rest)
                rest = min(2 * rest, LONGEST_REST)
                continue
            rest = REST
            if drawn is not None:
                with self._changed:
                    self._ready.append(drawn)
                    self._changed.notify_all()

    def _wanted(self) -> bool:
        """Wait until a draw is wanted; False when it is time to end."""
        with self._changed:
            while len(self._ready) >= self._ahead and not self._stopping.is_set():
                self._changed.wait()
        return not self._stopping.is_set()

    def _draw(self, base: str, tuned: str) -> Drawn | None:
        """Draw a prompt and a seed, and paint what is missing; None where a side failed or was filtered."""
        listed = self.listed
        prompt, seed = self._rng.choice(listed.prompts), self._rng.choice(listed.seeds)
        subject = Subject(
            model=listed.model, prompt=prompt, seed=seed, steps=listed.steps, guidance=listed.guidance,
            base=base, tuned=tuned,
        )  # fmt: skip
        files = [self._file(subject, side) for side in SIDES]
        if not all(file.exists() for file in files):
            pictures = self._paint(prompt, seed, self._stopping.is_set)
            if pictures is None or any(is_void(picture) for picture in pictures):
                return None
            for file, picture in zip(files, pictures, strict=True):
                _save(picture, file)
        return Drawn(subject=subject, base=files[0], tuned=files[1])

    def _file(self, subject: Subject, side: str) -> Path:
        name = hashlib.sha256(repr((subject, side)).encode()).hexdigest()[:24]
        return self._folder / f"{name}.png"


def is_void(picture: Image.Image) -> bool:
    """Whether a picture is one colour all over: what is left of one that was blacked out, or of a model's breakdown."""
    return all(low == high for low, high in picture.convert("RGB").getextrema())


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    picture.save(part, format="PNG")
    os.replace(part, path)


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), repr(error))
