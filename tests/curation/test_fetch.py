"""Downloads: what is refused is refused before a byte of it is asked for, and everything has a bound."""

import itertools
import socket

import httpcore
import pytest

from curation.errors import FetchError
from curation.fetch import Fetcher, Limits, is_public
from tests.hostile_server import body, drip, forever, redirect, serving

PICTURE = b"\xff\xd8 a picture \xff\xd9"


def fetch(server, path: str, **limits) -> bytes:
    return get(server.url(path), allowed=(server.host,), **limits)


def get(url: str, **limits) -> bytes:
    fetcher = Fetcher(Limits(**{"attempts": 1, "seconds": 5.0, **limits}))
    try:
        return fetcher.fetch(url)
    finally:
        fetcher.close()


def reason(server, path: str, **limits) -> str:
    with pytest.raises(FetchError) as refused:
        fetch(server, path, **limits)
    return str(refused.value)


def test_a_good_url_arrives_also_through_redirects():
    with serving({"/a": redirect("/b", 301), "/b": redirect("c", 307), "/c": body(PICTURE)}) as server:
        assert fetch(server, "/a") == PICTURE


def test_a_path_with_spaces_and_letters_of_any_alphabet_is_asked_for_as_browsers_do():
    with serving({"/%C3%BCber%20all/a%20b.jpg?q=%E6%9C%88&w=1": body(PICTURE)}) as server:
        assert fetch(server, "/über all/a%20b.jpg?q=月&w=1#part") == PICTURE


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:1",
        "localhost:1",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "[::1]",
        "[fd00::1]",
        "[fe80::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "2130706433",
        "0x7f.1",
    ],
)
def test_a_redirect_to_an_inner_address_is_refused_before_it_is_connected_to(address, monkeypatch):
    with serving({"/a": redirect(f"http://{address}/latest/meta-data")}) as server:
        connected = []
        connect = httpcore.SyncBackend.connect_tcp

        def remembering(self, host, port, *arguments):
            connected.append(f"{host}:{port}")
            return connect(self, host, port, *arguments)

        monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", remembering)
        told = reason(server, "/a")
        assert "not a public address" in told or "no address for" in told
        assert connected == [server.host]


def test_loopback_is_refused_unless_it_is_allowed_by_name_and_port():
    with serving({"/a": body(PICTURE)}) as server, serving({"/b": body(PICTURE)}) as other:
        with pytest.raises(FetchError, match=r"refused: 127\.0\.0\.1 is 127\.0\.0\.1, not a public address"):
            get(server.url("/a"))
        with pytest.raises(FetchError, match="not a public address"):
            get(other.url("/b"), allowed=(server.host,))
        assert get(other.url("/b"), allowed=("127.0.0.1",)) == PICTURE


def test_a_name_that_changes_its_address_after_the_check_is_connected_to_where_it_was_checked(monkeypatch):
    answers = itertools.chain(["93.184.216.34"], itertools.repeat("127.0.0.1"))
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, port, **_: [(2, 1, 6, "", (next(answers), port))] if host else []
    )
    connected = []

    def refusing(self, host, port, *arguments):
        connected.append(host)
        raise httpcore.ConnectError("nobody there")

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", refusing)
    with pytest.raises(FetchError, match="connection broken"):
        get("http://rebinding.example/a")
    with pytest.raises(FetchError, match=r"rebinding\.example is 127\.0\.0\.1"):
        get("http://rebinding.example/a")
    assert connected == ["93.184.216.34"]


def test_a_name_with_one_inner_address_among_public_ones_is_refused(monkeypatch):
    addresses = [(2, 1, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.1.2.3")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    with pytest.raises(FetchError, match=r"10\.1\.2\.3, not a public address"):
        get("http://both.example/a")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://example.org/a", "only http and https"),
        ("/etc/passwd", "only http and https"),
        ("http:///a", "names no host"),
        ("http://me:secret@example.org/", "user name or password"),
        ("http://example.org:99999/", "not a URL"),
        ("http://exa mple.org/\n", "not a URL|no address"),
        ("http://[::1/", "not a URL"),
    ],
)
def test_what_is_not_a_web_address_is_refused(url, told):
    with pytest.raises(FetchError, match=told) as refused:
        get(url)
    assert "secret" not in str(refused.value)


def test_a_body_without_end_is_cut_off_at_the_cap():
    with serving({"/a": forever}) as server:
        assert reason(server, "/a", bytes=1_000_000) == "too large: more than 1,000,000 bytes"


def test_a_promise_of_too_much_is_refused_at_once():
    with serving({"/a": body(b"x", length=10**12)}) as server:
        assert reason(server, "/a").startswith("too large: 1,000,000,000,000 bytes")


def test_a_body_shorter_than_promised_is_not_taken_for_whole():
    with serving({"/a": body(PICTURE, length=len(PICTURE) + 5)}) as server:
        assert reason(server, "/a").startswith("connection broken")


def test_a_body_longer_than_promised_ends_where_it_said():
    with serving({"/a": body(PICTURE + b"more", length=len(PICTURE))}) as server:
        assert fetch(server, "/a") == PICTURE


def test_a_slow_body_is_given_up_although_every_read_gets_something():
    with serving({"/a": drip}) as server:
        assert reason(server, "/a", seconds=0.4).startswith("too slow")


def test_compressed_bodies_are_refused():
    with serving({"/a": body(PICTURE, headers={"Content-Encoding": "gzip"})}) as server:
        assert "content encoding 'gzip'" in reason(server, "/a")


@pytest.mark.parametrize("tag", ["noai", "noindex, NoImageAI", "somebot: noai", "all,noai"])
def test_a_publisher_who_wants_no_data_set_is_heard(tag):
    with serving({"/a": body(PICTURE, headers={"X-Robots-Tag": tag})}) as server:
        assert reason(server, "/a").startswith("refused by its publisher: X-Robots-Tag no")


def test_other_tags_are_no_refusal():
    with serving({"/a": body(PICTURE, headers={"X-Robots-Tag": "noindex, nofollow"})}) as server:
        assert fetch(server, "/a") == PICTURE


def test_redirects_in_a_circle_end():
    with serving({"/a": redirect("/b"), "/b": redirect("/a")}) as server:
        assert reason(server, "/a", redirects=4) == "more than 4 redirects"
        assert sum(server.asked.values()) == 5


def test_what_may_yet_succeed_is_tried_again_and_what_cannot_is_not():
    turns = iter([body(b"", status=503), body(b"", status=429, headers={"Retry-After": "0"}), body(PICTURE)])
    with serving({"/a": lambda request: next(turns)(request), "/gone": body(b"", status=410)}) as server:
        assert fetch(server, "/a", attempts=3) == PICTURE
        assert reason(server, "/gone", attempts=3) == "HTTP 410"
        assert server.asked == {"/a": 3, "/gone": 1}


def test_public_addresses_are_told_from_the_others():
    assert all(map(is_public, ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")))
    assert not any(map(is_public, ("198.18.0.1", "192.0.2.1", "::", "fe80::1%eth0", "ff02::1", "2001:db8::1")))
