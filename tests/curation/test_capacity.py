"""What a pool would cost: the arithmetic, the rates that are measured, and the rates that a run remembers."""

import json
import shutil
from dataclasses import replace

import pytest
from toy_stages import recipe, write_pool
from typer.testing import CliRunner

from curation import cli, recipes
from curation.capacity import Hardware, costs, plan_of_run
from curation.engines import embedded
from curation.errors import LedgerError, RecipeError
from curation.rates import Rates, measure, picture_side
from curation.sources import open_source
from curation.stages.base import Rule

HOUR = 3600.0


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return write_pool(tmp_path_factory.mktemp("files") / "pool")


@pytest.fixture(scope="module")
def finished(pool, tmp_path_factory):
    run = tmp_path_factory.mktemp("finished") / "run"
    embedded.run(recipe(top=0.25), pool, run, workers=1)
    return run


def rates():
    """An hour of reading and of judging in each stage segment, half an hour in the reduction."""
    return [
        Rates(title="light", seconds={"reading": HOUR, "light": HOUR}, bytes=1e6, memory=2e9, is_reduction=False),
        Rates(title="rank", seconds={"rank": HOUR / 2}, bytes=0.0, memory=100.0, is_reduction=True),
        Rates(title="wide", seconds={"wide": HOUR}, bytes=1e6, memory=1e9, is_reduction=False),
    ]


def test_costs_are_rates_times_what_reaches_each_segment():
    light, rank, wide = costs(recipe(top=0.05).outline, rates(), {"rank": 0.5}, 1000, Hardware())
    assert (light.samples, light.core_hours, light.bytes, light.memory) == (1000, 2000, 1e9, 2e9)
    assert (rank.samples, rank.core_hours, rank.memory) == (500, 250, 100 * 500)
    assert (wide.samples, wide.core_hours, wide.bytes) == (50, 50, 5e7)  # the rule of the top lets no more through
    assert [cost.gpu_hours for cost in (light, rank, wide)] == [0, 0, 0]
    assert light.hours is None


def test_hours_are_those_of_whatever_is_shortest():
    cores = Hardware(cores=100)
    assert [cost.hours for cost in costs(recipe().outline, rates(), {}, 1000, cores)] == [20, 500, 5]
    slow = Hardware(cores=100, bandwidth=1000.0)
    assert costs(recipe().outline, rates(), {}, 1000, slow)[0].hours == pytest.approx(1e9 / 1000 / 3600)


def test_a_gpu_takes_the_networks_and_only_at_the_speed_that_was_declared(monkeypatch):
    monkeypatch.setattr("toy_stages.Light.config", lambda self: {"model": "sha256:0"})
    outline, hardware = recipe().outline, Hardware(cores=10, gpus=2, gpu_speed=20.0)
    light = costs(outline, rates(), {}, 1000, hardware)[0]
    assert (light.core_hours, light.gpu_hours, light.hours) == (1000, 50, 100)
    monkeypatch.setattr("toy_stages.Light.config", lambda self: {"model": "sees", "endpoint": "http://host/v1"})
    assert costs(recipe().outline, rates(), {}, 1000, hardware)[0].gpu_hours == 0
    for half in ({"gpus": 2}, {"gpu_speed": 20.0}):
        with pytest.raises(RecipeError, match="--gpus N --gpu-speed X"):
            Hardware(**half)


def test_every_segment_is_measured_on_the_real_stages(pool):
    light, rank, wide = measure(recipe(), open_source(pool), 10)
    assert list(light.seconds) == ["reading", "decoding", "light"] and light.seconds["decoding"] > 0
    sizes = [path.stat().st_size for path in pool.iterdir()]
    assert min(sizes) <= light.bytes <= max(sizes)
    assert light.memory is None or light.memory > 10e6
    assert rank.is_reduction and rank.seconds["rank"] > 0
    assert list(wide.seconds) == ["reading", "wide"]
    with pytest.raises(RecipeError, match="2 pictures are too few"):
        measure(recipe(), open_source(pool), 2)


def test_generated_pictures_are_as_large_as_the_recipe_keeps():
    outline = recipe().outline
    assert picture_side(outline) > 512
    rule = Rule(column="area", op=">=", threshold=100 * 100, reason="too small")
    assert picture_side(replace(outline, steps=(replace(outline.steps[0], rules=(rule,)),))) == 110


def test_a_finished_run_remembers_its_rates_and_shares(finished):
    planned = plan_of_run(finished, 22e6, Hardware())
    light, rank, wide = planned.costs
    assert light.core_hours > 0 and set(planned.rates[0].seconds) == {"reading", "decoding", "light"}
    assert [cost.samples for cost in planned.costs] == [22e6, 16e6, 5.0]  # 6 of 22 were too dark or broken; top: 5
    assert wide.core_hours > 0 and rank.core_hours == 0


def test_a_run_that_tells_no_rates_is_one_line(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for marker in (run / "ledger").rglob("*.done"):
        marker.write_text('{"rows": 2}')
    with pytest.raises(LedgerError, match="does not tell what light cost; measure with --source"):
        plan_of_run(run, 1e6, Hardware())


def test_plan_prints_a_table_with_every_assumption_or_json(finished, pool, monkeypatch):
    monkeypatch.setattr(recipes, "miniature", lambda models: recipe())
    app = cli.make_app(lambda: pool)
    words = ["plan", "--samples", "1e9", "--run", str(finished), "--cores", "100", "--gpus", "2", "--gpu-speed", "30"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "1,000,000,000" in told.stdout and "30 times such a core (declared, not measured)" in told.stdout
    values = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert values["costs"][0]["samples"] == 1e9 and values["assumptions"]
    refused = CliRunner().invoke(app, words[:-2])
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1


def test_plan_measures_on_a_pool_with_the_papers_shares(pool, monkeypatch):
    monkeypatch.setattr(recipes, "miniature", lambda models: recipe())
    told = CliRunner().invoke(cli.make_app(lambda: pool), ["plan", "--samples", "1e6", "--source", str(pool), "--json"])
    values = json.loads(told.stdout)
    assert [rate["title"] for rate in values["rates"]] == ["light", "rank", "wide"]
    assert any("(paper, Figure 2)" in line for line in values["assumptions"])
    assert any(str(pool) in line for line in values["assumptions"])
