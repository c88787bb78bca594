"""Votes on disk: counted once, there when acknowledged, safe from threads, processes, kills and broken files."""

import multiprocessing
import os
import random
import signal
import sqlite3
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ballot_box import RATER, SUBJECT, answers, dealt, voted

from alchemist_hub.errors import VoteError
from alchemist_hub.voting.records import SCHEMA, pseudonym
from alchemist_hub.voting.store import BALLOT_LIFE, FILE, VERSION, VoteStore, votes_folder

KILLS = 20
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path):
    opened = VoteStore(tmp_path)
    yield opened
    opened.close()


def test_a_vote_is_a_row_with_everything_that_made_it(store: VoteStore) -> None:
    before = time.time()
    receipt = voted(store, "left", "right", "tie", "both bad", left="base")
    assert (receipt.left, receipt.model, receipt.counted, receipt.mine) == ("base", "mini", True, 1)
    (row,) = store.votes().to_pylist()
    assert store.votes().schema == SCHEMA
    assert (row["relevance"], row["aesthetics"], row["complexity"], row["fidelity"]) == (
        "left", "right", "tie", "both bad",
    )  # fmt: skip
    assert {name: row[name] for name in vars(SUBJECT)} == vars(SUBJECT)
    assert (row["seq"], row["left"], row["replica"]) == (1, "base", store.replica)
    assert before <= row["time"] <= time.time()
    assert len(row["rater"]) == 16 and RATER not in str(row)


def test_the_same_vote_again_is_one_vote_with_the_same_receipt(store: VoteStore) -> None:
    ballot = dealt(store)
    first, again = (store.cast(ballot, answers("left"), RATER) for _ in range(2))
    assert (first.counted, again.counted) == (True, False)
    assert (first.left, first.mine) == (again.left, again.mine) == ("tuned", 1)
    assert store.count() == 1


@pytest.mark.parametrize(("choice", "rater"), [("right", RATER), ("left", "another-browser")])
def test_another_vote_on_the_same_ballot_is_refused(store: VoteStore, choice: str, rater: str) -> None:
    ballot = dealt(store)
    store.cast(ballot, answers("left"), RATER)
    with pytest.raises(VoteError, match="has been voted on already"):
        store.cast(ballot, answers(choice), rater)
    assert store.votes()["relevance"].to_pylist() == ["left"]


def test_ballots_expire_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    now = [time.time()]
    store = VoteStore(tmp_path, clock=lambda: now[0])
    ballot = dealt(store)
    now[0] += BALLOT_LIFE + 1
    for name in (ballot, "never-dealt"):
        with pytest.raises(VoteError, match="unknown or has expired: ask for a new one"):
            store.cast(name, answers("left"), RATER)
    assert store.count() == 0


def test_the_salt_makes_pseudonyms_of_two_stores_differ(tmp_path: Path) -> None:
    raters = []
    for name in ("one", "two"):
        store = VoteStore(tmp_path / name)
        voted(store, "left")
        raters += store.votes()["rater"].to_pylist()
    assert raters[0] != raters[1]
    assert pseudonym(RATER, b"salt") == pseudonym(RATER, b"salt") != pseudonym(RATER, b"pepper")


def test_a_store_opened_again_goes_on(tmp_path: Path) -> None:
    first = VoteStore(tmp_path)
    voted(first, "left")
    ballot = dealt(first)  # still on a visitor's screen
    first.close()
    again = VoteStore(tmp_path)
    assert again.replica == first.replica
    assert again.cast(ballot, answers("right"), RATER).mine == 2
    assert again.last() == 2 and again.votes(after=1)["relevance"].to_pylist() == ["right"]


def test_threads_vote_on_the_same_ballots_and_each_counts_once(store: VoteStore) -> None:
    ballots, counted = [dealt(store) for _ in range(30)], []

    def work() -> None:
        for ballot in random.sample(ballots, len(ballots)):
            counted.append(store.cast(ballot, answers("left"), RATER).counted)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 240 and sum(counted) == 30 == store.count()


def vote_from_a_process(folder: Path, ballots: list[str], said: Connection) -> None:
    store = VoteStore(folder)
    said.send(sum(store.cast(ballot, answers("left"), RATER).counted for ballot in ballots))


def test_processes_open_one_store_at_once_and_count_each_ballot_once(tmp_path: Path) -> None:
    store = VoteStore(tmp_path)
    ballots = [dealt(store) for _ in range(20)]
    store.close()
    pipes, workers = [], []
    for _ in range(4):
        hears, says = FORK.Pipe(duplex=False)
        pipes.append(hears)
        workers.append(FORK.Process(target=vote_from_a_process, args=(tmp_path, ballots, says)))
        workers[-1].start()
    assert sum(pipe.recv() for pipe in pipes) == 20
    for worker in workers:
        worker.join()
    assert VoteStore(tmp_path).count() == 20


def vote_until_killed(folder: Path, said: int) -> None:
    store = VoteStore(folder)
    while True:
        ballot = dealt(store)
        store.cast(ballot, answers("left"), RATER)
        os.write(said, f"{ballot}\n".encode())


def test_every_acknowledged_vote_survives_twenty_kills(tmp_path: Path) -> None:
    VoteStore(tmp_path).close()
    acknowledged: list[str] = []
    for kill in range(KILLS):
        hears, says = os.pipe()
        voter = FORK.Process(target=vote_until_killed, args=(tmp_path, says))
        voter.start()
        os.close(says)
        first = os.read(hears, 33)  # it is at it
        time.sleep(random.Random(kill).uniform(0, 0.05))
        os.kill(voter.pid, signal.SIGKILL)
        voter.join()
        with os.fdopen(hears, "rb") as rest:
            acknowledged += (first + rest.read()).decode().split()
    kept = VoteStore(tmp_path).votes()["id"].to_pylist()
    assert len(acknowledged) >= KILLS
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept)) <= len(acknowledged) + KILLS  # a vote may be kept before it could be told


def test_export_holds_all_votes_but_no_raters(store: VoteStore, tmp_path: Path) -> None:
    voted(store, "left")
    voted(store, "tie")
    table = pq.read_table(store.export(tmp_path / "votes.parquet"))
    assert table.num_rows == 2 and "rater" not in table.column_names
    assert table["relevance"].to_pylist() == ["left", "tie"]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("content", [b"not a data base" * 100, None])
def test_a_file_that_is_broken_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    store = VoteStore(tmp_path)
    for _ in range(200):
        voted(store, "left")
    store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(content or whole[:8192] + b"\xff" * 4096 + whole[12288:])
    with pytest.raises(VoteError, match=r"^votes cannot be kept in [^\n]+; move the file away or [^\n]+$"):
        VoteStore(tmp_path)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    VoteStore(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(VoteError, match="written by a newer version"):
        VoteStore(tmp_path)


def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VoteError, match=r"votes cannot be kept in [^\n]+: [^\n]+$"):
        VoteStore(tmp_path / "file" / "votes")


def test_where_votes_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ALCHEMIST_VOTES", raising=False)
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert votes_folder() == tmp_path / "alchemist-hub" / "votes"
    monkeypatch.setenv("ALCHEMIST_VOTES", str(tmp_path / "mine"))
    assert votes_folder() == tmp_path / "mine"
