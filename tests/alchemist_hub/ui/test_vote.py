"""The Vote tab from a program and from the page's own script: blind, counted once, refused in one line."""

import base64
import json
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from ballot_box import RATER, answers
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from tiny_services import PROMPTS, served, tiny_services

from alchemist_hub.ui.services import Services
from alchemist_hub.ui.vote import deal_to_page, vote_from_page
from alchemist_hub.voting.records import ASPECTS

HOSTILE = (
    "<script>alert(1)</script>",
    "'; DROP TABLE vote; --",
    "\x00\x1b[2J",
    "x" * 10_000,
    None,
    7,
    ["left"],
    {"a": 1},
)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return tiny_services(tmp_path_factory.mktemp("services"), votes=True)


@pytest.fixture(scope="module")
def address(services: Services) -> Iterator[str]:
    with served(services) as url:
        yield url


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def ballot(client: Client) -> tuple[str, str, str, str]:
    return client.predict(api_name="/ballot")


def vote(client: Client, name: Any, rater: Any = RATER, **choices: Any) -> dict[str, Any]:
    return client.predict(ballot=name, rater=rater, **answers("left") | choices, api_name="/vote")


def test_a_program_votes_and_is_told_what_was_where(client: Client, services: Services) -> None:
    name, prompt, left, right = ballot(client)
    assert prompt in PROMPTS
    told = vote(client, name, relevance="right", fidelity="both bad")
    assert told["counted"] and {told["left"], told["right"]} == {"Base", "Tuned"}
    row = services.votes.store.votes().to_pylist()[-1]
    assert (row["id"], row["relevance"], row["fidelity"]) == (name, "right", "both bad")
    assert row["left"] == told["left"].lower()
    assert Image.open(left).size == (64, 64)
    assert not np.array_equal(np.asarray(Image.open(left)), np.asarray(Image.open(right)))


def test_a_request_that_is_repeated_is_one_vote(client: Client, services: Services) -> None:
    before, (name, *_) = services.votes.store.count(), ballot(client)
    receipts = [vote(client, name) for _ in range(3)]
    assert [receipt["counted"] for receipt in receipts] == [True, False, False]
    assert services.votes.store.count() == before + 1


def test_clicks_at_the_same_moment_are_one_vote(client: Client, services: Services) -> None:
    before, (name, *_) = services.votes.store.count(), ballot(client)
    clicks = [threading.Thread(target=vote, args=(client, name)) for _ in range(8)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    assert services.votes.store.count() == before + 1


def test_both_endpoints_are_described_with_types(client: Client) -> None:
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {"/ballot", "/vote", "/compare"} <= set(described)
    parts = {part["parameter_name"]: part["python_type"]["type"] for part in described["/vote"]["parameters"]}
    assert list(parts) == ["ballot", "rater", *ASPECTS]
    assert parts["fidelity"] == "Literal['left', 'right', 'tie', 'both bad']"


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value)[:16])
@pytest.mark.parametrize("where", ["ballot", "rater", "aesthetics"])
def test_bad_input_is_refused_in_one_line(client: Client, services: Services, where: str, hostile: Any) -> None:
    before, (name, *_) = services.votes.store.count(), ballot(client)
    given = {"ballot": name, "rater": RATER, **answers("left")} | {where: hostile}
    with pytest.raises(AppError) as refused:
        client.predict(**given, api_name="/vote")
    said = str(refused.value)
    assert "\n" not in said and len(said) < 200 and "Traceback" not in said and "/" not in said
    assert services.votes.store.count() == before
    assert vote(client, name)["counted"]


@pytest.mark.parametrize("model", ["sdxl", "<b>", "x" * 10_000, 7])
def test_no_ballot_for_an_unknown_model(client: Client, model: Any) -> None:
    with pytest.raises(AppError, match="There is no vote on this model; there is one on mini"):
        client.predict(model=model, api_name="/ballot")


@pytest.mark.parametrize(
    "given", [None, [], "x", 7, {}, {"rater": RATER}, {"ballot": "x", "rater": 1, "answers": "left"}]
)
def test_the_page_is_told_in_one_line_too(services: Services, address: str, given: Any) -> None:
    told = vote_from_page(services.votes, given)
    assert set(told) == {"says"} and "\n" not in told["says"]


def test_nothing_that_reaches_the_page_before_the_vote_tells_the_sides(services: Services, address: str) -> None:
    while "ballot" not in (told := deal_to_page(services.votes, {"rater": RATER})):
        assert told["says"]
    assert set(told) == {"ballot", "prompt", "mine", "left", "right"}
    kind, _, data = told["left"].partition(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(BytesIO(base64.b64decode(data))).size == (512, 512)
    assert not any(word in json.dumps({**told, "left": "", "right": ""}).lower() for word in ("base", "tuned"))
    receipt = vote_from_page(services.votes, {"ballot": told["ballot"], "rater": RATER, "answers": answers("tie")})
    assert {receipt["left"], receipt["right"]} == {"Base", "Tuned"}


def test_the_tab_as_it_is_sent_names_no_side(address: str) -> None:
    parts = httpx.get(f"{address}config").json()["components"]
    (booth,) = (part for part in parts if part["props"].get("elem_id") == "booth")
    sent = json.dumps(booth).replace("base64", "").lower()
    assert "tuned" not in sent and "base" not in sent
