"""The data set's card: `datasets` loads by it what it says, its numbers are the run's, and it tells no address."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset, load_dataset_builder
from huggingface_hub import DatasetCard
from toy_stages import recipe, write_pool

from alchemist_hub.errors import EvaluationError
from alchemist_hub.publishing.dataset_card import parse_variants, write_dataset_card
from curation import dataset
from curation.engines import embedded
from curation.errors import LedgerError


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_pool(folder / "pool")
    embedded.run(recipe(), folder / "pool", folder / "run", workers=1)
    dataset.freeze(folder / "run")
    dataset.write_urls(folder / "run", folder / "run" / "urls.parquet")
    return folder / "run"


@pytest.fixture
def repository(run, tmp_path) -> Path:
    """The repository as it would be published, with the card, and the data set a second time as the variant 7k."""
    folder = tmp_path / "repository"
    shutil.copytree(run / "dataset" / "data", folder / "data")
    shutil.copytree(run / "dataset" / "data", folder / "7k")
    (folder / "urls").mkdir()
    shutil.copyfile(run / "urls.parquet", folder / "urls" / "train.parquet")
    variant = shutil.copytree(run / "dataset", tmp_path / "other")
    variants = {"3k": run / "dataset", "7k": variant}
    write_dataset_card(run / "dataset", run, folder, variants=variants, urls=run / "urls.parquet")
    return folder


def told(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [None, "3k", "7k", "urls"])
def test_every_configuration_loads_with_the_features_splits_and_sizes_the_card_says(repository, name, tmp_path):
    built = load_dataset_builder(str(repository), name, cache_dir=str(tmp_path / "cache")).info
    rows = load_dataset(str(repository), name, split="train", cache_dir=str(tmp_path / "cache"))
    assert built.features == rows.features and built.splits["train"].num_examples == len(rows) == 11
    assert built.dataset_size == built.splits["train"].num_bytes > 0 and built.download_size > 0
    assert rows.column_names[:3] == ["img_key", "url", "prompt"]
    assert ("image" in rows.column_names) is (name != "urls")


def test_streaming_gives_the_same_rows_as_loading(repository, tmp_path):
    plain = load_dataset(str(repository), split="train", cache_dir=str(tmp_path / "cache"))
    streamed = load_dataset(str(repository), split="train", streaming=True)
    assert [row["img_key"] for row in streamed] == plain["img_key"][:]
    assert next(iter(streamed))["image"].size == plain[0]["image"].size


def test_the_metadata_survives_the_hubs_client(repository):
    data = DatasetCard(str(DatasetCard.load(repository / "README.md"))).data
    assert [each["config_name"] for each in data["configs"]] == ["default", "3k", "7k", "urls"]
    assert {each["config_name"] for each in data["dataset_info"]} == {"default", "3k", "7k", "urls"}
    assert (data.license, data.size_categories, data.task_categories) == ("other", "n<1K", ["text-to-image"])
    assert data["license_name"] and data["license_link"]


def test_a_variant_that_is_the_data_set_itself_shares_its_files(repository):
    configs = DatasetCard(told(repository)).data["configs"]
    paths = {each["config_name"]: each["data_files"][0]["path"] for each in configs}
    assert paths["3k"] == paths["default"] == "data/train-*.parquet"
    assert (paths["7k"], paths["urls"]) == ("7k/train-*.parquet", "urls/train.parquet")


def test_the_funnel_has_the_runs_counts_thresholds_and_reasons(repository, run):
    text = told(repository)
    for row in dataset.funnel(run):
        assert f"| {row.step} | {row.entered:,} | {row.kept:,} | {row.dropped:,} |" in text
        assert all(f"{count:,} {reason}" in text for reason, count in row.reasons.items())
    described = dataset.describe(run / "dataset")
    for step in described["recipe"]["steps"]:
        for rule in step["rules"]:
            assert f"`{rule['column']} {rule['op']} {str(rule['threshold']).lower()}`" in text
        assert f"| {step['name']} | {step['version']} |" in text
    assert described["fingerprint"] in text


def test_the_card_tells_licences_limits_and_how_to_have_a_picture_removed(repository):
    text = told(repository)
    assert "The images belong to whoever made them" in text
    assert "## Limits" in text and "## Removal" in text and "`img_key` or `url`" in text
    assert "arxiv.org/abs/2505.19297" in text


def test_every_column_is_described(repository, run):
    text = told(repository)
    (file,) = (run / "dataset" / "data").iterdir()
    for name in pq.read_schema(file).names:
        assert f"| `{name}` |" in text
    assert "written by the step" in text


def test_addresses_and_folders_of_a_judge_are_not_told(run, tmp_path):
    folder = shutil.copytree(run / "dataset", tmp_path / "dataset")
    described = dataset.describe(folder)
    config = {"endpoint": "http://10.0.0.7:8000/v1", "model": "/srv/models/captioner", "instruction": "a | b"}
    described["recipe"]["steps"][-1]["config"] = config
    (folder / "dataset.json").write_text(json.dumps(described))
    text = told(write_dataset_card(folder, run, tmp_path / "card").parent)
    assert "10.0.0.7" not in text and "/srv" not in text and str(tmp_path) not in text
    assert "model captioner; instruction a \\| b" in text


def test_a_run_that_does_not_lead_to_the_data_set_is_refused(run, tmp_path):
    folder = shutil.copytree(run / "dataset", tmp_path / "dataset")
    described = dataset.describe(folder) | {"samples": 12}
    (folder / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(EvaluationError, match="the data set has 12 samples, .* keeps 11 by the steps"):
        write_dataset_card(folder, run, tmp_path / "card")


def test_a_folder_that_is_no_data_set_is_refused(run, tmp_path):
    with pytest.raises(LedgerError, match="no data set in"):
        write_dataset_card(tmp_path, run, tmp_path / "card")


@pytest.mark.parametrize("pair", ["7k", "=x", "7k=", "../up=x", "default=x", "data=x"])
def test_a_variant_needs_a_new_plain_name_and_a_folder(pair):
    assert parse_variants(["7k=a/b", "19k=c"]) == {"7k": Path("a/b"), "19k": Path("c")}
    with pytest.raises(EvaluationError, match="expected NAME=FOLDER"):
        parse_variants([pair])
