"""model_cards/rendered/: what lies there is what the templates, the facts and what was measured say today."""

import shutil
import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard
from toy_stages import recipe, write_pool

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.results import REPORT
from alchemist_hub.miniature import weights
from alchemist_hub.models import MODELS, model
from alchemist_hub.publishing import rendered
from alchemist_hub.publishing.dataset_card import evidence_of
from alchemist_hub.publishing.rendered import (
    DATASET,
    MEASURED,
    RENDERED,
    keep_report,
    keep_run,
    read_evidence,
    render_all,
)
from curation import dataset
from curation.engines import embedded


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rendered")
    render_all(folder, MEASURED)
    return folder


def paths(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_card_in_model_cards_is_current(fresh):
    assert paths(RENDERED) == paths(fresh), "run: python -m alchemist_hub.publishing.rendered"
    for path in paths(fresh):
        if path.endswith((".md", ".yaml")):  # pictures depend on who compressed them
            assert (RENDERED / path).read_bytes() == (fresh / path).read_bytes(), path


def test_every_picture_that_a_card_shows_is_there(fresh):
    for card in fresh.glob("*/README.md"):
        shown = [part.partition(")")[0] for part in card.read_text(encoding="utf-8").split("](assets/")[1:]]
        assert set(shown) == {path.name for path in (card.parent / "assets").glob("*")}


def test_the_miniature_is_told_with_its_measured_results_and_the_five_as_not_evaluated(fresh):
    for key in MODELS:
        card = ModelCard.load(fresh / key / "README.md")
        assert bool(card.data.eval_results) is (key == "mini")
        assert ("has not been evaluated" in card.text) is (key != "mini")
    assert DatasetCard.load(fresh / DATASET / "README.md").data["dataset_info"]


def test_what_is_kept_of_a_report_makes_the_same_card(fresh, tmp_path):
    keep_report(MEASURED / "mini", tmp_path / "mini")
    assert paths(tmp_path / "mini") == paths(MEASURED / "mini")
    shutil.copy(MEASURED / f"{DATASET}.json", tmp_path)
    render_all(tmp_path / "cards", tmp_path)
    assert (tmp_path / "cards" / "mini" / "README.md").read_bytes() == (fresh / "mini" / "README.md").read_bytes()
    with pytest.raises(EvaluationError, match="no evaluation in"):
        keep_report(Path(model("mini").tuned), tmp_path / "none")


def test_what_is_kept_of_a_run_is_what_its_card_tells(tmp_path):
    write_pool(tmp_path / "pool")
    embedded.run(recipe(), tmp_path / "pool", tmp_path / "run", workers=1)
    dataset.freeze(tmp_path / "run")
    keep_run(tmp_path / "run", tmp_path / "kept.json")
    kept, told = read_evidence(tmp_path / "kept.json"), evidence_of(tmp_path / "run" / "dataset", tmp_path / "run")
    assert kept.described == told.described
    assert kept.configurations[0] == told.configurations[0] and kept.configurations[1].name == "urls"
    assert [(each.step, each.kept, each.rules) for each in kept.passages] == [
        (each.step, each.kept, list(each.rules)) for each in told.passages
    ]


def test_the_command_keeps_what_is_measured_and_renders_it(fresh, tmp_path, monkeypatch):
    for name in ("MEASURED", "RENDERED"):
        monkeypatch.setattr(rendered, name, tmp_path / name)
    shutil.copytree(MEASURED, tmp_path / "MEASURED")
    (tmp_path / "MEASURED" / "mini" / "report.json").unlink()
    monkeypatch.setattr(sys, "argv", ["rendered", "--report", str(MEASURED / "mini")])
    rendered.main()
    assert paths(tmp_path / "MEASURED") == paths(MEASURED) and paths(tmp_path / "RENDERED") == paths(fresh)


def test_the_app_shows_the_evaluation_that_the_card_tells():
    shipped = weights() / "report" / REPORT
    assert shipped.read_bytes() == (rendered.MEASURED / "mini" / REPORT).read_bytes()
