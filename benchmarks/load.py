"""Many visitors at once, and a server that is killed while they vote: is every acknowledged vote there, once?

    python benchmarks/load.py                    # two minutes, 100 clients, 20 kills; writes load-DATE.{json,md}

The server is the miniature's app in a process of its own. Its ballots are about a short list, painted in few steps, so
that they cost no painting once it is warm. Clients are `gradio_client`s: they vote (one in ten asks twice), compare
with two steps, and cancel comparisons of fifty steps after a second.
"""

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gradio_client import Client
from gradio_client.exceptions import AppError

from alchemist_hub.voting.records import ASPECTS, CHOICES
from alchemist_hub.voting.store import VoteStore

HAND = 3  # ballots that a client of the kills holds: it goes on with them when the server is there again
WAITING = 120.0  # seconds that a client waits for an answer
PAIRS, STEPS, SETTLED = 16, 4, 30  # pairs that are voted on; their steps; ballots without a new pair: it is warm
SERVER = f"""
import dataclasses
from alchemist_hub.ui.booth import painter, weights_of
from alchemist_hub.ui.demo import launch
from alchemist_hub.ui.services import default_services
from alchemist_hub.voting.ballots import Booth
from alchemist_hub.voting.stock import Listed, Stock
services = default_services()
loader, store = services.pairs["mini"], services.votes.store
listed = Listed(model="mini", prompts=["a photo of mars"], seeds=range({PAIRS}), steps={STEPS}, guidance=3.5)
stock = Stock(listed, painter(loader, listed), weights_of(loader), store.path.parent / "pictures")
launch(dataclasses.replace(services, votes=Booth(store, dict(mini=stock))))
"""


