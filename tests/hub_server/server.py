"""The server: sockets, bodies as they arrive, faults, and the context that tests use."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from hub_server import api, collection_routes, commits, files  # noqa: F401 - they enter their routes
from hub_server.answers import Answer, Refusal, Request
from hub_server.faults import Fault
from hub_server.routes import HubState

PIECE = 1 << 16  # bytes


class Dropped(Exception):
    """The connection ends here, on purpose."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: "Hub"

    def do(self) -> None:
        self.fault = self.hub.state.faults.take(f"{self.command} {self.path}")
        self.hub.note(self.command, self.path)
        self.taken = self._taken()
        try:
            answer = self._answer()
            for _ in self.taken:  # what nobody read would be the next request
                pass
            self._send(answer)
        except (Dropped, ConnectionError):
            self.close_connection = True
            with suppress(OSError):  # it is gone already
                self.connection.shutdown(socket.SHUT_RDWR)  # both directions: the client may still be writing

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""

    def _answer(self) -> Answer:
        parts = urlsplit(self.path)
        try:
            if self.fault.status is not None:
                refusal = Refusal(self.fault.status, self.fault.message)
                if self.fault.retry_after is not None:
                    refusal.answer.headers["Retry-After"] = str(self.fault.retry_after)
                raise refusal
            user = self.hub.state.user_of(self.headers.get("Authorization", ""))
            request = Request(
                method=self.command,
                path=parts.path,
                query=parse_qs(parts.query),
                headers=self.headers,
                user=user,
                pieces=lambda: self.taken,
            )
            return self.hub.state.answer(request)
        except Refusal as refusal:
            return refusal.answer

    def _taken(self) -> Iterator[bytes]:
        """Yield the body as it arrives, at most once."""
        left = self.fault.drop_after
        for piece in self._arriving():
            time.sleep(self.fault.delay)
            if left is not None and len(piece) >= left:
                yield piece[:left]
                raise Dropped
            left = None if left is None else left - len(piece)
            yield piece

    def _arriving(self) -> Iterator[bytes]:
        """Yield the body, sent whole or in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield from self._exactly(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield from self._exactly(int(self.headers.get("Content-Length") or 0))

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self.rfile.read1(min(PIECE, size))
            if not piece:
                raise ConnectionError("the client went away")
            size -= len(piece)
            yield piece

    def _send(self, answer: Answer) -> None:
        headers = {"X-Request-Id": "test"} | answer.headers
        if isinstance(answer.body, bytes):
            headers.setdefault("Content-Length", str(len(answer.body)))
        self.send_response(answer.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            for piece in [answer.body] if isinstance(answer.body, bytes) else answer.body:
                time.sleep(self.fault.delay)
                self.wfile.write(piece)


class Hub:
    """A running server, as a test sees it."""

    def __init__(self, folder: Path, *, token: str, organisations: tuple[str, ...]) -> None:
        self.folder = folder
        self.state = HubState(folder=folder / "server", token=token, organisations=organisations)
        self.requests: Counter[str] = Counter()  # by "METHOD /path"
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self._http.daemon_threads = True
        self.url = self.state.url = f"http://127.0.0.1:{self._http.server_port}"
        self.state.other_url = f"http://localhost:{self._http.server_port}"

    def note(self, method: str, path: str) -> None:
        with self.state.lock:
            self.requests[f"{method} {urlsplit(path).path}"] += 1

    @property
    def received_bytes(self) -> int:
        """How many bytes of file contents have arrived: through LFS, through Xet (compressed), inside commits."""
        return self.state.received_bytes

    def fail(self, fault: Fault) -> None:
        """Let this happen to the requests that it is meant for."""
        self.state.faults.add(fault)

    def recover(self) -> None:
        """Let nothing go wrong any more."""
        self.state.faults.clear()

    def gate(self, name: str, *, kind: str = "models") -> None:
        """Put a repository's files behind an agreement that nobody here has accepted."""
        self.state.store.repository(kind, name).set(gated="manual")

    def files(self, name: str, *, kind: str = "models", revision: str = "main") -> dict[str, bytes]:
        """Return what a repository holds: path -> content."""
        blobs, commit = self.state.store.blobs, self.state.store.repository(kind, name).commit(revision)
        return {path: blobs.path(file.sha256).read_bytes() for path, file in commit.files.items()}

    def environment(self, *, xet: bool = True, token: str | None = None) -> dict[str, str]:
        """Return what a client process needs to talk to this Hub alone, with a cache of its own below the folder."""
        home = self.folder / "client"
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.state.token if token is None else token,
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "0" if xet else "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }


@contextmanager
def serving(folder: Path, *, token: str = "hf_tiny", organisations: tuple[str, ...] = ("alchemists",)) -> Iterator[Hub]:
    """Serve the repositories below `folder`/server, new or from an earlier time."""
    hub = Hub(folder, token=token, organisations=organisations)
    threading.Thread(target=hub._http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        hub._http.shutdown()
        hub._http.server_close()
