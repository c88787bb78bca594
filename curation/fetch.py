"""Safe download of one URL: http and https only, to public addresses only, within bounds of bytes and time.

The address is checked where the connection is made, after the name was resolved and on the very address that is then
connected to, so neither a redirect nor a name that changes its mind can lead inside. Bodies are taken as they are
(no content encoding), so that they cannot be bombs on the way.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import httpcore

from curation.errors import FetchError

AGENT = "alchemist-hub (+https://github.com/alchemist-hub)"
REFUSED_TAGS = ("noai", "noimageai")  # X-Robots-Tag: whoever publishes the image does not want it in a data set
REDIRECTS = (301, 302, 303, 307, 308)
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_SAFE = "%/:;=?@&+$,!~*'()[]"  # of a URL's path and query, besides letters and digits: what is quoted stays so
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in IPv6 clothes that the library calls global


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one download may cost, and where it may go. Part of what a run is bound to."""

    bytes: int = 64 << 20
    seconds: float = 30.0  # of one attempt, redirects included
    redirects: int = 5
    attempts: int = 3  # where it may yet succeed: timeouts, broken connections, 408, 425, 429 and 5xx
    allowed: tuple[str, ...] = ()  # "host" or "host:port" that may be a private address: your own server


class Fetcher:
    """Downloads with kept connections; safe to use from several threads."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._pool = httpcore.ConnectionPool(
            max_connections=256, keepalive_expiry=10.0, network_backend=_PublicOnly(limits.allowed)
        )

    def fetch(self, url: str) -> bytes:
        """Return the body of `url`. Raises FetchError with the reason; transient failures were tried again."""
        for attempt in range(1, self.limits.attempts + 1):
            try:
                return self._attempt(url)
            except FetchError as error:
                if not error.transient or attempt == self.limits.attempts:
                    raise
                time.sleep(min(0.5 * 2**attempt if error.retry_after is None else error.retry_after, 8.0))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def _attempt(self, url: str) -> bytes:
        deadline = time.monotonic() + self.limits.seconds
        for _ in range(self.limits.redirects + 1):
            found = self._get(_checked(url), deadline)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
        raise FetchError(f"more than {self.limits.redirects} redirects")

    def _get(self, url: str, deadline: float) -> bytes | str:
        """Return the body, or where it has moved."""
        left = max(0.01, deadline - time.monotonic())
        headers = [("User-Agent", AGENT), ("Accept", "image/*,*/*;q=0.5"), ("Accept-Encoding", "identity")]
        timeouts = {"connect": left, "read": left, "write": left, "pool": left}
        try:
            with self._pool.stream("GET", url, headers=headers, extensions={"timeout": timeouts}) as response:
                return self._body(response, deadline)
        except FetchError:
            raise
        except httpcore.TimeoutException as error:
            raise FetchError(f"no answer within {self.limits.seconds:g} s", transient=True) from error
        except httpcore.UnsupportedProtocol as error:
            raise FetchError(f"cannot be asked for: {_line(error)}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise FetchError(f"connection broken: {_line(error)}", transient=True) from error
        except (ValueError, UnicodeError) as error:  # what the protocol's own checks of a URL raise
            raise FetchError(f"not a URL: {_line(error)}") from error

    def _body(self, response: httpcore.Response, deadline: float) -> bytes | str:
        headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in response.headers]
        first = dict(reversed(headers))
        if response.status in REDIRECTS and "location" in first:
            return first["location"]
        if response.status != 200:
            retry_after = first.get("retry-after", "")
            raise FetchError(
                f"HTTP {response.status}",
                transient=response.status in TRANSIENT,
                retry_after=float(retry_after) if retry_after.isdecimal() else None,
            )
        _respect(value for name, value in headers if name == "x-robots-tag")
        encoding = first.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise FetchError(f"sent with content encoding {encoding!r}, which was not asked for")
        promised = first.get("content-length", "")
        if promised.isdecimal() and int(promised) > self.limits.bytes:
            raise FetchError(f"too large: {int(promised):,} bytes, at most {self.limits.bytes:,} are taken")
        return self._read(response, deadline)

    def _read(self, response: httpcore.Response, deadline: float) -> bytes:
        chunks, size = [], 0
        for chunk in response.iter_stream():
            size += len(chunk)
            if size > self.limits.bytes:
                raise FetchError(f"too large: more than {self.limits.bytes:,} bytes")
            if time.monotonic() > deadline:
                raise FetchError(f"too slow: {size:,} bytes in {self.limits.seconds:g} s", transient=True)
            chunks.append(chunk)
        return b"".join(chunks)


class _PublicOnly(httpcore.NetworkBackend):
    """Connects to public addresses: resolves, checks every answer, and connects to one that was checked."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        addresses = resolve(host, port, timeout)
        if host not in self._allowed and f"{host}:{port}" not in self._allowed:
            for address in addresses:
                if not is_public(address):
                    raise FetchError(f"refused: {host} is {address}, not a public address")
        backend, broken = httpcore.SyncBackend(), None
        for address in addresses[:3]:
            try:
                return backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                broken = error
        raise broken or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, *arguments: Any, **named: Any) -> httpcore.NetworkStream:
        raise FetchError("refused: not a public address")

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def resolve(host: str, port: int, timeout: float | None) -> list[str]:
    """Return the addresses of a name, in the system's order. Raises FetchError: unknown, or no answer in time."""
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append([row[4][0] for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError) as error:
            answer.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # getaddrinfo knows no timeout
    asking.start()
    asking.join(timeout)
    if not answer:
        raise FetchError(f"no address for {host} in time", transient=True)
    if isinstance(answer[0], Exception):
        again = isinstance(answer[0], socket.gaierror) and answer[0].errno == socket.EAI_AGAIN
        raise FetchError(f"no address for {host}", transient=again)
    return list(dict.fromkeys(answer[0]))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet; an IPv4 address inside an IPv6 one is judged itself."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.sixtofour is not None or ip.teredo is not None:
            return False  # tunnels of another time, which lead anywhere
        inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped
        ip = inside or ip
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _checked(url: str) -> str:
    """Return a URL that may be asked for, path and query quoted as the protocol wants them, or raise FetchError."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise FetchError(f"not a URL: {_line(error)}") from error
    if parts.scheme not in ("http", "https"):
        raise FetchError(f"refused: only http and https are fetched, not {parts.scheme or 'a path'!r}")
    if not host:
        raise FetchError("not a URL: it names no host")
    if parts.username is not None or parts.password is not None:
        raise FetchError("refused: the URL carries a user name or password")
    return urlunsplit(parts._replace(path=quote(parts.path, _SAFE), query=quote(parts.query, _SAFE), fragment=""))


def _respect(tags: Iterable[str]) -> None:
    """Raise FetchError where an X-Robots-Tag, possibly addressed to one agent, refuses data sets."""
    for tag in tags:
        words = {word.strip().lower() for part in tag.split(",") for word in part.split(":")}
        for refused in REFUSED_TAGS:
            if refused in words:
                raise FetchError(f"refused by its publisher: X-Robots-Tag {refused}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