class Server:
    """The app in a process of its own."""

    def __init__(self, votes: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.votes, self.url = votes, f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        own = {
            "PYTHONPATH": str(ROOT),
            "ALCHEMIST_VOTES": str(self.votes),
            "ALCHEMIST_CACHE": str(self.votes.parent / "cache"),
            "GRADIO_SERVER_PORT": str(self.port),
            "OMP_NUM_THREADS": "1",  # for torch: the clients need the other core
        }
        log = (self.votes.parent / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], env=os.environ | own | {"HF_HUB_OFFLINE": "1"}, stdout=log, stderr=log
        )
        self.seen = psutil.Process(self.process.pid)
        while not self.answers():
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: {(self.votes.parent / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}config", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def megabytes(self) -> float:
        return self.seen.memory_info().rss / 2**20

    def cpu_share(self, seconds: float) -> float:
        """Return the cores in use, averaged over `seconds`."""
        before = sum(self.seen.cpu_times()[:2])
        time.sleep(seconds)
        return (sum(self.seen.cpu_times()[:2]) - before) / seconds


class Record:
    """What happened, from all clients."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.seconds: dict[str, list[float]] = {"vote": [], "ballot": [], "compare": []}
        self.acknowledged: list[str] = []
        self._lock = threading.Lock()

    def add(self, what: str, seconds: float | None = None, vote: str | None = None) -> None:
        with self._lock:
            self.counts[what] += 1
            if seconds is not None:
                self.seconds[what].append(seconds)
            if vote is not None:
                self.acknowledged.append(vote)

    def fail(self, what: str, error: Exception) -> None:
        with self._lock:
            self.errors[f"{what}: {type(error).__name__}: {str(error)[:160]}"] += 1


def connected(url: str) -> Client:
    """Open a client that waits as long as a busy server needs."""
    return Client(url, verbose=False, download_files=False, httpx_kwargs={"timeout": WAITING})


def visit(number: int, client: Client, until: float, record: Record) -> None:
    """Be one client until the time is over."""
    rng, rater = random.Random(number), f"load-client-{number:04d}"
    while time.monotonic() < until:
        draw = rng.random()
        what = "vote" if draw < 0.8 else "compare" if draw < 0.95 else "leave"
        try:
            {"vote": vote, "compare": compare, "leave": leave}[what](client, rng, rater, record)
        except Exception as error:  # whatever it is, it is counted and shown
            record.fail(what, error)
        time.sleep(rng.uniform(0.2, 1.0))


def vote(client: Client, rng: random.Random, rater: str, record: Record) -> None:
    """Ask for a ballot and vote on it; one in ten asks twice, and is told that it counted once."""
    start = time.monotonic()
    ballot = client.predict(api_name="/ballot")[0]
    record.add("ballot", time.monotonic() - start)
    choices, start = [rng.choice(CHOICES) for _ in ASPECTS], time.monotonic()
    told = client.predict(ballot, rater, *choices, api_name="/vote")
    record.add("vote", time.monotonic() - start, ballot)
    assert told["counted"], "a new vote was said to be there already"
    if rng.random() < 0.1:
        assert not client.predict(ballot, rater, *choices, api_name="/vote")["counted"], "a vote counted twice"
        record.add("asked twice")


def compare(client: Client, rng: random.Random, rater: str, record: Record) -> None:
    """Compare with two steps."""
    start = time.monotonic()
    client.predict(prompt="a photo of mars", seed=rng.randrange(10_000), steps=2, api_name="/compare")
    record.add("compare", time.monotonic() - start)


def leave(client: Client, rng: random.Random, rater: str, record: Record) -> None:
    """Ask for fifty steps and cancel after a second, as the page's button does."""
    index = next(number for number, end in client.endpoints.items() if end.api_name == "/compare")
    session = uuid.uuid4().hex
    data = ["a photo of saturn", "", rng.randrange(10_000), 50, 3.5, "mini"]
    api = f"{client.src}gradio_api"
    asked = {"data": data, "fn_index": index, "session_hash": session}
    event = httpx.post(f"{api}/queue/join", json=asked, timeout=WAITING).raise_for_status().json()["event_id"]
    with httpx.stream("GET", f"{api}/queue/data", params={"session_hash": session}, timeout=WAITING) as stream:
        for _ in stream.iter_lines():
            break
        time.sleep(1)
        given = {"session_hash": session, "fn_index": index, "event_id": event}
        httpx.post(f"{api}/cancel", json=given, timeout=WAITING).raise_for_status()
    record.add("left")


def load(server: Server, *, clients: int, seconds: float) -> dict[str, Any]:
    """Run the clients; return what they met and what the server used."""
    record, memory = Record(), [server.megabytes()]
    with ThreadPoolExecutor(clients) as pool:
        opened = list(pool.map(connected, [server.url] * clients))
        say("all clients are connected")
        until = time.monotonic() + seconds
        visits = [pool.submit(visit, number, client, until, record) for number, client in enumerate(opened)]
        while not all(one.done() for one in visits):
            time.sleep(2)
            memory.append(server.megabytes())
    for one in visits:
        one.result()
    time.sleep(10)
    return {
        "counts": dict(record.counts),
        "errors": dict(record.errors),
        "median_seconds": {what: round(float(np.median(took)), 2) for what, took in record.seconds.items() if took},
        "slowest_seconds": {what: round(max(took), 2) for what, took in record.seconds.items() if took},
        "server_megabytes": {
            "before": round(memory[0]),
            "after_half": round(memory[len(memory) // 2]),
            "most": round(max(memory)),
            "end": round(memory[-1]),
        },
        "server_cores_10_s_after": round(server.cpu_share(5), 3),
        **kept(server.votes, record.acknowledged),
    }


def kept(folder: Path, acknowledged: list[str]) -> dict[str, int]:
    """Hold the store against what clients were told."""
    store = VoteStore(folder)
    found = store.votes()["id"].to_pylist()
    store.close()
    return {
        "acknowledged": len(acknowledged),
        "kept": len(found),
        "lost": len(set(acknowledged) - set(found)),
        "doubled": len(found) - len(set(found)),
    }


def kills(server: Server, *, times: int, clients: int = 8) -> dict[str, Any]:
    """Kill the server while clients vote, start it again, and count; what was not acknowledged is asked again."""
    record, stop, before_all = Record(), threading.Event(), kept(server.votes, [])["kept"]
    with ThreadPoolExecutor(clients) as pool:
        voters = [pool.submit(vote_on, number, server, stop, record) for number in range(clients)]
        for number in range(times):
            before = len(record.acknowledged)
            while len(record.acknowledged) < before + 3:
                time.sleep(0.01)
            time.sleep(random.Random(number).uniform(0, 0.2))
            server.kill()
            server.start()
            say(f"killed {number + 1} times, {len(record.acknowledged)} votes acknowledged")
        stop.set()
    for voter in voters:
        voter.result()
    found = kept(server.votes, record.acknowledged)
    found["kept"] -= before_all
    return {"kills": times, "asked_again": record.counts["again"], **found}


def vote_on(number: int, server: Server, stop: threading.Event, record: Record) -> None:
    """Vote until told to stop, on ballots in hand; a vote whose answer was lost is asked again until it is there."""
    rng, rater, client, hand = random.Random(number), f"kill-client-{number:04d}", None, []
    while hand or not stop.is_set():
        try:
            client = client or connected(server.url)
            while len(hand) < HAND and not stop.is_set():
                hand.append((client.predict(api_name="/ballot")[0], [rng.choice(CHOICES) for _ in ASPECTS]))
            client.predict(hand[0][0], rater, *hand[0][1], api_name="/vote")
            record.add("vote", vote=hand.pop(0)[0])
        except Exception:  # the server is gone: that is the point
            record.add("again")
            client = None
            time.sleep(0.2)


def warm(server: Server) -> None:
    """Let every pair be painted once, so that the load finds a server as it is after a while."""
    client = connected(server.url)
    painted, settled = 0, 0
    while settled < SETTLED:
        with contextlib.suppress(AppError):  # none is painted yet
            client.predict(api_name="/ballot")
            found = len(list((server.votes / "pictures").glob("*.png")))
            painted, settled = found, settled + 1 if found == painted else 0


def written(result: dict[str, Any], stem: Path) -> None:
    """Write the result as JSON and as a page."""
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    load, killed, setting = result["load"], result["kills"], result["setting"]
    count = load["counts"]
    lines = [
        f"# Load, {result['date']}",
        "",
        f"{setting['clients']} `gradio_client`s for {setting['seconds']:g} s against the served miniature, on "
        f"{setting['cores']} cores that other work shared (load average {setting['load_average']}), clients included.",
        "",
        "| what | measured | asked |",
        "|---|---|---|",
        f"| errors | {sum(load['errors'].values())} | 0 |",
        f"| votes acknowledged, lost, doubled | {load['acknowledged']}, {load['lost']}, {load['doubled']} | "
        "0 lost, 0 doubled |",
        f"| asked twice, counted once | {count.get('asked twice', 0)} | all |",
        f"| comparisons of two steps | {count.get('compare', 0)} | |",
        f"| comparisons of fifty steps, cancelled after a second | {count.get('left', 0)} | |",
        *(
            f"| a {what}, median and slowest | {load['median_seconds'].get(what)} s, "
            f"{load['slowest_seconds'].get(what)} s | |"
            for what in ("vote", "ballot")
        ),
        "| server memory before, half-way, most, end | "
        f"{', '.join(map(str, load['server_megabytes'].values()))} MiB | bounded |",
        f"| cores in use 10 s after the last client | {load['server_cores_10_s_after']} | about 0 |",
        f"| SIGKILLs in mid-vote | {killed['kills']} | 20 |",
        f"| ... votes acknowledged, lost, doubled | {killed['acknowledged']}, {killed['lost']}, {killed['doubled']} | "
        "0 lost, 0 doubled |",
        f"| ... attempts that met no server, or no answer | {killed['asked_again']} | |",
        "",
    ]
    if load["errors"]:
        lines += ["Errors:", "", *(f"- {number} times {error}" for error, number in load["errors"].items()), ""]
    stem.with_suffix(".md").write_text("\n".join(lines))


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "votes")
        try:
            say("the server answers")
            warm(server)
            say("it is warm")
            loaded = load(server, clients=given.clients, seconds=given.seconds)
            busy = round(os.getloadavg()[0], 1)
            say(f"load: {json.dumps(loaded)}")
            killed = kills(server, times=given.kills)
        finally:
            server.kill()
    setting = {"clients": given.clients, "seconds": given.seconds, "cores": os.cpu_count(), "load_average": busy}
    today = date.today().isoformat()
    result = {"date": today, "setting": setting, "load": loaded, "kills": killed}
    written(result, given.out / f"load-{today}")
    print((given.out / f"load-{today}.md").read_text())


if __name__ == "__main__":
    main()
