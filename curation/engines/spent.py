"""What a shard cost: CPU seconds of its worker, by what they were spent on. Kept in the shard's marker."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

READING, DECODING = "reading", "decoding"


class Spent:
    """CPU seconds of this process, all of its threads, by part: reading, decoding, or a stage's name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count what happens inside to `part`."""
        start = time.process_time()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - start

    def to_json(self) -> dict[str, Any]:
        """Return what the marker tells."""
        return {"cpu_seconds": {part: round(seconds, 6) for part, seconds in self.seconds.items()}}
