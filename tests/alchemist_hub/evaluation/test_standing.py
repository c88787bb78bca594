"""The rows of a live board: what counts, what is said, and that all of it holds together under peeking."""

import numpy as np
import pytest

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import anytime
from alchemist_hub.evaluation.simulation import Population, evidence_along, rate_of
from alchemist_hub.evaluation.standing import Ballots, LiveStanding, first_votes, standings
from alchemist_hub.evaluation.votes import Tally


def row(ballots: Ballots, rows: int = 1) -> LiveStanding:
    return standings({("mini", "aesthetics"): ballots}, rows=rows)[0]


def test_ballots_count_what_was_chosen_and_both_bad_as_a_tie():
    ballots = Ballots.of(["ours", "ours", "tie", "both_bad", "void", "theirs"])
    assert ballots == Ballots(ours=2, theirs=1, tie=1, both_bad=1, void=1)
    assert ballots.tally == Tally(wins=2, ties=2, losses=1)
    with pytest.raises(EvaluationError, match="unknown choice 'both'"):
        Ballots.of(["ours", "both"])


def test_both_bad_is_reported_apart_among_the_votes_that_count():
    found = row(Ballots(ours=30, theirs=30, both_bad=20, void=1000))
    assert found.votes == 80
    assert found.win_rate.value == 0.5
    assert found.both_bad.value == 0.25
    assert found.both_bad.low < 0.25 < found.both_bad.high


@pytest.mark.parametrize(
    ("ballots", "verdict"),
    [
        (Ballots(), "preliminary"),
        (Ballots(ours=12, theirs=8), "preliminary"),
        (Ballots(ours=90, theirs=30, tie=10), "better"),
        (Ballots(ours=30, theirs=90, tie=10), "worse"),
    ],
)
def test_a_verdict_comes_when_the_interval_leaves_one_half(ballots, verdict):
    found = row(ballots)
    assert found.verdict == verdict
    assert (found.more_needed == 0) == (verdict != "preliminary")


def test_the_outlook_is_said_in_words():
    assert row(Ballots()).outlook == "no votes yet"
    assert row(Ballots(ours=90, theirs=30)).outlook == "decided"
    assert row(Ballots(ours=500, theirs=500)).outlook == "no verdict in sight: too close to even"
    assert row(Ballots(ours=60, theirs=40)).outlook.startswith("about ")


def test_more_rows_ask_more_of_each():
    ballots = Ballots(ours=50, theirs=22)
    alone, among = row(ballots), row(ballots, rows=24)
    assert (alone.verdict, among.verdict) == ("better", "preliminary")
    assert among.win_rate.low < alone.win_rate.low
    assert among.more_needed > 0


def test_rows_stay_in_the_order_of_the_board_and_do_not_touch_one_another():
    board = {("sd15", "aesthetics"): Ballots(ours=70, theirs=50), ("mini", "relevance"): Ballots(tie=3)}
    first, second = standings(board)
    assert (first.model, first.aspect, second.model, second.aspect) == ("sd15", "aesthetics", "mini", "relevance")
    assert first == standings({("sd15", "aesthetics"): board["sd15", "aesthetics"]}, rows=2)[0]
    assert standings({}) == ()
    with pytest.raises(ValueError, match="among 1 rows, but the board has 2"):
        standings(board, rows=1)


def test_no_verdict_of_a_whole_board_is_wrong_at_any_moment_in_nineteen_of_twenty():
    """200 boards of 12 even rows, looked at after every vote: rows at 5% each err on a third of them."""
    rng = np.random.default_rng(1)
    cast = Population(rate=0.5, correlation=0.3).stream(rng, np.full(50, 0.5), 200 * 12, 800)
    peaks = evidence_along(cast, 0.5).max(axis=1).reshape(200, 12).max(axis=1)
    together, alone = rate_of(peaks >= np.log(12 / 0.05)), rate_of(peaks >= np.log(1 / 0.05))
    assert together.value <= 0.05
    assert alone.value > 0.15


def test_a_rater_counts_so_often_and_voids_do_not_use_it_up():
    cast = [("ann", "void"), ("ann", "ours"), ("bob", "tie"), ("ann", "theirs"), ("bob", "void"), ("ann", "ours")]
    assert first_votes(cast) == ["void", "ours", "tie", "void"]
    assert first_votes(cast, most=2) == ["void", "ours", "tie", "theirs", "void"]


def test_raters_who_stay_mislead_a_board_unless_their_first_votes_count_alone():
    """250 even boards of 100 raters who cast 20 votes each, which correlate by 0.05."""
    cast = Population(rate=0.5, correlation=0.05).votes(np.random.default_rng(2), 250, 100, 20)
    choices = np.array(["theirs", "ours"])[cast.astype(int)]
    first = [first_votes((rater, choice) for rater, row in enumerate(board) for choice in row) for board in choices]
    everything = evidence_along(cast.reshape(250, -1), 0.5).max(axis=1)
    firsts = evidence_along((np.array(first) == "ours").astype(float), 0.5).max(axis=1)
    assert rate_of(everything >= np.log(20)).value > 0.15
    assert rate_of(firsts >= np.log(20)).value <= 0.05


def test_a_row_is_decided_exactly_where_evidence_passes_its_part_of_the_error():
    for wins in range(40, 80):
        found = standings({("mini", "aesthetics"): Ballots(ours=wins, theirs=40)}, rows=12)[0]
        enough = anytime.log_e_value([[40, 0, wins]])[0] >= np.log(12 / 0.05)
        assert (found.verdict == "better") == enough
