"""`alchemist publish` as people type it: what a dry run writes, what arrives, and one line for whatever is wrong."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import hub_server
import pytest
import torch
from huggingface_hub import HfApi
from tiny_models import tiny_base
from toy_stages import recipe, write_pool

from alchemist_hub.cli import main
from alchemist_hub.publishing.hub import PAPER
from curation import dataset
from curation.engines import embedded

SD15 = "alchemists/stable-diffusion-v1-5-alchemist"
SDXL = "alchemists/stable-diffusion-xl-base-1.0-alchemist"
Publish = Callable[..., tuple[int, str, str]]


@pytest.fixture
def server(tmp_path: Path, monkeypatch):
    """A Hub that this process takes for the real one, with a token that it accepts."""
    with hub_server.serving(tmp_path / "hub", organisations=("alchemists", "stabilityai")) as running:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setenv("HF_TOKEN", "hf_tiny")
        yield running


@pytest.fixture
def publish(monkeypatch, capsys) -> Publish:
    """Run `alchemist publish ARGUMENTS --org alchemists`; exit status, output, errors."""

    def run(*arguments: object, org: str = "alchemists") -> tuple[int, str, str]:
        command = ["alchemist", "publish", *map(str, arguments), *(["--org", org] if org else [])]
        monkeypatch.setattr(sys, "argv", command)
        capsys.readouterr()  # what the test itself made people see
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return tiny_base("sd15", tmp_path_factory.mktemp("checkpoint") / "pipeline")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two finished runs, `one` and `two`, and `open`, whose data set was not frozen."""
    folder = tmp_path_factory.mktemp("runs")
    write_pool(folder / "pool")
    embedded.run(recipe(), folder / "pool", folder / "open", workers=1)
    for name in ("one", "two"):
        shutil.copytree(folder / "open", folder / name)
        dataset.freeze(folder / name)
    return folder


def below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_one_line(errors: str) -> bool:
    """Whether one line tells what is wrong; bars of progress may stand before it."""
    bars, error, line = errors.partition("error: ")
    return bool(error) and line.count("\n") == 1 and "Traceback" not in bars


@pytest.mark.parametrize("command", ["dataset", "model", "space", "collection", "all"])
def test_help_names_what_every_command_shares(publish, command):
    status, said, _ = publish(command, "--help", org="")
    assert status == 0
    shared = ["--org", "--private", "--dry-run"]
    assert all(option in said for option in shared + (["--revision", "--create-pr"] * (command != "collection")))


@pytest.mark.parametrize("kind", ["dataset", "model", "space"])
def test_a_dry_run_is_byte_for_byte_what_then_arrives(publish, server, checkpoint, runs, tmp_path, kind):
    what = {"dataset": [runs / "one"], "model": ["sd15", checkpoint, "--fp16"], "space": []}[kind]
    assert publish(kind, *what, "--dry-run", tmp_path / "dry")[0] == 0
    assert not server.requests
    assert publish(kind, *what)[0] == 0
    (place,) = (tmp_path / "dry" / f"{kind}s" / "alchemists").iterdir()
    arrived = server.files(f"alchemists/{place.name}", kind=f"{kind}s")
    assert below(place) == {path: content for path, content in arrived.items() if path != ".gitattributes"}


def test_the_collection_of_a_dry_run_is_the_one_that_is_made(publish, server, checkpoint, tmp_path):
    what = ["all", "--model", f"sd15={checkpoint}"]
    assert publish(*what, "--dry-run", tmp_path)[0] == 0
    told = json.loads((tmp_path / "collection.json").read_text())
    status, said, _ = publish(*what)
    assert status == 0
    slug = said.rpartition("/collections/")[2].split()[0]
    made = HfApi(endpoint=server.url, token="hf_tiny").get_collection(slug)
    assert (made.title, made.description) == (told["title"], told["description"])
    assert {(item.item_type, item.item_id) for item in made.items} == {
        (item["type"], item["id"]) for item in told["items"]
    }
    assert ("paper", PAPER) in {(item.item_type, item.item_id) for item in made.items}


def test_a_collection_alone_names_all_that_there_could_be(publish, tmp_path):
    assert publish("collection", "--dry-run", tmp_path)[0] == 0
    named = {item["id"] for item in json.loads((tmp_path / "collection.json").read_text())["items"]}
    assert {SDXL, "alchemists/alchemist", "alchemists/miniature-base", "alchemists/alchemist-hub", PAPER} <= named


def test_the_end_says_what_is_where_and_how_much_was_sent(publish, server, checkpoint):
    _, said, _ = publish("model", "sd15", checkpoint)
    commit = HfApi(endpoint=server.url, token="hf_tiny").repo_info(SD15).sha
    assert f"{server.url}/{SD15}  {commit[:12]}  {len(server.files(SD15)) - 1} sent" in said
    assert "unchanged" in publish("model", "sd15", checkpoint)[1]


