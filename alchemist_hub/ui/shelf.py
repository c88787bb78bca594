"""The pairs that are in memory: loaded when asked for, the ones that were not used for longest leaving first."""

import gc
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


@dataclass(eq=False)
class Shelf(Generic[Kept]):
    """Things of known size by name, together at most `room` bytes; one that is larger stands there alone."""

    room: float = float("inf")
    _things: OrderedDict[str, tuple[Kept, int]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    def take(self, name: str, size: int, load: Callable[[], Kept]) -> Kept:
        """Return the thing, loading it once however many ask; raises what `load` raises.

        Room is made before it is loaded, so that old and new are never in memory together. What someone else still
        works with is freed when they are done.
        """
        with self._lock:
            if name in self._things:
                self._things.move_to_end(name)
            else:
                self._make_room(size)
                self._things[name] = load(), size
            return self._things[name][0]

    def names(self) -> tuple[str, ...]:
        """Return what is in memory, the one used last at the end."""
        return tuple(self._things)

    def _make_room(self, size: int) -> None:
        left = False
        while self._things and sum(taken for _, taken in self._things.values()) + size > self.room:
            self._things.popitem(last=False)
            left = True
        if left:
            gc.collect()
            _return_memory_of_card()


def _return_memory_of_card() -> None:
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
