"""The Results tab: live boards, committed reports, files without raters."""

import base64
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest
from ballot_box import dealt, voted

from alchemist_hub.evaluation.results import read_report
from alchemist_hub.miniature import weights
from alchemist_hub.ui.results import live_html, report_html, votes_file
from alchemist_hub.voting.store import VoteStore


@pytest.fixture
def store(tmp_path: Path) -> VoteStore:
    return VoteStore(tmp_path)


def test_without_votes_it_says_so(store: VoteStore) -> None:
    assert "No votes yet." in live_html(store)


def test_a_vote_changes_the_board(store: VoteStore) -> None:
    voted(store, "left", left="tuned")
    first = live_html(store)
    assert "1 vote by 1 rater" in first and "preliminary" in first
    assert "1 won, 0 tied, 0 lost" in first
    voted(store, "both bad", left="tuned", rater="another-browser")
    assert "2 votes by 2 raters" in live_html(store)
    assert "1 won, 1 tied, 0 lost" in live_html(store)


def test_many_votes_decide(store: VoteStore) -> None:
    for number in range(60):
        left = "tuned" if number % 2 else "base"
        voted(store, "left" if left == "tuned" else "right", left=left, rater=f"browser-{number:03d}")
    shown = live_html(store)
    assert 'class="row better"' in shown and 'class="row preliminary"' not in shown
    assert "100%" in shown and "Miniature: tuned against base" in shown


def test_the_shipped_report_is_shown_with_its_own_numbers() -> None:
    report = read_report(weights() / "report")
    shown, (comparison,) = report_html(report), report.comparisons
    assert f"{len(report.prompts)} prompts" in shown
    for result in comparison.aspects:
        assert f"{result.win_rate.value:.0%}</b> [{result.win_rate.low:.0%}, {result.win_rate.high:.0%}]" in shown
        assert f"{result.votes.wins} won, {result.votes.ties} tied, {result.votes.losses} lost" in shown


@pytest.mark.parametrize(("kind", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_files_hold_every_vote_and_no_rater(store: VoteStore, kind: str, read) -> None:
    voted(store, "left")
    voted(store, "tie")
    file = votes_file(store, {"kind": kind})
    table = read(BytesIO(base64.b64decode(file["data"])))
    assert file["name"] == f"votes.{kind}"
    assert list(table["relevance"]) == ["left", "tie"] and "rater" not in table


@pytest.mark.parametrize("given", [None, {}, {"kind": "../../etc/passwd"}, {"kind": ["csv"]}, "csv"])
def test_other_kinds_are_refused(store: VoteStore, given) -> None:
    dealt(store)
    assert votes_file(store, given) == {"says": "Votes come as csv or parquet."}
