"""Commit, verdicts, what-if and explanations, on ledgers written shard by shard."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import shards
from curation.errors import LedgerError, RecipeError
from curation.explain import find, funnel, why
from curation.ledger import Ledger
from curation.plan import Outline, StepOutline
from curation.records import img_key
from curation.stages.base import Rule

LIGHT = Rule(column="light", op=">=", threshold=0.5, reason="too dark")
AREA = Rule(column="area", op=">=", threshold=100, reason="too small")
KEEPER = Rule(column="is_keeper", op="==", threshold=True, reason="near-duplicate of a better picture")
PRETTY = Rule(column="pretty", op=">", threshold=0.25, reason="plain")


def step(name, segment, columns, *rules, reduction=False):
    return StepOutline(
        name=name,
        segment=segment,
        is_reduction=reduction,
        version="1",
        config={},
        reads=(),
        columns=columns,
        rules=rules,
    )


OUTLINE = Outline(
    name="toy",
    steps=(
        step("area", "00-first", {"area": "int64"}, AREA),
        step("light", "00-first", {"light": "float"}, LIGHT),
        step("twins", "01-twins", {"is_keeper": "bool", "duplicate_keeper": "string"}, KEEPER, reduction=True),
        step("pretty", "02-pretty", {"pretty": "float"}, PRETTY),
    ),
)
NAMES = ("good", "small", "dark", "twin", "broken", "plain", "nan")
KEYS = {name: img_key(name.encode()) for name in NAMES}


def first_shard(names, **scores):
    count = len(names)
    return pa.table(
        {
            "img_key": [KEYS[name] for name in names],
            "url": [f"deep/{name}.jpg" for name in names],
            "text": [f"a {name} picture" for name in names],
            "extra": pa.nulls(count, pa.string()),
            "status": ["undecodable" if name == "broken" else "ok" for name in names],
            "detail": pa.array(["damaged: cut short" if name == "broken" else None for name in names], pa.string()),
            "width": pa.array([20] * count, pa.int32()),
            "height": pa.array([20] * count, pa.int32()),
            "bytes": pa.array([9] * count, pa.int64()),
            "slice": ["s0"] * count,
            "area": pa.array(scores["area"], pa.int64()),
            "light": pa.array(scores["light"], pa.float32()),
        }
    )


@pytest.fixture
def run(tmp_path):
    shards.write_atomically(tmp_path / "recipe.json", json.dumps(OUTLINE.to_json()).encode())
    shards.write_atomically(tmp_path / "source.json", json.dumps({"location": str(tmp_path / "pool")}).encode())
    first = tmp_path / "ledger" / "00-first"
    area = [400, 90, 400, 400, None, 400, 400]
    light = [0.9, 0.9, 0.1, 0.7, None, 0.5, float("nan")]
    whole = first_shard(NAMES, area=area, light=light)
    shards.commit(first, "a", whole.slice(0, 4))
    shards.commit(first, "b", whole.slice(4))
    copy = whole.slice(0, 1).set_column(1, "url", pa.array(["a/copy.jpg"]))
    shards.commit(first, "c", copy)
    twins = pa.table(
        {
            "img_key": [KEYS["good"], KEYS["plain"], KEYS["twin"]],
            "is_keeper": [True, True, False],
            "duplicate_keeper": [KEYS["good"], KEYS["plain"], KEYS["good"]],
        }
    )
    shards.commit(tmp_path / "ledger" / "01-twins", "t", twins)
    shards.point_at(tmp_path / "ledger" / "01-twins", "t")
    late = pa.table(
        {
            "img_key": [KEYS["good"], KEYS["plain"]],
            "status": ["ok", "ok"],
            "detail": pa.array([None, None], pa.string()),
            "pretty": pa.array([0.8, 0.1], pa.float32()),
        }
    )
    shards.commit(tmp_path / "ledger" / "02-pretty", "p", late)
    return tmp_path


def dropped(ledger, outline=None):
    by_key = {row["img_key"]: row for row in ledger.verdicts(outline).to_pylist()}
    return {name: (by_key[KEYS[name]]["step"], by_key[KEYS[name]]["reason"]) for name in NAMES}


EXPECTED = {
    "good": (None, None),
    "small": ("area", "too small"),
    "dark": ("light", "too dark"),
    "twin": ("twins", "near-duplicate of a better picture"),
    "broken": ("area", "undecodable"),
    "plain": ("pretty", "plain"),
    "nan": ("light", "not scored"),
}


def test_first_failing_rule_is_the_verdict(run):
    ledger = Ledger(run)
    assert dropped(ledger) == EXPECTED
    assert ledger.survivors()["img_key"].to_pylist() == [KEYS["good"]]
    kept = {row["img_key"] for row in ledger.verdicts().to_pylist() if row["kept"]}
    assert kept == {KEYS["good"]}


def test_funnel_counts_every_step_and_exact_copies(run):
    rows = {row.step: row for row in funnel(Ledger(run))}
    assert list(rows) == ["source", "area", "light", "twins", "pretty"]
    assert (rows["source"].entered, rows["source"].kept) == (8, 7)
    assert rows["source"].reasons == {"exact copy of another file": 1}
    assert rows["area"].reasons == {"too small": 1, "undecodable": 1}
    assert rows["light"].reasons == {"not scored": 1, "too dark": 1}
    assert (rows["pretty"].entered, rows["pretty"].kept, rows["pretty"].dropped) == (2, 1, 1)


def test_one_row_per_key_remembers_every_place(run):
    scores = Ledger(run).scores(["img_key", "url", "urls", "pretty"]).to_pylist()
    assert [row["img_key"] for row in scores] == sorted(KEYS.values())
    good = next(row for row in scores if row["img_key"] == KEYS["good"])
    assert good["url"] == "a/copy.jpg" and good["urls"] == ["a/copy.jpg", "deep/good.jpg"]


def test_readers_see_markers_only(run):
    (run / "ledger" / "00-first" / "a.done").unlink()
    assert len(Ledger(run).scores()) == 4
    (run / "ledger" / "00-first" / "zz.parquet").write_bytes(b"half written")
    assert len(Ledger(run).scores()) == 4


def test_a_second_commit_changes_nothing(run):
    first = run / "ledger" / "00-first"
    before = (first / "a.parquet").stat().st_mtime_ns
    shards.commit(first, "a", pa.table({"img_key": ["other"]}))
    assert (first / "a.parquet").stat().st_mtime_ns == before
    assert not [path for path in first.iterdir() if path.name.endswith(".tmp")]


def test_what_if_reads_scores_only_and_says_where_there_are_none(run):
    ledger = Ledger(run)
    looser = ledger.outline.with_thresholds({"area": 50, "pretty": 0.05, "is_keeper": False})
    told = dropped(ledger, looser)
    assert told["small"] == ("twins", "not scored")  # no one judged it there
    assert told["twin"] == ("pretty", "not scored")
    assert told["good"][0] == "twins"
    assert dropped(ledger) == EXPECTED
    with pytest.raises(
        RecipeError, match="no rule reads the column 'lihgt'; rules read: area, is_keeper, light, pretty"
    ):
        ledger.outline.with_thresholds({"lihgt": 1})


def test_a_segment_that_never_ran_has_no_scores(run):
    for path in (run / "ledger" / "02-pretty").iterdir():
        path.unlink()
    ledger = Ledger(run)
    assert dropped(ledger)["good"] == ("pretty", "not scored")
    assert set(ledger.unscored("02-pretty")["img_key"].to_pylist()) == {KEYS["good"], KEYS["plain"]}


def test_why_tells_scores_thresholds_and_the_keeper(run):
    told = why(Ledger(run), "deep/twin.jpg")
    assert (told.step, told.reason, told.kept) == ("twins", KEEPER.reason, False)
    assert (told.keeper, told.keeper_url) == (KEYS["good"], "a/copy.jpg")
    assert [(j.column, j.score, j.outcome) for j in told.judgements] == [
        ("area", 400, "keep"),
        ("light", pytest.approx(0.7), "keep"),
        ("is_keeper", False, "drop"),
        ("pretty", None, "not reached"),
    ]
    broken = why(Ledger(run), KEYS["broken"])
    assert broken.reason == "undecodable: damaged: cut short"
    assert why(Ledger(run), KEYS["good"]).kept


def test_samples_are_found_by_prefix_place_or_file(run, tmp_path):
    ledger = Ledger(run)
    (tmp_path / "mine.jpg").write_bytes(b"dark")
    for name in (KEYS["dark"], KEYS["dark"][:8], "deep/dark.jpg", "dark.jpg", str(tmp_path / "mine.jpg")):
        assert find(ledger, name) == KEYS["dark"]
    assert find(ledger, "good.jpg") == KEYS["good"]
    with pytest.raises(LedgerError, match="no sample of .* answers to 'nothing.jpg'"):
        find(ledger, "nothing.jpg")


def test_an_ambiguous_name_lists_what_it_could_mean(tmp_path, run):
    row = first_shard(["small"], area=[1], light=[1.0]).to_pylist()[0]
    rows = [row | {"img_key": f"abcd{n}" * 4, "url": f"{n}/same.jpg"} for n in (1, 2)]
    schema = first_shard(["small"], area=[1], light=[1.0]).schema
    shards.commit(run / "ledger" / "00-first", "d", pa.Table.from_pylist(rows, schema))
    with pytest.raises(LedgerError, match="2 samples answer to 'same.jpg'.*1/same.jpg.*2/same.jpg"):
        find(Ledger(run), "same.jpg")
    with pytest.raises(LedgerError, match="2 samples answer to 'abcd'"):
        find(Ledger(run), "abcd")


def test_float32_scores_meet_thresholds_written_in_decimal(run):
    outline = OUTLINE.with_thresholds({"light": float("0.7")})
    assert dropped(Ledger(run), outline)["twin"][0] == "twins"


def test_what_is_not_a_run_is_said_in_one_line(tmp_path):
    with pytest.raises(LedgerError, match="is not a run folder"):
        Ledger(tmp_path / "nowhere")
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(LedgerError, match="cannot read"):
        Ledger(tmp_path)


def test_shares_of_the_pool_become_counts():
    share = replace(PRETTY, column="rank", op="<=", threshold=0.04, of_pool=True)
    outline = Outline(name="x", steps=(step("top", "00", {"rank": "int64"}, share),))
    assert outline.resolved(4000).steps[0].rules[0].threshold == 160
    assert outline.resolved(3).steps[0].rules[0].threshold == 1
    assert outline.difference(outline.resolved(4000)) is None
    assert Outline.from_json(json.loads(json.dumps(outline.to_json()))) == outline


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1, width=32)), min_size=1, max_size=30),
    st.integers(0, 9),
    st.floats(0, 1, width=32),
)
def test_verdicts_agree_with_plain_python(tmp_path_factory, rows, area, light):
    run = tmp_path_factory.mktemp("run")
    outline = replace(OUTLINE, steps=OUTLINE.steps[:2]).with_thresholds({"area": area, "light": light})
    shards.write_atomically(run / "recipe.json", json.dumps(outline.to_json()).encode())
    shards.write_atomically(run / "source.json", b"{}")
    table = pa.concat_tables(
        first_shard(["good"], area=[a], light=[b]).set_column(0, "img_key", pa.array([f"{n:04d}"]))
        for n, (a, b) in enumerate(rows)
    )
    shards.commit(run / "ledger" / "00-first", "x", table)
    expected = [a >= area and np.float32(b) >= np.float32(light) for a, b in rows]
    assert Ledger(run).verdicts()["kept"].to_pylist() == expected


@pytest.fixture
def large(run, monkeypatch):
    """The same run, of a pool that counts as large."""
    monkeypatch.setattr("curation.ledger.INDEXED", 7)
    shards.write_atomically(run / "source.json", json.dumps({"location": "pool", "samples": 8, "shards": 3}).encode())
    return run


def everything(run):
    ledger = Ledger(run)
    tables = repr([ledger.verdicts().to_pylist(), ledger.scores().to_pylist()])  # as text: NaN is not equal to itself
    return tables, funnel(ledger), ledger.unscored("02-pretty")


def test_a_large_pool_is_joined_once_and_told_like_a_small_one(large):
    told = everything(large)
    (index,) = (large / "index").iterdir()
    made = index.stat().st_mtime_ns
    assert everything(large) == told
    assert [path.stat().st_mtime_ns for path in (large / "index").iterdir()] == [made]
    assert dropped(Ledger(large)) == EXPECTED
    shutil.rmtree(large / "index")
    shards.write_atomically(large / "source.json", b'{"location": "pool", "samples": 6}')
    assert everything(large) == told
    assert not (large / "index").exists()


def test_the_joined_table_follows_what_is_committed_and_earlier_readers_keep_theirs(large):
    before = Ledger(large)
    assert len(before.scores()) == 7
    (large / "ledger" / "00-first" / "a.done").unlink()
    assert len(Ledger(large).scores()) == 4
    assert len(list((large / "index").iterdir())) == 1
    assert len(before.scores()) == 7


def test_a_large_pool_is_read_where_nothing_can_be_written(large):
    (large / "index").write_text("in the way")
    assert dropped(Ledger(large)) == EXPECTED


def test_progress_counts_what_reached_a_segment_and_what_it_judged(run):
    assert Ledger(run).progress("02-pretty") == (2, 2)
    (run / "ledger" / "02-pretty" / "p.done").unlink()
    assert Ledger(run).progress("02-pretty") == (2, 0)
