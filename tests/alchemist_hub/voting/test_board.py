"""Where votes stand: seen from the tuned side, preliminary until sure, agreement over pairs that several judged."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from ballot_box import SUBJECT, voted

from alchemist_hub.voting.board import boards, choices
from alchemist_hub.voting.records import ASPECTS
from alchemist_hub.voting.store import VoteStore


@pytest.fixture
def store(tmp_path: Path) -> VoteStore:
    return VoteStore(tmp_path)


def test_no_votes_make_no_board(store: VoteStore) -> None:
    assert boards(store.votes()) == []


@pytest.mark.parametrize(
    ("left", "answer", "meaning"),
    [
        ("tuned", "left", "ours"),
        ("base", "left", "theirs"),
        ("tuned", "right", "theirs"),
        ("base", "right", "ours"),
        ("base", "tie", "tie"),
        ("tuned", "both bad", "both_bad"),
    ],
)
def test_an_answer_means_the_model_that_was_there(store: VoteStore, left: str, answer: str, meaning: str) -> None:
    voted(store, answer, left=left)
    assert [choices(store.votes(), aspect) for aspect in ASPECTS] == [[meaning]] * len(ASPECTS)


def test_each_model_has_a_board_with_every_aspect(store: VoteStore) -> None:
    voted(store, "left", left="tuned")
    for rater in ("browser-one", "browser-two"):
        voted(store, "left", "right", "tie", "both bad", left="tuned", rater=rater, subject=replace(SUBJECT, model="x"))
    first, second = boards(store.votes())
    assert (first.model, first.votes, first.raters) == ("x", 2, 2)
    assert (second.model, second.votes, second.raters) == ("mini", 1, 1)
    assert [row.aspect for row in first.standings] == list(ASPECTS)
    assert [row.win_rate.value for row in first.standings] == [1.0, 0.0, 0.5, 0.5]
    assert [row.ballots.both_bad for row in first.standings] == [0, 0, 0, 2]


def test_one_vote_is_preliminary_and_many_decide(store: VoteStore) -> None:
    voted(store, "left", left="tuned")
    (board,) = boards(store.votes())
    assert {row.verdict for row in board.standings} == {"preliminary"}
    for number in range(40):
        voted(store, "right", left="base", rater=f"browser-{number:02d}")
    (board,) = boards(store.votes())
    assert {row.verdict for row in board.standings} == {"better"}


def test_a_rater_who_stays_long_weighs_once_in_the_intervals(store: VoteStore) -> None:
    for _ in range(60):
        voted(store, "left", left="tuned")
    (board,) = boards(store.votes())
    assert (board.votes, board.raters) == (60, 1)
    assert [tally.wins for tally in board.tallies] == [60] * 4
    assert {(row.votes, row.verdict) for row in board.standings} == {(1, "preliminary")}


def test_agreement_is_over_pairs_with_several_raters(store: VoteStore) -> None:
    for seed, (one, two) in enumerate([("left", "left"), ("right", "right"), ("left", "left")]):
        pair = replace(SUBJECT, seed=seed)
        voted(store, one, left="tuned", rater="browser-one", subject=pair)
        voted(store, {"left": "right", "right": "left"}[two], left="base", rater="browser-two", subject=pair)
    (board,) = boards(store.votes())
    assert board.alphas == pytest.approx((1.0,) * 4)  # they saw the sides in different places, and mean the same
    voted(store, "left", left="tuned", rater="browser-three", subject=replace(SUBJECT, seed=99))
    assert boards(store.votes())[0].alphas == pytest.approx((1.0,) * 4)


def test_one_rater_alone_agrees_with_nobody(store: VoteStore) -> None:
    for answer in ("left", "right"):
        voted(store, answer, left="tuned")
    assert all(math.isnan(alpha) for alpha in boards(store.votes())[0].alphas)
