"""The test Hub, spoken to by unmodified clients in processes of their own: what they write is what they read."""

from pathlib import Path

import hub_server
import pytest
from hub_client import LARGE, PUBLISH, TREE, client, write_tree
from hub_server import Hub
from tiny_data import tiny_dataset


@pytest.fixture
def hub(tmp_path: Path):
    with hub_server.serving(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree")


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_a_folder_comes_back_as_it_went(hub: Hub, folder: Path, xet: bool) -> None:
    client(hub, PUBLISH, folder, xet=xet)
    attributes = hub.files("alchemists/tiny").pop(".gitattributes")
    assert hub.files("alchemists/tiny") == TREE | {".gitattributes": attributes}
    came_back = client(
        hub,
        """
here, there = tree(sys.argv[1]), tree(snapshot_download(name))
del there[".gitattributes"]
say(here == there and len(here))
""",
        folder,
        xet=xet,
    )
    assert came_back == len(TREE)
    assert any(path.startswith("POST /v1/xorbs/" if xet else "PUT /lfs/") for path in hub.requests)


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_contents_that_are_there_are_not_sent_again(hub: Hub, folder: Path, tmp_path: Path, xet: bool) -> None:
    first = client(hub, PUBLISH, folder, xet=xet)
    assert hub.received_bytes > len(LARGE)
    before = hub.received_bytes
    again = client(hub, PUBLISH, folder, xet=xet)
    assert (again, hub.received_bytes) == (first, before)
    elsewhere = client(hub, PUBLISH, folder, xet=xet, HF_HOME=str(tmp_path / "another machine"))
    assert (elsewhere, hub.received_bytes) == (first, before)


def test_trees_revisions_and_pull_requests_are_told_as_they_are(hub: Hub, folder: Path) -> None:
    client(hub, PUBLISH, folder)
    told = client(
        hub,
        """
main = api.repo_info(name).sha
api.create_branch(name, branch="next")
api.create_branch(name, branch="next", exist_ok=True)
operations = [CommitOperationDelete("unet/"), CommitOperationDelete("config.json")]
operations.append(CommitOperationAdd("new.txt", b"new"))
next = api.create_commit(name, operations, commit_message="Prune", revision="next", parent_commit=main)
pull = api.upload_folder(repo_id=name, folder_path=sys.argv[1] + "/unet", path_in_repo="vae", create_pr=True)
one_go = api.create_commit(name, [CommitOperationAdd("b.txt", b"b")], commit_message="Add", create_pr=True)
refs = api.list_repo_refs(name, include_pull_requests=True)
say({
    "next": api.list_repo_files(name, revision="next"),
    "next commit": api.repo_info(name, revision="next").sha == next.oid,
    "top": sorted(entry.path for entry in api.list_repo_tree(name)),
    "unet": sorted(entry.path for entry in api.list_repo_tree(name, "unet")),
    "pulls": [pull.pr_revision, one_go.pr_revision],
    "in pull": "vae/floats.bin" in tree(snapshot_download(name, revision=pull.pr_revision)),
    "refs": [ref.name for ref in refs.branches + refs.pull_requests],
    "main": api.repo_info(name).sha == main,
    "sizes": {file.rfilename: file.size for file in api.repo_info(name, files_metadata=True).siblings},
    "titles": [commit.title for commit in api.list_repo_commits(name, revision="next")],
    "card": api.model_info(name).card_data.to_dict(),
})
""",
        folder,
    )
    sizes = told.pop("sizes")
    del sizes[".gitattributes"]
    assert sizes == {name: len(content) for name, content in TREE.items()}
    assert told == {
        "next": [".gitattributes", "README.md", "empty.txt", "new.txt"],
        "next commit": True,
        "top": [".gitattributes", "README.md", "config.json", "empty.txt", "unet"],
        "unet": ["unet/floats.bin", "unet/weights.safetensors"],
        "pulls": ["refs/pr/1", "refs/pr/2"],
        "in pull": True,
        "refs": ["main", "next", "refs/pr/1", "refs/pr/2"],
        "main": True,
        "titles": ["Prune", "Upload folder using huggingface_hub", "initial commit"],
        "card": {"license": "mit", "tags": ["tiny"]},
    }


def test_refusals_are_those_that_the_client_knows(hub: Hub, folder: Path) -> None:
    client(hub, PUBLISH, folder)
    hub.gate("alchemists/tiny")
    told = client(
        hub,
        """
api.create_repo("alchemists/hidden", private=True, repo_type="dataset")
api.create_repo("alchemists/gone")
api.delete_repo("alchemists/gone")
stranger = HfApi(token=False)
say({
    "gated": refused(lambda: api.hf_hub_download(name, "config.json")),
    "gate": refused(lambda: api.auth_check(name)),
    "open": refused(lambda: api.auth_check(name, write=True)),
    "conflict": refused(lambda: api.create_repo(name)),
    "elsewhere": refused(lambda: api.create_repo("nobody/tiny")),
    "bad token": refused(lambda: HfApi(token="hf_wrong").whoami()),
    "bad token, creating": refused(lambda: HfApi(token="hf_wrong").create_repo(name)),
    "missing": refused(lambda: api.repo_info("alchemists/missing")),
    "gone": refused(lambda: api.repo_info("alchemists/gone")),
    "revision": refused(lambda: api.repo_info(name, revision="missing")),
    "no file": refused(lambda: api.hf_hub_download("alchemists/hidden", "missing", repo_type="dataset")),
    "hidden": refused(lambda: stranger.dataset_info("alchemists/hidden")),
    "stranger": refused(lambda: stranger.create_branch(name, branch="mine")),
    "parent": refused(lambda: api.create_commit(
        name, [CommitOperationAdd("a.txt", b"a")], commit_message="A", parent_commit="0" * 40)),
    "card": refused(lambda: api.create_commit(
        name, [CommitOperationAdd("README.md", b"---\\na: [\\n---\\n")], commit_message="A")),
})
""",
    )
    assert told == {
        "gated": ["GatedRepoError", 403],
        "gate": ["GatedRepoError", 403],
        "open": "None",
        "conflict": ["HfHubHTTPError", 409],
        "elsewhere": ["HfHubHTTPError", 403],
        "bad token": ["HfHubHTTPError", 401],
        "bad token, creating": ["HfHubHTTPError", 401],
        "missing": ["RepositoryNotFoundError", 404],
        "gone": ["RepositoryNotFoundError", 404],
        "revision": ["RevisionNotFoundError", 404],
        "no file": ["RemoteEntryNotFoundError", 404],
        "hidden": ["RepositoryNotFoundError", 401],
        "stranger": ["HfHubHTTPError", 401],
        "parent": ["HfHubHTTPError", 412],
        "card": ["ValueError", None],
    }


def test_collections_and_spaces_are_kept(hub: Hub) -> None:
    told = client(
        hub,
        """
api.create_repo("alchemists/show", repo_type="space", space_sdk="gradio")
api.create_repo("alchemists/tiny")
def shelf():
    return api.create_collection("Alchemist!", namespace="alchemists", description="All of it", exists_ok=True)
made = shelf()
api.add_collection_item(made.slug, "alchemists/tiny", "model", note="base")
api.add_collection_item(made.slug, "alchemists/show", "space")
api.add_collection_item(made.slug, "alchemists/show", "space", exists_ok=True)
api.add_collection_item(made.slug, "2505.19297", "paper")
found = shelf()
api.delete_collection_item(found.slug, found.items[2].item_object_id)
items = [[item.item_type, item.item_id, item.position, item.note] for item in api.get_collection(found.slug).items]
say({"items": items, "same": made.slug == found.slug, "sdk": api.space_info("alchemists/show").sdk})
""",
    )
    items = [["model", "alchemists/tiny", 0, "base"], ["space", "alchemists/show", 1, None]]
    assert told == {"items": items, "same": True, "sdk": "gradio"}


def test_a_data_set_loads_plain_and_streamed_alike(hub: Hub, tmp_path: Path) -> None:
    rows = client(
        hub,
        """
from datasets import Image, load_dataset
api.create_repo("alchemists/data", repo_type="dataset")
api.upload_folder(repo_id="alchemists/data", folder_path=sys.argv[1], repo_type="dataset")
def rows(**how):
    loaded = load_dataset("alchemists/data", split="train", **how).cast_column("image", Image(decode=False))
    return [[row["img_key"], row["prompt"], hashlib.sha256(row["image"]["bytes"]).hexdigest()[:32]] for row in loaded]
plain, streamed = rows(), rows(streaming=True)
assert plain == streamed
say(plain)
""",
        tiny_dataset(tmp_path / "data", rows=4),
    )
    assert len(rows) == 4 and all(key == digest for key, _, digest in rows)


def test_a_pushed_data_set_has_its_configurations_and_card(hub: Hub, tmp_path: Path) -> None:
    told = client(
        hub,
        """
from datasets import get_dataset_config_names, load_dataset
from huggingface_hub import CommitOperationCopy, DatasetCard, HfFileSystem
rows, pushed = load_dataset("parquet", data_dir=sys.argv[1], split="train"), "alchemists/pushed"
rows.push_to_hub(pushed, config_name="3k", private=True)
rows.select(range(2)).push_to_hub(pushed, config_name="urls")
card = DatasetCard.load(pushed)
card.validate(repo_type="dataset")
card.data.license = "apache-2.0"
card.push_to_hub(pushed, repo_type="dataset")
source = "urls/train-00000-of-00001.parquet"
copy = CommitOperationCopy(source, "copy.parquet")
api.create_commit(pushed, [copy], commit_message="Copy", repo_type="dataset")
files = HfFileSystem()
say({
    "configurations": get_dataset_config_names(pushed),
    "rows": [len(load_dataset(pushed, "3k", split="train")), len(list(load_dataset(pushed, "urls")["train"]))],
    "private": api.dataset_info(pushed).private,
    "licence": api.dataset_info(pushed).card_data.license,
    "copied": files.cat_file(f"datasets/{pushed}/{source}") == files.cat_file(f"datasets/{pushed}/copy.parquet"),
    "last four": files.cat_file(f"datasets/{pushed}/copy.parquet", start=-4).decode(),
})
""",
        tiny_dataset(tmp_path / "data", rows=4),
    )
    assert told == {
        "configurations": ["3k", "urls"],
        "rows": [4, 2],
        "private": True,
        "licence": "apache-2.0",
        "copied": True,
        "last four": "PAR1",
    }


def test_a_pipeline_loads_and_samples(hub: Hub, epsilon_pipeline: Path) -> None:
    size = client(
        hub,
        """
import torch
from diffusers import DiffusionPipeline
api.create_repo(name)
api.upload_folder(repo_id=name, folder_path=sys.argv[1])
pipeline = DiffusionPipeline.from_pretrained(name)
pipeline.set_progress_bar_config(disable=True)
say(pipeline("a photo of mars", num_inference_steps=1, height=32, width=32).images[0].size)
""",
        epsilon_pipeline,
    )
    assert size == [32, 32]


def test_a_folder_served_again_holds_what_it_held(hub: Hub, folder: Path, tmp_path: Path) -> None:
    client(hub, PUBLISH, folder)
    with hub_server.serving(tmp_path / "hub") as later:
        assert later.files("alchemists/tiny") == hub.files("alchemists/tiny")
