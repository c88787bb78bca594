"""The booth: blind ballots, sides shuffled by the server, bad input refused in one line."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from ballot_box import RATER, answers
from painted_noise import LISTED, WEIGHTS, noise
from PIL import Image
from scipy.stats import binomtest

from alchemist_hub.errors import VoteError
from alchemist_hub.voting.ballots import Booth, Dealt
from alchemist_hub.voting.records import ASPECTS
from alchemist_hub.voting.stock import Stock
from alchemist_hub.voting.store import VoteStore

HOSTILE = (
    "<script>alert(1)</script>", "'; DROP TABLE vote; --", "\x00\x1b[2J\n\r\t", "🗳️" * 20, "x" * 10_000, "", None, 7,
    1.5, True, [], ["left"], {"a": 1},
)  # fmt: skip


@pytest.fixture(scope="module")
def booth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booth]:
    folder = tmp_path_factory.mktemp("booth")
    stock = Stock(LISTED, noise, lambda: WEIGHTS, folder / "pictures", rng=random.Random(1))
    opened = Booth(VoteStore(folder), {"mini": stock})
    opened.start()
    yield opened
    opened.stop()


def deal(booth: Booth) -> Dealt:
    dealt = booth.deal(wait=20)
    assert dealt is not None
    return dealt


def test_what_is_dealt_does_not_tell_the_sides(booth: Booth) -> None:
    dealt = deal(booth)
    assert {field.name for field in fields(dealt)} == {"ballot", "prompt", "left", "right"}
    assert "base" not in repr(dealt).replace(str(dealt.left.parent), "")
    assert "tuned" not in repr(dealt).replace(str(dealt.left.parent), "")


def test_left_is_shuffled_and_told_truly_after_the_vote(booth: Booth) -> None:
    places = Counter()
    for _ in range(60):
        dealt = deal(booth)
        receipt = booth.vote(dealt.ballot, answers("left"), RATER)
        row = booth.store.votes(after=booth.store.last() - 1).to_pylist()[0]
        painted = dict(zip(("base", "tuned"), noise(row["prompt"], row["seed"], bool), strict=True))
        assert Image.open(dealt.left).tobytes() == painted[receipt.left].tobytes()
        places[receipt.left] += 1
    assert binomtest(places["base"], 60).pvalue > 0.001


def test_every_ballot_has_an_id_of_its_own_that_cannot_be_guessed(booth: Booth) -> None:
    names = {deal(booth).ballot for _ in range(20)}
    assert len(names) == 20 and all(len(name) == 32 for name in names)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda value: repr(value)[:20])
def test_bad_input_is_refused_in_one_line_and_nothing_is_lost(booth: Booth, hostile: Any) -> None:
    before, ballot = booth.store.count(), deal(booth).ballot
    for asked in (
        (hostile, answers("left"), RATER),
        (ballot, answers("left"), hostile),
        (ballot, answers("left") | {"fidelity": hostile}, RATER),
        (ballot, hostile, RATER),
    ):
        with pytest.raises(VoteError) as refused:
            booth.vote(*asked)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 200
    assert booth.store.count() == before
    assert booth.vote(ballot, answers("left"), RATER).counted  # the ballot is still good


@pytest.mark.parametrize("change", [{"beauty": "left"}, {"fidelity": "base"}])
def test_answers_are_exactly_the_four_aspects(booth: Booth, change: dict[str, str]) -> None:
    with pytest.raises(VoteError, match="a vote answers exactly relevance|fidelity has to be one of left, right, tie"):
        booth.vote(deal(booth).ballot, answers("left") | change, RATER)
    with pytest.raises(VoteError, match="answers exactly"):
        booth.vote(deal(booth).ballot, dict.fromkeys(ASPECTS[:3], "left"), RATER)


def test_a_model_nobody_votes_on_is_named(booth: Booth) -> None:
    with pytest.raises(VoteError, match="there is one on mini"):
        booth.deal("sdxl")


def test_without_a_picture_there_is_no_ballot(tmp_path: Path) -> None:
    idle = Booth(VoteStore(tmp_path), {"mini": Stock(LISTED, noise, lambda: WEIGHTS, tmp_path)})
    assert idle.deal() is None
    idle.stop()