def test_what_is_there_is_told_also_where_the_next_is_refused(publish, server, checkpoint):
    api = HfApi(endpoint=server.url, token="hf_tiny")
    api.create_repo(SDXL)
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo="notes.txt", repo_id=SDXL)
    xl = tiny_base("sdxl", server.folder / "xl")
    status, said, errors = publish("all", "--model", f"sd15={checkpoint}", "--model", f"sdxl={xl}")
    assert status == 2 and is_one_line(errors)
    assert f"{SDXL} exists and was not published from here" in errors
    assert f"{server.url}/{SD15}  " in said


def test_pull_requests_and_branches_leave_main_alone(publish, server, checkpoint):
    publish("model", "sd15", checkpoint)
    before = server.files(SD15)
    assert publish("model", "sd15", checkpoint, "--fp16", "--revision", "next")[0] == 0
    assert publish("all", "--model", f"sd15={checkpoint}", "--fp16", "--create-pr")[0] == 0
    assert server.files(SD15) == before
    for revision in ("next", "refs/pr/1"):
        assert "vae/diffusion_pytorch_model.fp16.safetensors" in server.files(SD15, revision=revision)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["dataset", "{tmp}/nowhere"], "no data set in"),
        (["dataset", "{runs}/open"], "no data set in"),
        (["dataset", "{runs}/one", "--variant", "7k"], "expected NAME=FOLDER"),
        (["dataset", "{runs}/one", "--variant", "7k={tmp}"], "no data set in"),
        (["dataset", "{runs}/one", "--dry-run", "{file}"], "cannot be written: Not a directory; name another"),
        (["collection", "--dry-run", "{file}"], "cannot be written: File exists; name another"),
        (["model", "sd99", "{checkpoint}"], "unknown model key 'sd99'; the keys are sd15"),
        (["model", "sd15"], "name the folder of the checkpoint of sd15; only the miniature's is shipped"),
        (["model", "sd15", "{tmp}/nowhere"], "nowhere does not exist; expected a diffusers pipeline folder"),
        (["model", "sd15", "{tmp}"], "holds no model_index.json"),
        (["model", "sdxl", "{checkpoint}"], "is a StableDiffusionPipeline; sdxl is a StableDiffusionXLPipeline"),
        (["model", "sd15", "{checkpoint}", "--report", "{tmp}"], "no evaluation in"),
        (["model", "sd15", "{checkpoint}", "--samples", "{file}"], "is no picture that can be shown on a card"),
        (["all", "--model", "sdxl"], "--model sdxl: expected KEY=PLACE, each key once"),
        (["all", "--model", "mini", "--model", "mini"], "--model mini: expected KEY=PLACE, each key once"),
        (["all", "--report", "mini={tmp}"], "there is no --model mini that it could be of"),
        (["all", "--variant", "7k={tmp}"], "expected one --run"),
        (["all", "--run", "{runs}/one", "--run", "{runs}/two"], "the dataset alchemists/alchemist; publish one"),
    ],
)
def test_a_wrong_input_is_one_line_and_status_2(publish, checkpoint, runs, tmp_path, arguments, says):
    (tmp_path / "file").write_text("text")
    places = {"tmp": tmp_path, "runs": runs, "checkpoint": checkpoint, "file": tmp_path / "file"}
    where = [] if "--dry-run" in arguments else ["--dry-run", tmp_path / "dry"]
    status, _, errors = publish(*(part.format(**places) for part in arguments), *where)
    assert status == 2 and is_one_line(errors) and says in errors


def test_pickles_and_secrets_are_refused_before_the_hub_hears_of_anything(publish, server, checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "pipeline")
    torch.save({}, folder / "unet" / "weights.bin")
    config = json.loads((folder / "unet" / "config.json").read_text()) | {"from": "hf_" + "aB3" * 12}
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    status, _, errors = publish("model", "sd15", folder)
    assert status == 2 and is_one_line(errors)
    assert "unet/config.json holds what looks like a Hugging Face token" in errors
    assert "unet/weights.bin is no safetensors file" in errors and "aB3" not in errors
    assert list(server.requests) == ["GET /api/whoami-v2"]


def test_what_the_hub_refuses_is_one_line_and_status_2(publish, server, checkpoint, monkeypatch):
    def refusal(*arguments: object, **how: str) -> str:
        status, _, errors = publish(*arguments, **how)
        assert status == 2 and is_one_line(errors)
        return errors

    assert "tester cannot publish as nobody" in refusal("model", "sd15", checkpoint, org="nobody")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the Hub does not accept the token: run `hf auth login`" in refusal("model", "sd15", checkpoint)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(server.folder / "nowhere"))
    assert "no token for the Hub: run `hf auth login`" in refusal("model", "sd15", checkpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_tiny")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set; unset it to publish" in refusal("model", "sd15", checkpoint)
    assert not (server.state.folder / "models").exists()


def test_a_gated_base_is_one_line_that_says_what_to_accept(publish, server, monkeypatch, tmp_path):
    gated = "stabilityai/stable-diffusion-3.5-medium"
    api = HfApi(endpoint=server.url, token="hf_tiny")
    api.create_repo(gated)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="model_index.json", repo_id=gated)
    server.gate(gated)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    status, _, errors = publish("model", "sd35m", gated)
    assert status == 2 and is_one_line(errors)
    assert f"accept its licence at huggingface.co/{gated} and log in" in errors
