"""Recaptioning by an endpoint: a real server on loopback that answers well, badly, slowly, late, or not at all."""

import pickle
import threading
from collections.abc import Callable

import numpy as np
import pytest

from curation.errors import EndpointError, RecipeError
from curation.stages.endpoint import SIDE, Bounds, RecaptionByEndpoint
from tests.chat_server import ChatServer, picture, says
from tests.hostile_server import Answer, body, forever, redirect

QUICK = Bounds(pause=0.01, attempts=3, seconds=5.0)
KEY = "sk-very-secret-0123456789"
SEEN = says("a photo of the sea")


def cut(handler) -> None:
    """Promise an answer, and hang up."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices"')
    handler.close_connection = True


def opened(server: ChatServer, bounds: Bounds = QUICK, **options) -> RecaptionByEndpoint:
    stage = RecaptionByEndpoint(server.url, "sees", bounds=bounds, **options)
    stage.open()
    return stage


def told(stage: RecaptionByEndpoint, table) -> list[tuple[str | None, str | None]]:
    rows = stage(table).select(["prompt", "recaption_status"]).to_pylist()
    return [(row["prompt"], row["recaption_status"]) for row in rows]


def first_then(first: Answer, *, times: int = 1) -> Callable[[int], Answer]:
    return lambda number: first if number <= times else SEEN


def test_every_picture_is_asked_about_and_bad_rows_get_null(samples, pixels) -> None:
    with ChatServer(lambda number: SEEN) as server:
        stage = opened(server, max_tokens=50, instruction="What is it?")
        assert told(stage, samples([pixels(1), None, pixels(2)])) == [
            ("a photo of the sea", "ok"),
            (None, None),
            ("a photo of the sea", "ok"),
        ]
    assert len(server.questions) == 2 and server.trials == 1
    question = server.questions[0]
    assert (question["model"], question["max_tokens"]) == ("sees", 50)
    assert question["messages"][0]["content"][1] == {"type": "text", "text": "What is it?"}
    assert "Authorization" not in server.headers[0]


def test_answers_go_to_their_own_pictures_and_large_ones_are_reduced(samples) -> None:
    levels = [0, 60, 200, 250]
    pictures = [np.full((40, 3000 if level == 250 else 40, 3), level, np.uint8) for level in levels]
    asked: list[np.ndarray] = []

    def gray(number: int) -> Answer:
        asked.append(picture(server.questions[number - 1]))
        return says(f"level {round(asked[-1].mean() / 10) * 10}")

    with ChatServer(gray) as server:
        rows = told(opened(server), samples(pictures))
    assert rows == [(f"level {level}", "ok") for level in levels]
    assert {seen.shape for seen in asked} == {(40, 40, 3), (round(40 * SIDE / 3000), SIDE, 3)}


@pytest.mark.parametrize(
    ("answer", "prompt", "status"),
    [
        (says("I'm sorry, but I can't help with that."), "as found", "refused"),
        (says(None, refusal="no"), "as found", "refused"),
        (says("", end="content_filter"), "as found", "refused"),
        (says("  "), "as found", "empty"),
        (says(None), "as found", "empty"),
        (says("A boat at sea. The sky is full of", end="length"), "A boat at sea.", "ok"),
        (says("<think>What is it?</think>A boat at sea."), "A boat at sea.", "ok"),
        (says("<think>What is", end="length"), "as found", "empty"),
    ],
)
def test_what_is_no_prompt_leaves_the_text_as_found(answer, prompt, status, samples, pixels) -> None:
    with ChatServer(lambda number: answer) as server:
        assert told(opened(server), samples([pixels(1)], ["as found"])) == [(prompt, status)]
    assert len(server.questions) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        body(b"busy", status=500),
        body(b"", status=503),
        body(b"{}", status=429, headers={"Retry-After": "0"}),
        cut,
        body(b"<html>not json"),
        body(b'{"choices": []}'),
        body(b"[" * 100_000),
        says(["no", "text"]),
    ],
)
def test_passing_trouble_is_asked_again(trouble: Answer, samples, pixels) -> None:
    with ChatServer(first_then(trouble, times=2)) as server:
        assert told(opened(server), samples([pixels(1)])) == [("a photo of the sea", "ok")]
    assert len(server.questions) == 3


def test_retry_after_is_obeyed_up_to_the_longest_pause(samples, pixels, monkeypatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("curation.stages.endpoint.time.sleep", slept.append)
    waits = {1: "7", 2: "99999", 3: "Wed, 21 Oct 2026 07:28:00 GMT"}

    def answer(number: int) -> Answer:
        return body(b"", status=429, headers={"Retry-After": waits[number]}) if number in waits else SEEN

    with ChatServer(answer) as server:
        stage = opened(server, Bounds(pause=0.5, longest_pause=20.0))
        assert told(stage, samples([pixels(1)])) == [("a photo of the sea", "ok")]
    assert slept == [7.0, 20.0, 2.0]


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (body(b"broken", status=500), 3),
        (cut, 3),
        (body(b"garbage"), 3),
        (forever, 1),
        (body(b"", status=413), 1),
        (redirect("/v1/elsewhere"), 1),
    ],
)
def test_a_picture_that_gets_no_answer_fails_and_the_others_do_not(answer, asked, samples, pixels) -> None:
    wide = pixels(2, width=80)

    def answers(number: int) -> Answer:
        return answer if picture(server.questions[number - 1]).shape == wide.shape else SEEN

    with ChatServer(answers) as server:
        stage = opened(server, Bounds(pause=0.01, attempts=3, at_once=1))
        assert told(stage, samples([pixels(1), wide, pixels(3)], ["one", "two", "three"])) == [
            ("a photo of the sea", "ok"),
            ("two", "failed"),
            ("a photo of the sea", "ok"),
        ]
    assert len(server.questions) == 2 + asked
    assert server.trials == 2  # as it opened, and to learn whether the endpoint or the picture is to blame


def test_an_answer_that_never_comes_is_given_up(samples, pixels) -> None:
    release = threading.Event()

    def wait(handler) -> None:
        release.wait(10)
        SEEN(handler)

    with ChatServer(lambda number: wait) as server:
        stage = opened(server, Bounds(pause=0.01, attempts=2, seconds=0.3))
        assert told(stage, samples([pixels(1)], ["as found"])) == [("as found", "failed")]
        release.set()
    assert len(server.questions) == 2


def test_an_endpoint_that_stops_answering_ends_the_run(samples, pixels) -> None:
    with ChatServer(lambda number: SEEN) as server:
        stage = opened(server)
    with pytest.raises(EndpointError, match=r"has stopped answering: connection broken.*the same command goes on"):
        stage(samples([pixels(1), pixels(2)]))


def test_an_endpoint_that_has_too_many_requests_ends_the_run_instead_of_failing_pictures(samples, pixels) -> None:
    full = body(b'{"error": {"message": "quota\\nused up"}}', status=429)
    with ChatServer(lambda number: full) as server, pytest.raises(EndpointError, match="429: quota used up"):
        opened(server)(samples([pixels(1)]))


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (body(b'{"error": {"message": "bad key ' + KEY.encode() + b'"}}', status=401), "refuses the key .HTTP 401."),
        (body(b'{"error": {"message": "no model for ' + KEY.encode() + b'"}}', status=404), "no model for .the key."),
        (body(b'{"error": {"message": "it sees nothing"}}', status=400), "HTTP 400: it sees nothing"),
        (body(b'{"message": "it is asleep"}', status=400), "HTTP 400: it is asleep"),
        (body(b"[]", status=400), "HTTP 400;"),
        (redirect("http://127.0.0.1:1/v1"), "HTTP 302"),
    ],
)
def test_an_endpoint_that_cannot_be_used_is_one_line_before_any_picture(answer, line, monkeypatch) -> None:
    monkeypatch.setenv("CAPTION_KEY", KEY)
    with ChatServer(lambda number: SEEN) as server:
        server.trial_answer = answer
        with pytest.raises(EndpointError, match=line) as refused:
            opened(server, key_env="CAPTION_KEY")
    assert server.trials == 1
    assert KEY not in str(refused.value) and "\n" not in str(refused.value)


def test_no_one_there_is_one_line() -> None:
    with ChatServer(lambda number: SEEN) as server:
        pass
    with pytest.raises(EndpointError, match=f"{server.url} does not answer as sees: connection broken"):
        opened(server)


def test_the_key_goes_to_the_endpoint_and_nowhere_else(samples, pixels, monkeypatch) -> None:
    monkeypatch.setenv("CAPTION_KEY", KEY)
    with ChatServer(lambda number: SEEN) as server:
        stage = RecaptionByEndpoint(server.url, "sees", key_env="CAPTION_KEY", bounds=QUICK)
        assert KEY.encode() not in pickle.dumps(stage) and KEY not in str(stage.config())
        stage.open()
        table = stage(samples([pixels(1)]))
    assert [headers["Authorization"] for headers in server.headers] == [f"Bearer {KEY}"] * 2
    assert KEY not in str(table.to_pylist()) and KEY not in str(server.questions)
    assert stage.config()["endpoint"] == server.url and stage.config()["model"] == "sees"


@pytest.mark.parametrize("value", [None, "", "  ", "two\nlines", "schlüssel"])
def test_a_key_that_is_none_is_refused_at_once(value, monkeypatch) -> None:
    monkeypatch.delenv("CAPTION_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("CAPTION_KEY", value)
    with pytest.raises(RecipeError, match="CAPTION_KEY holds no key"):
        RecaptionByEndpoint("http://127.0.0.1/v1", "sees", key_env="CAPTION_KEY")


@pytest.mark.parametrize(
    "url",
    ["ftp://host/v1", "host/v1", "http://", "http://me:secret@host/v1", "http://host/v1?key=secret", "http://[x/v1"],
)
def test_urls_that_are_none_or_carry_secrets_are_refused(url: str) -> None:
    with pytest.raises(RecipeError) as refused:
        RecaptionByEndpoint(url, "sees")
    assert "secret" not in str(refused.value)


def test_the_whole_route_may_be_named() -> None:
    assert RecaptionByEndpoint("http://host:8/v1/chat/completions", "sees").url == "http://host:8/v1"


def test_no_more_requests_are_in_flight_than_allowed_and_as_many_as_that(samples, pixels) -> None:
    together = threading.Barrier(3)

    def wait_for_others(handler) -> None:
        together.wait(10)
        SEEN(handler)

    with ChatServer(lambda number: wait_for_others) as server:
        stage = opened(server, Bounds(at_once=3, attempts=1))
        rows = told(stage, samples([pixels(seed) for seed in range(9)]))
    assert [status for _, status in rows] == ["ok"] * 9
    assert server.most_at_once == 3


def test_requests_are_counted_and_stop_at_their_bound(samples, pixels) -> None:
    with ChatServer(first_then(body(b"", status=500))) as server:
        stage = opened(server, Bounds(requests=4, at_once=1, pause=0.01))
        with pytest.raises(EndpointError, match="4 requests were sent"):
            stage(samples([pixels(seed) for seed in range(9)]))
    assert len(server.questions) + server.trials == 4


def test_what_decides_the_answers_is_part_of_the_configuration_and_what_asking_costs_is_not() -> None:
    one = RecaptionByEndpoint("http://host/v1", "sees")
    assert one.config() == RecaptionByEndpoint("http://host/v1", "sees", bounds=Bounds(at_once=9)).config()
    for other in ({"instruction": "Describe it."}, {"max_tokens": 9}):
        assert one.config() != RecaptionByEndpoint("http://host/v1", "sees", **other).config()
    assert one.config() != RecaptionByEndpoint("http://host/v1", "sees more").config()
