"""Recaption by an endpoint: any server that speaks the chat-completions protocol, vLLM and the like.

The endpoint is the user's own choice, so its address may be private. Redirects are not followed. The key comes from
an environment variable, is read where a worker opens, and is written nowhere: no configuration, file or message.
"""

import base64
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore
import numpy as np

from curation.errors import EndpointError, FetchError, RecipeError
from curation.fetch import AGENT, TRANSIENT
from curation.images import resize, to_jpeg
from curation.stages.base import Resources
from curation.stages.captions import FAILED, INSTRUCTION, REFUSED, Caption, Captioner

SIDE = 1024  # pixels of the longer side of what is sent, at most
QUALITY = 90
TOLD = 200  # characters of a server's complaint that are shown
_TRIAL = np.full((64, 64, 3), 128, np.uint8)  # any model that sees has something to say about a gray square
_ROUTE = "/chat/completions"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What asking may cost, in each worker."""

    at_once: int = 4  # requests in flight
    requests: int | None = None  # in all, repeated ones included
    attempts: int = 5  # where it may yet succeed: timeouts, broken connections, 429, 5xx, answers that make no sense
    pause: float = 1.0  # seconds before the second attempt, twice as long before each further one
    longest_pause: float = 60.0  # seconds, also where Retry-After asks for more
    seconds: float = 120.0  # of one attempt
    bytes: int = 1 << 20  # of one answer


class RecaptionByEndpoint(Captioner):
    """A captioner behind a URL. A picture it cannot be asked about keeps its text as found, with status "failed".

    The endpoint is tried when a worker opens, and again after such a picture: where it answers nothing at all, the
    run ends with EndpointError, and what was asked for and not committed is asked for again when it goes on.
    """

    resources = Resources(batch=64)

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key_env: str | None = None,
        instruction: str = INSTRUCTION,
        max_tokens: int = 120,
        bounds: Bounds = Bounds(),
    ) -> None:
        """`url`: up to and with its "/v1"; `key_env`: the environment variable that holds the key, if one is needed.

        Raises RecipeError where the URL is none, carries a secret, or the variable holds no key.
        """
        self.url = _checked(url)
        self.model = model
        self.key_env = key_env
        self.instruction = instruction
        self.max_tokens = max_tokens
        self.bounds = bounds
        _key(key_env)

    def config(self) -> dict[str, Any]:
        return {
            "endpoint": self.url,
            "model": self.model,
            "instruction": self.instruction,
            "max_tokens": self.max_tokens,
            "side": SIDE,
        }

    def open(self) -> None:
        """Ask about a gray square. Raises EndpointError unless there is an answer: wrong key, unknown model, no one."""
        self._asking = Asking(self.url + _ROUTE, _key(self.key_env), self.bounds)
        self._try(f"{self.url} does not answer as {self.model}")

    def captions(self, images: list[np.ndarray]) -> list[Caption]:
        with ThreadPoolExecutor(self.bounds.at_once) as threads:
            return list(threads.map(self._caption, images))  # an exception cancels what has not begun

    def _caption(self, image: np.ndarray) -> Caption:
        try:
            return self._asking.ask(self._question(image))
        except Throttled as error:
            raise EndpointError(
                f"{self.url} has too many requests ({error}); ask for fewer at one time, and the same command goes on"
            ) from error
        except FetchError:
            self._try(f"{self.url} has stopped answering")
            return Caption(status=FAILED)

    def _try(self, otherwise: str) -> None:
        try:
            self._asking.ask(self._question(_TRIAL))
        except FetchError as error:
            raise EndpointError(f"{otherwise}: {error}; once it does, the same command goes on") from error

    def _question(self, image: np.ndarray) -> bytes:
        picture = base64.b64encode(to_jpeg(_reduced(image), quality=QUALITY)).decode()
        parts = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{picture}"}},
            {"type": "text", "text": self.instruction},
        ]
        question = {"model": self.model, "messages": [{"role": "user", "content": parts}]}
        return json.dumps(question | {"max_tokens": self.max_tokens, "temperature": 0}).encode()


class Throttled(FetchError):
    """The endpoint asks for patience, and had more of it than we."""


class Asking:
    """Posts questions to one URL, within bounds; safe to use from several threads."""

    def __init__(self, url: str, key: str | None, bounds: Bounds) -> None:
        self._url, self._key, self._bounds = url, key, bounds
        self._sent, self._lock = 0, threading.Lock()
        self._pool = httpcore.ConnectionPool(max_connections=bounds.at_once)

    def ask(self, question: bytes) -> Caption:
        """Return the answer; what may yet succeed was tried again.

        Raises FetchError where there is none, and EndpointError where there will be none for any question.
        """
        for attempt in range(1, self._bounds.attempts + 1):
            try:
                return self._attempt(question)
            except FetchError as error:
                if not error.transient or attempt == self._bounds.attempts:
                    raise
                pause = self._bounds.pause * 2 ** (attempt - 1) if error.retry_after is None else error.retry_after
                time.sleep(min(pause, self._bounds.longest_pause))
        raise AssertionError("unreachable")

    def _attempt(self, question: bytes) -> Caption:
        self._count()
        status, headers, data = self._post(question)
        if status == 200:
            return read_answer(data)
        if status in (401, 403):
            raise EndpointError(
                f"{self._url} refuses the key (HTTP {status}): name the environment variable that holds the right one"
            )
        after = headers.get(b"retry-after", b"").decode("latin-1")
        raise (Throttled if status == 429 else FetchError)(
            f"HTTP {status}{self._complaint(data)}",
            transient=status in TRANSIENT,
            retry_after=float(after) if after.isdecimal() else None,
        )

    def _count(self) -> None:
        with self._lock:
            if self._sent == self._bounds.requests:
                raise EndpointError(
                    f"{self._sent:,} requests were sent to {self._url}, as many as were allowed; "
                    "the same command goes on from here"
                )
            self._sent += 1

    def _post(self, question: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
        """Return status, headers (names in small letters) and body."""
        seconds = self._bounds.seconds
        headers = [("User-Agent", AGENT), ("Content-Type", "application/json"), ("Accept-Encoding", "identity")]
        if self._key:
            headers.append(("Authorization", f"Bearer {self._key}"))
        timeouts = {"connect": min(seconds, 10.0), "read": seconds, "write": seconds, "pool": None}
        deadline = time.monotonic() + seconds
        try:
            with self._pool.stream(
                "POST", self._url, headers=headers, content=question, extensions={"timeout": timeouts}
            ) as response:
                named = {name.lower(): value for name, value in response.headers}
                return response.status, named, self._read(response, deadline)
        except httpcore.TimeoutException as error:
            raise FetchError(f"no answer within {seconds:g} s", transient=True) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            told = " ".join(str(error).split()) or type(error).__name__
            raise FetchError(f"connection broken: {told}", transient=True) from error

    def _read(self, response: httpcore.Response, deadline: float) -> bytes:
        data = b""
        for chunk in response.iter_stream():
            data += chunk
            if len(data) > self._bounds.bytes:
                raise FetchError(f"an answer of more than {self._bounds.bytes:,} bytes")
            if time.monotonic() > deadline:
                raise FetchError(f"no whole answer within {self._bounds.seconds:g} s", transient=True)
        return data

    def _complaint(self, data: bytes) -> str:
        """What the server says about it, on one line, without the key should it repeat that."""
        try:
            found = json.loads(data)
            told = found.get("error", found)["message"]  # some servers wrap it, some do not
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return ""
        told = " ".join(str(told).split())
        return ": " + (told.replace(self._key, "(the key)") if self._key else told)[:TOLD]


def read_answer(data: bytes) -> Caption:
    """Read a chat completion. Raises FetchError if it is none."""
    try:
        choice = json.loads(data)["choices"][0]
        message, end = choice["message"], choice.get("finish_reason")
        text = message.get("content") or ""
        is_refused = bool(message.get("refusal")) or end == "content_filter"
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise FetchError("an answer that is no chat completion", transient=True) from error
    if not isinstance(text, str):
        raise FetchError("an answer that is no text", transient=True)
    return Caption(status=REFUSED) if is_refused else Caption(text=text, is_cut=end == "length")


def _checked(url: str) -> str:
    """Return the URL up to its "/v1", or raise RecipeError, without repeating what may be a secret."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url:
        raise RecipeError("the caption endpoint is no URL: expected http(s)://HOST[:PORT]/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise RecipeError("the caption endpoint's URL may carry no password or query: put its key in a variable")
    return url.rstrip("/").removesuffix(_ROUTE)


def _key(variable: str | None) -> str | None:
    key = os.environ.get(variable, "").strip() if variable else None
    if variable and (not key or not key.isascii() or not key.isprintable()):
        raise RecipeError(f"the environment variable {variable} holds no key for the caption endpoint")
    return key


def _reduced(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    share = min(1.0, SIDE / max(height, width))
    return resize(image, (max(1, round(width * share)), max(1, round(height * share))))
