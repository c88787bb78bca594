"""Scores from files, kept with their weights' revisions, compared over prompts."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tiny_scorers import tiny_clip

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import scored, votes
from alchemist_hub.evaluation.scored import read_scores, revisions, score_pictures, summarise, write_scores
from alchemist_hub.evaluation.scorers import scorer


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{index}.png" for index in range(5)]
    for index, path in enumerate(paths):
        small = rng.integers(0, 256, (4 + 8 * index, 4 + 8 * index, 3), dtype=np.uint8)
        Image.fromarray(small).resize((64, 64)).save(path)
    return paths


def test_every_scorer_sees_every_picture_with_its_own_prompt_and_a_void_stays_one(files, tmp_path, monkeypatch):
    monkeypatch.setattr(scored, "AT_ONCE", 2)
    scorers = [scorer("clip-score", weights=tiny_clip(tmp_path / "clip")), scorer("complexity")]
    prompts = ["a photo of mars", "the sea", "the moon at night", "a sketch", "sunset over the forest"]
    paths = [*files[:2], None, *files[3:]]
    found = score_pictures(paths, prompts, scorers)
    for one in scorers:
        for row in (0, 1, 3, 4):
            alone = one.score([Image.open(files[row])], [prompts[row]])[0]
            assert found[one.name][row] == pytest.approx(alone, abs=1e-4)
    assert list(found) == ["clip-score", "complexity"] and all(np.isnan(values[2]) for values in found.values())


def test_what_cannot_be_scored_is_refused(files, tmp_path: Path):
    with pytest.raises(EvaluationError, match="5 pictures and 1 prompts"):
        score_pictures(files, ["a"], [scorer("complexity")])
    files[0].write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match="0.png is no picture"):
        score_pictures(files, ["a"] * 5, [scorer("complexity")])


def table(ours: np.ndarray, theirs: np.ndarray) -> pa.Table:
    """Two arms of (P, S) scores as rows, the opponent's in another order."""
    rows = [
        {"arm": arm, "prompt_index": prompt, "prompt": f"p{prompt}", "seed": seed, "complexity": scores[prompt, seed]}
        for arm, scores in (("tuned", ours), ("base", theirs))
        for prompt, seed in sorted(np.ndindex(scores.shape), reverse=arm == "base")
    ]
    return pa.Table.from_pylist(rows)


def test_a_table_remembers_which_weights_its_scores_come_from(tmp_path: Path):
    written = table(np.ones((3, 2)), np.zeros((3, 2))).replace_schema_metadata({"other": "kept"})
    about = revisions([scorer("complexity")])
    write_scores(written, about, tmp_path / "scores.parquet")
    found, kept = read_scores(tmp_path / "scores.parquet")
    assert found.equals(written) and kept == about and found.schema.metadata[b"other"] == b"kept"
    assert kept["complexity"]["source"] == "computed" and kept["complexity"]["higher_is_better"] is True


def test_tables_without_columns_or_revisions_are_refused(tmp_path: Path):
    about = revisions([scorer("complexity"), scorer("complexity-jpeg")])
    with pytest.raises(EvaluationError, match="no column for complexity-jpeg"):
        write_scores(table(np.ones((1, 1)), np.ones((1, 1))), about, tmp_path / "scores.parquet")
    write_scores(pa.table({"a": [1]}), {}, tmp_path / "bare.parquet")
    scored.write_parquet(pa.table({"a": [1]}), tmp_path / "silent.parquet")
    assert read_scores(tmp_path / "bare.parquet")[1] == {}
    with pytest.raises(EvaluationError, match="does not say which weights"):
        read_scores(tmp_path / "silent.parquet")
    with pytest.raises(EvaluationError, match="missing.parquet is no table"):
        read_scores(tmp_path / "missing.parquet")


def test_a_summary_pairs_by_prompt_and_seed_and_bootstraps_prompts():
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=(12, 3))
    ours = theirs + 0.5 + 0.1 * rng.normal(size=(12, 3))
    ours[4, 1] = np.nan
    (found,) = summarise(table(ours, theirs), revisions([scorer("complexity")]), "tuned", "base")
    assert found.difference == votes.mean_difference(ours, theirs) and found.difference.above(0.4)
    assert found.mean == votes.bootstrap_mean(ours) and found.opponent_mean == votes.bootstrap_mean(theirs)
    assert found.win_rate == votes.win_rate(ours, theirs) and found.win_rate.value == 1
    (worse,) = summarise(
        table(ours, theirs), {"complexity": {"unit": "bits", "higher_is_better": False}}, "tuned", "base"
    )
    assert worse.win_rate.value == 0 and worse.difference == found.difference


def test_an_arm_with_fewer_pictures_is_compared_where_both_have_one():
    whole = table(np.full((4, 2), 2.0), np.ones((4, 2)))
    (found,) = summarise(whole.slice(3), revisions([scorer("complexity")]), "tuned", "base")
    assert found.difference.value == 1 and found.mean.value == 2
    with pytest.raises(EvaluationError, match="no arm 'other' in the scores; there are tuned, base"):
        summarise(whole, revisions([scorer("complexity")]), "other", "base")
