"""Where votes are kept: one SQLite file in WAL mode, every vote on the disk before anybody is told that it counts.

A vote is known by its ballot, so a doubled click or a repeated request is one vote. Ballots lie in the same file: a
server that was killed goes on with those that visitors still have on their screens.
"""

import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from alchemist_hub import __version__
from alchemist_hub.errors import VoteError
from alchemist_hub.voting.records import ASPECTS, SCHEMA, Ballot, Subject, pseudonym

FILE = "votes.sqlite"
VERSION = 1  # of the tables below
PATIENCE = 30.0  # seconds that a writer waits for another one
BALLOT_LIFE = 3600.0  # seconds until a ballot expires
_KINDS = {pa.string(): "TEXT", pa.int64(): "INTEGER", pa.int32(): "INTEGER", pa.float64(): "REAL"}
_COLUMNS = [field.name for field in SCHEMA if field.name != "seq"]


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The acknowledgement of a vote that is on the disk."""

    left: str  # the side that was left: may be told now
    model: str
    counted: bool  # False: this very vote was there already
    mine: int  # votes of this rater


class VoteStore:
    """The votes of one replica. Safe for any number of threads and processes."""

    def __init__(self, folder: str | Path, *, clock: Callable[[], float] = time.time) -> None:
        """Open the store in `folder`, making it where there is none. Raises VoteError, in one line."""
        self.path, self._clock, self._lock = Path(folder) / FILE, clock, threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            self._check()
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise VoteError(
                f"votes cannot be kept in {self.path}: {reason}; move the file away or set ALCHEMIST_VOTES to a folder"
            ) from error
        self.replica, self._salt = self.note("replica"), bytes.fromhex(self.note("salt"))

    def close(self) -> None:
        """Close the file; what was acknowledged is in it."""
        with self._lock:
            self._connection.close()

    def deal(self, ballot: Ballot) -> None:
        """Keep a ballot until it expires; those that have are forgotten."""
        with self._writing() as cursor:
            cursor.execute("DELETE FROM ballot WHERE dealt < ?", (ballot.dealt - BALLOT_LIFE,))
            subject = json.dumps(asdict(ballot.subject))
            cursor.execute("INSERT INTO ballot VALUES (?, ?, ?, ?)", (ballot.id, subject, ballot.left, ballot.dealt))

    def cast(self, ballot: str, answers: dict[str, str], rater: str) -> Receipt:
        """Count a vote, once, and return when it is on the disk. `answers` and names are checked already.

        Raises VoteError for a ballot that is unknown, expired, or voted on differently.
        """
        rater = pseudonym(rater, self._salt)
        with self._writing() as cursor:
            known = cursor.execute("SELECT * FROM vote WHERE id = ?", (ballot,)).fetchone()
            if known is not None:
                if known["rater"] != rater or any(known[aspect] != answers[aspect] for aspect in ASPECTS):
                    raise VoteError("this ballot has been voted on already: ask for a new one")
                return self._receipt(cursor, known, counted=False)
            row = self._row(self._open_ballot(cursor, ballot), answers, rater)
            marks = ", ".join("?" * len(_COLUMNS))
            cursor.execute(
                f"INSERT INTO vote ({', '.join(_COLUMNS)}) VALUES ({marks})", [row[name] for name in _COLUMNS]
            )
            cursor.execute("DELETE FROM ballot WHERE id = ?", (ballot,))
            return self._receipt(cursor, row, counted=True)

    def count(self, rater: str | None = None) -> int:
        """Return how many votes there are, of one rater if given."""
        with self._reading() as cursor:
            if rater is None:
                return cursor.execute("SELECT count(*) FROM vote").fetchone()[0]
            return _count_of(cursor, pseudonym(rater, self._salt))

    def votes(self, *, after: int = 0, to: int | None = None) -> pa.Table:
        """Return the votes with `after` < seq <= `to`, oldest first, in `records.SCHEMA`."""
        with self._reading() as cursor:
            rows = cursor.execute(
                f"SELECT {', '.join(SCHEMA.names)} FROM vote WHERE seq > ? AND seq <= ? ORDER BY seq",
                (after, to if to is not None else 2**62),
            ).fetchall()
        return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)

    def last(self) -> int:
        """Return the highest seq that is on the disk; 0 without votes."""
        with self._reading() as cursor:
            return cursor.execute("SELECT coalesce(max(seq), 0) FROM vote").fetchone()[0]

    def export(self, path: str | Path) -> Path:
        """Write all votes, without raters, to a parquet file that is there whole or not at all."""
        path = Path(path)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        pq.write_table(self.votes().drop_columns(["rater"]), part)
        os.replace(part, path)
        return path

    def note(self, name: str, value: str | None = None) -> str:
        """Return what was noted under `name`, "" if nothing was; `value`, if given, is noted first."""
        if value is not None:
            with self._writing() as cursor:
                cursor.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))
        with self._reading() as cursor:
            found = cursor.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return found[0] if found else ""

    def _check(self) -> None:
        """Raise sqlite3.Error or VoteError unless this is a sound file of ours; reads only."""
        found = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"the file is damaged ({' '.join(found.split())})")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise sqlite3.DatabaseError(f"it was written by a newer version (tables {version}, known here {VERSION})")

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._writing() as cursor:
            if cursor.execute("PRAGMA user_version").fetchone()[0] == VERSION:
                return
            columns = ", ".join(
                f"{field.name} {_KINDS[field.type]} NOT NULL" for field in SCHEMA if field.name != "seq"
            )
            cursor.execute(f"CREATE TABLE vote (seq INTEGER PRIMARY KEY AUTOINCREMENT, {columns}, UNIQUE (id))")
            cursor.execute("CREATE INDEX vote_rater ON vote (rater)")
            cursor.execute("CREATE TABLE ballot (id TEXT PRIMARY KEY, subject TEXT, left TEXT, dealt REAL)")
            cursor.execute("CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            names = [("replica", secrets.token_hex(6)), ("salt", secrets.token_hex(32))]
            cursor.executemany("INSERT INTO note VALUES (?, ?)", names)
            cursor.execute(f"PRAGMA user_version = {VERSION}")

    def _open_ballot(self, cursor: sqlite3.Cursor, name: str) -> Ballot:
        found = cursor.execute("SELECT * FROM ballot WHERE id = ?", (name,)).fetchone()
        if found is None or found["dealt"] < self._clock() - BALLOT_LIFE:
            raise VoteError("this ballot is unknown or has expired: ask for a new one")
        return Ballot(
            id=name, subject=Subject(**json.loads(found["subject"])), left=found["left"], dealt=found["dealt"]
        )

    def _row(self, ballot: Ballot, answers: dict[str, str], rater: str) -> dict[str, str | int | float]:
        fixed = {"id": ballot.id, "left": ballot.left, "time": self._clock(), "version": __version__}
        return {**asdict(ballot.subject), **fixed, **answers, "rater": rater, "replica": self.replica}

    def _receipt(self, cursor: sqlite3.Cursor, row: dict | sqlite3.Row, *, counted: bool) -> Receipt:
        return Receipt(left=row["left"], model=row["model"], counted=counted, mine=_count_of(cursor, row["rater"]))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Cursor]:
        with self._lock, _told():
            yield self._connection.cursor()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Cursor]:
        """One transaction: all of it is on the disk when the block is left, or none of it."""
        with self._lock, _told():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection.cursor()
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")


@contextmanager
def _told() -> Iterator[None]:
    """Turn what the disk refuses into one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise VoteError(f"the votes cannot be reached ({error}): nothing was counted, try again") from error


def _count_of(cursor: sqlite3.Cursor, rater: str) -> int:
    return cursor.execute("SELECT count(*) FROM vote WHERE rater = ?", (rater,)).fetchone()[0]


def votes_folder() -> Path:
    """Return where this machine keeps votes: ALCHEMIST_VOTES, a Space's persistent disk, or the user's data folder."""
    if named := os.environ.get("ALCHEMIST_VOTES"):
        return Path(named)
    if os.environ.get("SPACE_ID") and os.access("/data", os.W_OK):
        return Path("/data/votes")
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "alchemist-hub" / "votes"
