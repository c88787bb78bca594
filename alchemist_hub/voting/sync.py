"""Votes on their way to a data set on the Hub: append-only files, each named by replica, first vote and content.

What is to be sent is noted in the store before it is sent, so a replica that is killed in between sends the same file
under the same name again, which changes nothing. Two replicas never write the same name.
"""

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from io import BytesIO

import pyarrow.parquet as pq

from alchemist_hub.errors import PublishError
from alchemist_hub.voting.store import VoteStore

EVERY = 300.0  # seconds between two looks at the store
LONGEST_WAIT = 3600.0
SENT, SENDING = "sent", "sending"  # notes: the last vote that is on the Hub; (first, last) of what is on its way
CARD = """---
license: apache-2.0
tags: [alchemist, human-preference, text-to-image]
configs:
- config_name: default
  data_files: data/*.parquet
---
# Votes

One row a vote from the app's Vote tab: two pictures of one prompt and seed, one by a base model, one by its tuned
sibling, which is which unknown to the voter. `left` says which side was left; the four aspects hold what was answered
(left, right, tie, both bad). `rater` is a salted hash of a random number kept in the voter's browser.
"""
log = logging.getLogger(__name__)

Append = Callable[[str, Mapping[str, bytes], str], object]  # (repository, path -> content, card)


class VoteSync:
    """Sends one store's votes to `repository`, in a thread of its own."""

    def __init__(self, store: VoteStore, repository: str, append: Append, *, every: float = EVERY) -> None:
        """`append` adds files to a data set without touching others; raises PublishError when it cannot."""
        self._store, self._repository, self._append, self._every = store, repository, append, every
        self._stopping = threading.Event()
        self._sending = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send what is there, now and then; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="vote sync", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and send what is left; a Hub that does not answer loses nothing, it is sent next time."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._try()

    def send(self) -> int:
        """Send every vote that has not been sent; return how many. Raises PublishError."""
        with self._sending:
            total = 0
            while batch := self._batch():
                first, last = batch
                rows = self._store.votes(after=first - 1, to=last)
                stream = BytesIO()
                pq.write_table(rows, stream)
                content = stream.getvalue()
                name = f"{self._store.replica}-{first:08d}-{hashlib.sha256(content).hexdigest()[:12]}"
                self._append(self._repository, {f"data/{name}.parquet": content}, CARD)
                self._store.note(SENT, str(last))
                total += rows.num_rows
            return total

    def _batch(self) -> tuple[int, int] | None:
        """Return first and last seq of what is to be sent next: what was on its way, else all that is new."""
        sent = int(self._store.note(SENT) or 0)
        first, last = json.loads(self._store.note(SENDING) or "[0, 0]")
        if last > sent:
            return first, last
        first, last = sent + 1, self._store.last()
        if last < first:
            return None
        self._store.note(SENDING, json.dumps([first, last]))
        return first, last

    def _work(self) -> None:
        wait = self._every
        while not self._stopping.wait(wait):
            wait = self._every if self._try() else min(2 * wait, LONGEST_WAIT)

    def _try(self) -> bool:
        try:
            self.send()
        except PublishError as error:
            log.warning("votes stay here for now: %s", error)
            return False
        return True


def configured_sync(store: VoteStore) -> VoteSync | None:
    """Return the way to the data set that ALCHEMIST_VOTES_REPO names, None without one. The token is the Hub's own."""
    repository = os.environ.get("ALCHEMIST_VOTES_REPO")
    if not repository:
        return None
    from alchemist_hub.publishing.hub import append_to_dataset

    return VoteSync(store, repository, append_to_dataset)
