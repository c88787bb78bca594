"""What the server is asked, and what it says: a request with its user and body, an answer, a refusal."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request. `path` is as it was sent, still quoted: `%2F` inside a ref is no separator."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    user: str | None  # who the token stands for
    pieces: Callable[[], Iterator[bytes]]  # the body, as it arrives

    def body(self) -> bytes:
        return b"".join(self.pieces())

    def json(self) -> Any:
        return json.loads(self.body() or b"{}")

    def form(self) -> dict[str, list[str]]:
        """Return the fields of a form."""
        return parse_qs(self.body().decode())

    def asked(self, name: str) -> bool:
        """Whether a query parameter is given and means yes."""
        return self.query.get(name, ["0"])[0].lower() in ("1", "true")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A status, headers, and a body: bytes, or pieces of a file with their total size in Content-Length."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""


class Refusal(Exception):
    """Say no the way the Hub does: a status, one line, a code in X-Error-Code."""

    def __init__(self, status: int, message: str, *, code: str | None = None, **more: object) -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer = told({"error": message, **more}, status=status, headers=headers)


def told(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer in JSON."""
    named = {"Content-Type": "application/json", **(headers or {})}
    return Answer(status=status, headers=named, body=json.dumps(content).encode())
