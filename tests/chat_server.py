"""A chat-completions server on loopback that answers as its test says: the real protocol, real sockets."""

import base64
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from curation.images import decode
from tests.hostile_server import Answer, body

TRIAL = 128  # the gray of the square that an endpoint is tried with


def says(text: str | None, *, end: str = "stop", **message: Any) -> Answer:
    """Answer with a chat completion."""
    told = {"choices": [{"message": {"role": "assistant", "content": text, **message}, "finish_reason": end}]}
    return body(json.dumps(told).encode())


class ChatServer:
    """Answers trials with "gray", pictures as `answer(number of the picture's request)` says; remembers everything."""

    def __init__(self, answer: Callable[[int], Answer], *, port: int = 0) -> None:
        self.questions: list[dict[str, Any]] = []  # about pictures, not trials
        self.headers: list[dict[str, str]] = []
        self.trials = self.most_at_once = 0
        self.trial_answer: Answer = says("gray")
        self._at_once, self._lock = 0, threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server._begin(question, dict(self.headers))(answer, self)
                with server._lock:
                    server._at_once -= 1

            def log_message(self, *arguments: object) -> None:
                """Keep quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def _begin(self, question: dict[str, Any], headers: dict[str, str]) -> Callable[..., None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.headers.append(headers)
            if bool((picture(question) == TRIAL).all()):
                self.trials += 1
                return lambda _, handler: self.trial_answer(handler)
            self.questions.append(question)
            number = len(self.questions)
        return lambda answer, handler: answer(number)(handler)

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def picture(question: dict[str, Any]) -> np.ndarray:
    """Return the picture of a question, uint8 (H, W, 3)."""
    (url,) = [part["image_url"]["url"] for part in question["messages"][0]["content"] if part["type"] == "image_url"]
    head, _, data = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return decode(base64.b64decode(data))
