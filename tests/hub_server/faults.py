"""What goes wrong on purpose: which requests, how often, and how."""

import re
import threading
from dataclasses import dataclass

UPLOAD = r"PUT /lfs/|POST /v1/xorbs/"  # the two ways in which content arrives before a commit
COMMIT = r"POST /api/\w+/[^/]+/[^/]+/commit/"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that happens to the next `times` requests whose "METHOD /path" the pattern `on` is found in."""

    on: str = ""
    times: int = 1
    status: int | None = None  # answer this instead
    message: str = "Injected"
    retry_after: int | None = None  # seconds, in the header Retry-After
    drop_after: int | None = None  # close the connection when so many bytes of the body have arrived
    delay: float = 0.0  # seconds before each piece of the body is taken or given


def dropped(*, after: int, on: str = UPLOAD, times: int = 1) -> Fault:
    """Cut the connection after so many bytes of an upload; a shorter one arrives whole, and counts among `times`."""
    return Fault(on=on, times=times, drop_after=after)


def refused(status: int, *, on: str = "", times: int = 1, retry_after: int | None = None) -> Fault:
    """Answer 429 or 5xx."""
    return Fault(on=on, times=times, status=status, retry_after=retry_after)


def stale_parent(*, times: int = 1) -> Fault:
    """Say that somebody else has committed since."""
    return Fault(
        on=COMMIT, times=times, status=412, message="A commit has happened since. Please refresh and try again."
    )


def expired_token(*, on: str = "", times: int = 1_000_000) -> Fault:
    """Refuse the token, from now on unless `times` is given."""
    return Fault(on=on, times=times, status=401, message="Invalid credentials in Authorization header")


def slow_disk(delay: float, *, on: str = "", times: int = 1_000_000) -> Fault:
    """Wait so many seconds before every piece of a body."""
    return Fault(on=on, times=times, delay=delay)


class Faults:
    """The faults still to happen, oldest first."""

    def __init__(self) -> None:
        self._left: list[list] = []  # [fault, times left]
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._left.append([fault, fault.times])

    def clear(self) -> None:
        with self._lock:
            self._left.clear()

    def take(self, request: str) -> Fault:
        """Return what happens to "METHOD /path": nothing, if no fault is meant for it."""
        with self._lock:
            for entry in self._left:
                if entry[1] and re.search(entry[0].on, request):
                    entry[1] -= 1
                    return entry[0]
        return Fault()
