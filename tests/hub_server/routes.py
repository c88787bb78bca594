"""The table of routes, the state they share, and who may read and write a repository."""

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from hub_server.answers import Answer, Refusal, Request
from hub_server.faults import Faults
from hub_server.store import Repository, Store
from hub_server.xet import Xet

ROUTES: list[tuple[str, re.Pattern, Callable[..., Answer]]] = []


def route(method: str, pattern: str) -> Callable:
    """Enter a function into the table: it gets the state, the request, and the pattern's groups, unquoted."""

    def enter(function: Callable[..., Answer]) -> Callable[..., Answer]:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return enter


@dataclass(kw_only=True)
class HubState:
    """What all routes share."""

    folder: Path
    token: str
    organisations: tuple[str, ...]
    user: str = "tester"
    url: str = ""
    other_url: str = ""  # the same server under another name: another origin
    received_bytes: int = 0  # of file contents, however they came
    faults: Faults = field(default_factory=Faults)
    xet_token: str = field(default_factory=lambda: secrets.token_hex(8))
    lock: threading.Lock = field(default_factory=threading.Lock)
    store: Store = field(init=False)
    xet: Xet = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.folder)
        self.xet = Xet(self.folder / "xorbs", self.store.blobs)

    def counted(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on file contents as they arrive, and count them."""
        for piece in pieces:
            with self.lock:
                self.received_bytes += len(piece)
            yield piece

    def user_of(self, authorization: str) -> str | None:
        """Return who a token stands for; nobody without one."""
        if not authorization:
            return None
        if authorization not in (f"Bearer {self.token}", f"Bearer {self.xet_token}"):
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.user

    def answer(self, request: Request) -> Answer:
        """Find the route of a request and take it. HEAD is GET without its body."""
        for method, pattern, function in ROUTES:
            found = pattern.fullmatch(request.path) if method == request.method.replace("HEAD", "GET") else None
            if found:
                return function(self, request, *(group and unquote(group) for group in found.groups()))
        raise Refusal(404, f"this Hub has no {request.method} {request.path}")


def readable(hub: HubState, request: Request, kind: str, name: str) -> Repository:
    """Return a repository that the request may read. The Hub does not tell a private one from a missing one."""
    repository = hub.store.repository(kind, name)
    if not repository.exists() or (repository.settings.get("private") and not request.user):
        raise Refusal(404 if request.user else 401, "Repository not found", code="RepoNotFound")
    return repository


def admitted(hub: HubState, request: Request, kind: str, name: str) -> Repository:
    """Return a repository whose files the request may read: everybody sees a gated one, nobody here is let in."""
    repository = readable(hub, request, kind, name)
    if repository.settings["gated"]:
        message = f"Access to {kind[:-1]} {name} is restricted and you are not in the authorized list."
        raise Refusal(403 if request.user else 401, message, code="GatedRepo")
    return repository


def writable(hub: HubState, request: Request, kind: str, name: str) -> Repository:
    """Return a repository that the request may write to."""
    repository = readable(hub, request, kind, name)
    owns(hub, request, name.partition("/")[0], f"write to the {kind[:-1]} {name}")
    return repository


def owns(hub: HubState, request: Request, namespace: str, act: str) -> None:
    """Refuse who is nobody, or not of this namespace. The Hub gives one answer for a missing and a foreign one."""
    if request.user is None:
        raise Refusal(401, "Invalid username or password.")
    if namespace not in (hub.user, *hub.organisations):
        raise Refusal(403, f'You don\'t have the rights to {act} under the namespace "{namespace}"')
