"""Votes on their way to the Hub, over real HTTP: none twice, none lost, two replicas side by side, killed ones too."""

import functools
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import hub_server
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ballot_box import voted
from hub_server import Hub as Server
from hub_server.faults import COMMIT
from huggingface_hub import HfApi

from alchemist_hub.errors import PublishError
from alchemist_hub.publishing.hub import Hub
from alchemist_hub.voting.store import VoteStore
from alchemist_hub.voting.sync import VoteSync, configured_sync

NAME = "alchemists/votes"
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server.serving(tmp_path / "hub") as running:
        yield running


def hub(server: Server) -> Hub:
    api = HfApi(endpoint=server.url, token="hf_tiny")
    return Hub("alchemists", api=api, say=lambda line: None, sleep=lambda seconds: None)


def way(store: VoteStore, server: Server, **options: float) -> VoteSync:
    return VoteSync(store, NAME, functools.partial(Hub.append, hub(server)), **options)


def files(server: Server) -> dict[str, bytes]:
    return {path: data for path, data in server.files(NAME, kind="datasets").items() if path.startswith("data/")}


def arrived(server: Server) -> list[str]:
    """The ids of all votes in the data set."""
    tables = [pq.read_table(BytesIO(data)) for data in files(server).values()]
    return pa.concat_tables(tables)["id"].to_pylist() if tables else []


def ids(*stores: VoteStore) -> list[str]:
    return sorted(name for store in stores for name in store.votes()["id"].to_pylist())


def test_votes_arrive_once_and_files_are_only_added(server: Server, tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes")
    sync = way(store, server)
    before: dict[str, bytes] = {}
    for new in (3, 2):
        for _ in range(new):
            voted(store, "left")
        assert sync.send() == new
        assert before.items() < files(server).items()
        before = files(server)
    assert sync.send() == 0
    assert sorted(arrived(server)) == ids(store)
    assert all(path.startswith(f"data/{store.replica}-") for path in before)
    card = server.files(NAME, kind="datasets")["README.md"].decode()
    assert "data_files: data/*.parquet" in card


def test_two_replicas_share_a_data_set(server: Server, tmp_path: Path) -> None:
    stores = [VoteStore(tmp_path / name) for name in ("one", "two")]
    for round_ in range(3):
        for store in stores:
            for _ in range(round_ + 1):
                voted(store, "right")
            way(store, server).send()
    assert sorted(arrived(server)) == ids(*stores)
    assert len(files(server)) == 6


def test_a_copy_of_a_store_overwrites_nothing(server: Server, tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "one")
    store.close()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / store.path.name).write_bytes(store.path.read_bytes())
    twins = [VoteStore(tmp_path / name) for name in ("one", "two")]
    assert twins[0].replica == twins[1].replica
    for twin in twins:
        voted(twin, "tie")
        way(twin, server).send()
    assert sorted(arrived(server)) == ids(*twins)


@pytest.mark.parametrize("fault", [hub_server.refused(503, on=COMMIT, times=2), hub_server.dropped(after=1, on=COMMIT)])
def test_a_hub_that_stumbles_gets_every_vote_once(server: Server, tmp_path: Path, fault: hub_server.Fault) -> None:
    store = VoteStore(tmp_path / "votes")
    voted(store, "left")
    server.fail(fault)
    assert way(store, server).send() == 1
    assert arrived(server) == ids(store)


def test_what_the_hub_refuses_stays_and_goes_next_time(server: Server, tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes")
    voted(store, "left")
    server.fail(hub_server.refused(500, on=COMMIT, times=100))
    with pytest.raises(PublishError, match=r"^adding to alchemists/votes: the Hub answers 500[^\n]*$"):
        way(store, server).send()
    voted(store, "right")
    server.recover()
    assert way(store, server).send() == 2
    assert sorted(arrived(server)) == ids(store)


def test_a_path_that_holds_something_else_is_never_overwritten(server: Server) -> None:
    hub(server).append(NAME, {"data/a.parquet": b"one"}, "card")
    assert hub(server).append(NAME, {"data/a.parquet": b"one"}, "card")
    with pytest.raises(PublishError, match="holds another data/a.parquet: votes are only ever added"):
        hub(server).append(NAME, {"data/a.parquet": b"two"}, "card")
    assert files(server) == {"data/a.parquet": b"one"}


def vote_and_send(folder: Path, url: str, said: int) -> None:
    store = VoteStore(folder)
    api = HfApi(endpoint=url, token="hf_tiny")
    session = Hub("alchemists", api=api, say=lambda line: None)
    sync = VoteSync(store, NAME, session.append)
    while True:
        voted(store, "left")
        os.write(said, b".")
        sync.send()


def test_a_replica_killed_while_it_sends_loses_and_doubles_nothing(server: Server, tmp_path: Path) -> None:
    other = VoteStore(tmp_path / "other")
    for kill in range(6):
        hears, says = os.pipe()
        replica = FORK.Process(target=vote_and_send, args=(tmp_path / "killed", server.url, says))
        replica.start()
        os.close(says)
        assert os.read(hears, 1) == b"."
        time.sleep(0.03 * kill)
        os.kill(replica.pid, signal.SIGKILL)
        replica.join()
        os.close(hears)
        voted(other, "right")
        way(other, server).send()
    killed = VoteStore(tmp_path / "killed")
    way(killed, server).send()
    assert sorted(arrived(server)) == ids(killed, other)
    assert killed.count() >= 6


def test_the_thread_sends_now_and_then_and_once_more_at_the_end(server: Server, tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes")
    sync = way(store, server, every=0.05)
    voted(store, "left")
    sync.start()
    end = time.monotonic() + 20
    while not store.note("sent"):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert arrived(server) == ids(store)
    slow = way(store, server, every=3600)
    slow.start()
    voted(store, "tie")
    sync.stop()
    slow.stop()
    assert sorted(arrived(server)) == ids(store)
    assert json.loads(store.note("sending"))[1] == 2


def test_a_dead_hub_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    store = VoteStore(tmp_path)
    voted(store, "left")
    nowhere = Hub("a", api=HfApi(endpoint="http://127.0.0.1:9", token="t"), say=len, sleep=lambda seconds: None)
    VoteSync(store, NAME, nowhere.append).stop()
    assert "votes stay here for now: making alchemists/votes: the Hub cannot be reached" in caplog.text


def test_it_is_configured_by_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = VoteStore(tmp_path)
    monkeypatch.delenv("ALCHEMIST_VOTES_REPO", raising=False)
    assert configured_sync(store) is None
    monkeypatch.setenv("ALCHEMIST_VOTES_REPO", NAME)
    assert isinstance(configured_sync(store), VoteSync)
