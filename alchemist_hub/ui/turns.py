"""Whose turn it is to paint, and how long the others wait: one comparison at a time, first come, first served.

A line of its own, beside Gradio's, because it can tell where someone stands and what that means in seconds.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

MOST_WAITING = 200
MEMORY = 0.5  # weight of the latest comparison in a pair's seconds a step


@dataclass(eq=False, kw_only=True)
class Turn:
    """One place in the line. `key`: model key, `steps`: of one side."""

    key: str
    steps: int
    begun: float | None = None  # when its painting began, on the monotonic clock


@dataclass(eq=False)
class Turns:
    """The line. Safe to use from several threads."""

    _line: deque[Turn] = field(default_factory=deque)
    _pace: dict[str, float] = field(default_factory=dict)  # model key -> seconds a step of both sides
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def join(self, key: str, steps: int) -> Iterator[Turn | None]:
        """Stand in line while the block runs; None when too many are waiting."""
        turn = Turn(key=key, steps=steps)
        with self._lock:
            if len(self._line) > MOST_WAITING:
                turn = None
            else:
                self._line.append(turn)
        try:
            yield turn
        finally:
            with self._lock:
                if turn in self._line:
                    self._line.remove(turn)

    def before(self, turn: Turn) -> int:
        """Return how many come first; 0 means that it is this one's turn."""
        with self._lock:
            return self._line.index(turn)

    def length(self) -> int:
        """Return how many stand in the line, the one who paints included."""
        return len(self._line)

    def busy(self) -> bool:
        """Whether anyone is painting or waiting."""
        return self.length() > 0

    def wait(self, turn: Turn) -> float | None:
        """Return the seconds until `turn` begins, by what the last comparisons took; None while that is unknown."""
        with self._lock:
            ahead = list(self._line)[: self._line.index(turn)]
        left = [self.left(other) for other in ahead]
        return None if None in left else sum(left)

    def left(self, turn: Turn) -> float | None:
        """Return the seconds of painting that `turn` still needs; None while its pair's pace is unknown."""
        if turn.key not in self._pace:
            return None
        spent = 0.0 if turn.begun is None else time.monotonic() - turn.begun
        return max(0.0, self._pace[turn.key] * turn.steps - spent)

    def learn(self, key: str, steps: int, seconds: float) -> None:
        """Remember that a comparison of `steps` took `seconds`, loading not counted."""
        latest = seconds / steps
        with self._lock:
            self._pace[key] = MEMORY * latest + (1 - MEMORY) * self._pace.get(key, latest)
