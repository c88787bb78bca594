"""A web server on loopback that answers as its test says: one function a path, the real protocol, real sockets."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Where it listens, and how often each path was asked for."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.asked: Counter[str] = Counter()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.asked[self.path] += 1
                answer = answers.get(self.path)
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

            def log_message(self, *arguments: object) -> None:
                """Keep quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.host = f"127.0.0.1:{self._http.server_port}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def serving(answers: dict[str, Answer]) -> Iterator[Server]:
    with Server(answers) as server:
        yield server


def body(data: bytes, *, status: int = 200, headers: dict[str, str] | None = None, length: int | None = None) -> Answer:
    """Answer with `data`; `length` is what it claims to be long."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(data) if length is None else length))
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(data)
        request.close_connection = True

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    """Answer that it is somewhere else."""
    return body(b"", status=status, headers={"Location": location})


def forever(request: BaseHTTPRequestHandler) -> None:
    """Send without end, as fast as it is read."""
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    try:
        while True:
            request.wfile.write(b"x" * 65536)
    except OSError:
        request.close_connection = True


def drip(request: BaseHTTPRequestHandler) -> None:
    """Send a byte now and then, so that no single read ever times out."""
    request.send_response(200)
    request.send_header("Connection", "close")
    request.end_headers()
    pause = threading.Event()
    try:
        while not pause.wait(0.05):
            request.wfile.write(b"x")
            request.wfile.flush()
    except OSError:
        request.close_connection = True
