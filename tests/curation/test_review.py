"""What other thresholds would do, held against reruns; listings, ranges, thumbnails."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stages import ranked_recipe, write_pool

from curation.engines import embedded
from curation.errors import LedgerError, RecipeError
from curation.ledger import Ledger
from curation.review import BINS, NOT_SCORED, Review, round_step


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    write_pool(folder / "pool")
    embedded.run(ranked_recipe(), folder / "pool", folder / "run", workers=1)
    return folder


@pytest.fixture(scope="module")
def review(finished):
    return Review(finished / "run")


def urls(seen):
    return [each.url for each in seen]


@pytest.mark.parametrize(
    "changes", [{"light": 0.5}, {"light": 0.9}, {"impact_rank": 2}, {"light": 0.6, "impact_rank": 9}]
)
def test_a_stricter_what_if_keeps_what_a_rerun_keeps(finished, review, changes, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    again = embedded.run(ranked_recipe().with_thresholds(changes), finished / "pool", tmp_path / "run", workers=1)
    assert {each.img_key for each in review.kept(changes)} == set(again.survivors()["img_key"].to_pylist())
    assert [vars(row) for row in review.ask(changes).rows] == [vars(row) for row in Review(tmp_path / "run").before]


def test_places_that_become_free_go_to_the_next_best(finished, tmp_path):
    """The brightest are dropped by a rule of their own, then the limit rises."""
    embedded.run(ranked_recipe(glare=1.0), finished / "pool", tmp_path / "run", workers=1)
    review = Review(tmp_path / "run")
    assert urls(review.kept({})) == ["019.jpg", "018.jpg", "017.jpg", "016.jpg", "015.jpg"]
    answer = review.ask({"glare": 0.87})
    assert urls(review.kept({"glare": 0.87})) == ["017.jpg", "016.jpg", "015.jpg", "014.jpg", "013.jpg"]
    assert (answer.kept, answer.enters, answer.leaves) == (5, 2, 2)
    assert set(urls(answer.entering)) == {"014.jpg", "013.jpg"}
    assert {(each.url, each.step, each.reason) for each in answer.leaving} == {
        ("018.jpg", "glare", "glaring"),
        ("019.jpg", "glare", "glaring"),
    }


def test_who_leaves_is_told_with_the_rule_that_drops_it(review):
    answer = review.ask({"impact_rank": 3})
    assert (answer.kept, answer.leaves, answer.enters) == (3, 2, 0)
    assert {(each.step, each.reason) for each in answer.leaving} == {("top", "not the brightest")}
    assert urls(review.kept({"impact_rank": 3})) == ["019.jpg", "018.jpg", "017.jpg"]  # best first


def test_what_was_never_judged_is_told_and_not_guessed(review):
    answer = review.ask({"light": 0.0})
    assert answer.kept == 5 and answer.unjudged == {"top": 4}
    assert answer.rows[-1].reasons[NOT_SCORED] == 4


def test_the_command_and_the_page_count_alike(review):
    for changes in ({"light": 0.6}, {"impact_rank": 3}, {"light": 0.95, "impact_rank": 8}):
        told = review.ledger.compare(review.outline.with_thresholds(changes))
        answer = review.ask(changes)
        assert (told.now, told.then, told.gained, told.lost) == (5, answer.kept, answer.enters, answer.leaves)


def test_no_change_is_the_run_itself(review):
    answer = review.ask({})
    assert (answer.rows, answer.enters, answer.leaves) == (review.before, 0, 0)


def test_a_slider_that_rounds_changes_nothing(review):
    light = review.controls[0]
    assert review.ask({"light": light.rule.threshold + light.resolution / 3}).rows == review.before
    assert review.ask({"light": light.rule.threshold + 0.3}).rows != review.before


def test_listings_have_as_many_as_the_funnel_counts(review):
    for changes in ({}, {"light": 0.55}, {"impact_rank": 2}):
        for row in review.ask(changes).rows[1:]:
            for reason, count in row.reasons.items():
                assert len(review.dropped(changes, row.step, reason)) == count
    assert len(review.dropped({}, "light", "too dark", most=2)) == 2
    assert review.dropped({}, "light", "no such reason") == ()


def test_controls_span_the_scores_and_count_them(review):
    light, _, rank = review.controls
    assert light.low <= light.resolution and 0.9 < light.high <= 1.0
    assert len(light.bars) == BINS and sum(light.bars) == light.scored == 20
    assert rank.ranked_by == "impact" and rank.resolution == 1
    ranked = [bar for bar in rank.bars if bar]
    assert ranked == sorted(ranked, reverse=True)  # the mean impact falls with the rank


def test_why_speaks_of_the_thresholds_that_are_asked(review):
    key = review.kept({})[-1].img_key
    assert review.why(key, {}).kept
    told = review.why(key, {"impact_rank": 1})
    assert (told.step, told.reason) == ("top", "not the brightest")
    assert told.judgements[-1].threshold == 1


@given(st.floats(0, 1), st.integers(1, 25))
@settings(max_examples=30, deadline=None)
def test_counts_agree_whatever_is_asked(review, light, rank):
    answer = review.ask({"light": light, "impact_rank": rank})
    assert answer.kept == answer.rows[-1].kept == 5 + answer.enters - answer.leaves
    assert all(before.kept == after.entered for before, after in zip(answer.rows, answer.rows[1:], strict=False))


def test_an_unknown_column_is_refused(review):
    with pytest.raises(RecipeError, match="no rule reads the column 'beauty'"):
        review.ask({"beauty": 1.0})


def test_percentiles_are_shares_that_score_less(review):
    assert review.percentile("light", 2.0).below == 1.0
    assert review.percentile("light", -1.0).below == 0.0
    assert review.percentile("light", 0.5).below == pytest.approx(0.5, abs=0.06)
    assert review.percentile("beauty", 0.5) is None


def test_thumbnails_come_from_the_pool_and_their_absence_is_told(finished, tmp_path):
    review = Review(finished / "run")
    key = review.kept({})[0].img_key
    assert review.thumbnail(key).size == (24, 16)
    shutil.copytree(finished / "run", tmp_path / "run")
    source = (tmp_path / "run" / "source.json").read_text().replace(str(finished / "pool"), str(tmp_path / "gone"))
    (tmp_path / "run" / "source.json").write_text(source)
    alone = Review(tmp_path / "run")
    assert not alone.has_pictures and alone.thumbnail(key) is None
    assert alone.ask({"light": 0.9}).kept == review.ask({"light": 0.9}).kept


def test_a_run_that_has_judged_nothing_is_said(finished, tmp_path):
    for name in ("recipe.json", "source.json"):
        shutil.copy(finished / "run" / name, tmp_path)
    with pytest.raises(LedgerError, match="judged nothing yet"):
        Review(tmp_path)
    with pytest.raises(LedgerError, match="not a run folder"):
        Review(tmp_path / "nowhere")


def test_recorded_ranks_are_those_that_would_be_given_anew(finished):
    ledger = Ledger(finished / "run")
    other = ledger.what_if(ledger.outline.with_thresholds({"impact_rank": 6}))
    asked = "SELECT img_key, impact_rank FROM samples ORDER BY img_key"
    assert other.query(asked).equals(ledger.query(asked))


@pytest.mark.parametrize(("step", "rounded"), [(0.0049, 0.005), (0.0033, 0.005), (13.0, 10.0), (0.02, 0.02), (0, 1.0)])
def test_steps_are_round_numbers(step, rounded):
    assert round_step(step) == rounded
    assert round_step(step, least=50.0) == 50.0
