"""Repository trees: which file lies where, and that a dry run writes them whole or not at all."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny_models import tiny_base
from toy_stages import recipe, write_pool

from alchemist_hub.errors import PublishError
from alchemist_hub.evaluation.results import read_report
from alchemist_hub.models import model
from alchemist_hub.publishing import trees
from alchemist_hub.publishing.checks import check
from alchemist_hub.publishing.rendered import MEASURED
from alchemist_hub.publishing.trees import Tree, base_tree, dataset_tree, model_tree, space_tree, write
from curation import dataset
from curation.engines import embedded


def front_matter(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8").split("---\n")[1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return tiny_base("sd15", tmp_path_factory.mktemp("checkpoint") / "pipeline")


def test_a_model_is_the_pipeline_and_its_card(checkpoint, tmp_path):
    tree = model_tree("sd15", checkpoint, tmp_path, organisation="alchemists")
    check(tree)
    assert tree.repository == "alchemists/stable-diffusion-v1-5-alchemist"
    own = {path.relative_to(checkpoint).as_posix(): path for path in checkpoint.rglob("*") if path.is_file()}
    for_older = {"text_encoder/model.safetensors", "tokenizer/vocab.json", "tokenizer/merges.txt"}
    assert set(tree.files) - set(own) == {"README.md"} | for_older - {"text_encoder/model.safetensors"}
    assert {path for path, file in own.items() if tree.files[path] != file} <= for_older
    card = front_matter(tree.files["README.md"])
    assert card["base_model"] == model("sd15").base and card["datasets"] == ["alchemists/alchemist"]
    assert tree.size == sum(file.stat().st_size for file in tree.files.values()) > 10_000


def test_half_precision_is_added_beside_the_whole(checkpoint, tmp_path):
    tree = model_tree("sd15", checkpoint, tmp_path, half=True)
    check(tree)
    assert {"unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"} <= set(
        tree.files
    )


def test_a_sheet_of_samples_lies_beside_the_card(checkpoint, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "sheet.png")
    tree = model_tree("sd15", checkpoint, tmp_path / "workshop", samples=tmp_path / "sheet.png")
    check(tree)
    assert "assets/samples.png" in tree.files


def test_what_a_download_leaves_beside_the_files_is_left_out(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / ".cache" / "pipeline")  # a name that only below it means anything
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "one.metadata").write_text("x")
    (folder / ".gitattributes").write_text("x")
    trees_of = [model_tree("sd15", each, tmp_path / str(index)) for index, each in enumerate((checkpoint, folder))]
    check(trees_of[1])
    assert set(trees_of[0].files) == set(trees_of[1].files) > {"model_index.json"}


def test_a_pipeline_of_another_class_is_refused(checkpoint, tmp_path):
    with pytest.raises(PublishError, match="is a StableDiffusionPipeline; sdxl is a StableDiffusionXLPipeline"):
        model_tree("sdxl", checkpoint, tmp_path)


def test_the_miniatures_base_has_a_card_that_names_its_sibling(tmp_path):
    tree = base_tree(tmp_path, organisation="alchemists")
    check(tree)
    assert tree.repository == "alchemists/miniature-base" and "unet/diffusion_pytorch_model.safetensors" in tree.files
    assert "https://huggingface.co/alchemists/miniature)" in tree.files["README.md"].read_text()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    write_pool(folder / "pool")
    embedded.run(recipe(), folder / "pool", folder / "run", workers=1)
    dataset.freeze(folder / "run")
    return folder / "run"


def test_a_data_set_is_its_tables_variants_urls_and_card(run, tmp_path):
    other = shutil.copytree(run / "dataset", tmp_path / "other")
    variants = {"3k": run / "dataset", "7k": other}
    tree = dataset_tree(run, tmp_path / "workshop", organisation="alchemists", variants=variants)
    check(tree)
    name = "train-00000-of-00001.parquet"
    assert set(tree.files) == {"README.md", f"data/{name}", f"7k/{name}", "urls/train.parquet"}
    assert tree.repository == "alchemists/alchemist" and tree.kind == "dataset"


def test_the_miniatures_data_set_has_a_name_of_its_own():
    facts = trees.read_dataset_facts("miniature")
    assert facts.repository != trees.read_dataset_facts("alchemist").repository


def test_the_space_is_this_checkout_with_a_front_matter_that_fits(tmp_path):
    tree = space_tree(tmp_path, organisation="alchemists")
    check(tree)
    card = front_matter(tree.files["README.md"])
    assert card["sdk"] == "gradio" and card["app_file"] in tree.files and "requirements.txt" in tree.files
    assert card["sdk_version"] in Path("constraints.txt").read_text()
    assert "alchemists/stable-diffusion-xl-base-1.0-alchemist" in card["models"]
    assert "alchemist_hub/miniature/weights/base/model_index.json" in tree.files
    assert not [path for path in tree.files if path.startswith(("tests/", "runs/", "benchmarks/")) or ".pyc" in path]


def test_the_space_is_refused_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "CHECKOUT", tmp_path)
    with pytest.raises(PublishError, match="the Space is made of a checkout"):
        space_tree(tmp_path)


def test_what_git_does_not_know_is_no_part_of_the_space(tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    known = ["app.py", "requirements.txt", "LICENSE", "alchemist_hub/__init__.py", "curation/__init__.py"]
    for name in [*known, "alchemist_hub/notes.txt"]:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(name)
    monkeypatch.setattr(trees, "CHECKOUT", checkout)
    unpacked = space_tree(tmp_path / "first").files  # an archive of the project, which is all there is
    subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
    subprocess.run(["git", "add", *known], cwd=checkout, check=True)
    assert set(space_tree(tmp_path / "second").files) == {*known, "README.md"}
    assert set(unpacked) == {*known, "README.md", "alchemist_hub/notes.txt"}


def test_a_dry_run_is_replaced_whole(tmp_path):
    (tmp_path / "one").write_text("1")
    tree = Tree(kind="dataset", repository="alchemists/tiny", files={"data/one": tmp_path / "one"})
    place = write(tree, tmp_path / "dry")
    (place / "stale").write_text("x")
    assert write(tree, tmp_path / "dry") == place == tmp_path / "dry" / "datasets" / "alchemists" / "tiny"
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["one"]
    assert [path.name for path in place.parent.iterdir()] == ["tiny"]


def test_a_dry_run_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "one").write_text("1")
    tree = Tree(kind="model", repository="alchemists/tiny", files={"one": tmp_path / "one"})
    with pytest.raises(PublishError, match="cannot be written: Not a directory; name another --dry-run folder"):
        write(tree, tmp_path / "one")


def test_prompts_are_those_of_the_report(tmp_path):
    from datasets import load_dataset

    tree = trees.prompts_tree(MEASURED / "mini", tmp_path / "workshop", organisation="alchemists")
    check(tree)
    folder = write(tree, tmp_path / "dry")
    rows = load_dataset(str(folder), split="test", cache_dir=str(tmp_path / "cache"))
    assert tuple(rows["prompt"]) == read_report(MEASURED / "mini").prompts
    assert tree.repository == "alchemists/miniature-prompts"
    assert front_matter(folder / "README.md")["license"] == "apache-2.0"
