"""Everything published to a Hub by the command, and met there by unmodified clients in processes of their own.

Slow: whole pipelines travel, by Xet and by LFS, whole and cut off.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import hub_server
import pytest
from hub_client import client
from hub_server import Hub
from hub_server.faults import COMMIT, UPLOAD
from run_process import wait_for
from tiny_models import tiny_base
from toy_stages import recipe, write_pool

from alchemist_hub.publishing.trees import FOLDERS
from curation import dataset
from curation.engines import embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
FIVE = ("sd15", "sd21", "sdxl", "sd35m", "sd35l")
CUTS = 10

READ = """
import io, torch
from datasets import load_dataset
from diffusers import DiffusionPipeline
from huggingface_hub import DatasetCard, ModelCard
names = json.loads(sys.argv[1])
told = {}
for name in names["model"]:
    pipe = DiffusionPipeline.from_pretrained(name)
    pipe.set_progress_bar_config(disable=True)
    size = {} if name.endswith(("miniature", "miniature-base")) else {"height": 64, "width": 64}
    image = pipe("a sea at night", num_inference_steps=2, generator=torch.Generator().manual_seed(0), **size).images[0]
    told[name] = [type(pipe).__name__, image.size[0] > 0]
    ModelCard.load(name).validate()
    if name.endswith("-alchemist"):
        half = DiffusionPipeline.from_pretrained(name, variant="fp16", torch_dtype=torch.float16)
        told[name].append(str(next(iter(half.vae.parameters())).dtype))
for name in names["dataset"]:
    DatasetCard.load(name).validate(repo_type="dataset")
data = names["data"]
plain = load_dataset(data, split="train")
streamed = list(load_dataset(data, split="train", streaming=True))
pixels = lambda row: (row["img_key"], row["prompt"], row["image"].size, row["image"].tobytes())
told["rows"] = [len(plain), [pixels(row) for row in plain] == [pixels(row) for row in streamed]]
told["configurations"] = {name: len(load_dataset(data, name, split="train")) for name in ("urls", "7k")}
for kind in ("model", "dataset", "space"):
    for name in names[kind]:
        there = tree(snapshot_download(name, repo_type=kind))
        there.pop(".gitattributes")
        told[f"{kind} {name}"] = there
say(told)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Five tiny checkpoints and a curation run with a frozen data set."""
    folder = tmp_path_factory.mktemp("made")
    for key in FIVE:
        tiny_base(key, folder / key)
    write_pool(folder / "pool")
    embedded.run(recipe(), folder / "pool", folder / "run", workers=1)
    dataset.freeze(folder / "run")
    embedded.run(recipe(), folder / "pool", folder / "other", workers=1)
    dataset.freeze(folder / "other")
    return folder


def command(hub: Hub, *arguments: object, xet: bool = True) -> subprocess.Popen:
    """Start `alchemist publish` with these arguments."""
    return subprocess.Popen(
        [sys.executable, "-m", "alchemist_hub", "publish", *map(str, arguments), "--org", "alchemists"],
        cwd=ROOT,
        env=os.environ | hub.environment(xet=xet),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def publish(hub: Hub, *arguments: object, xet: bool = True) -> str:
    process = command(hub, *arguments, xet=xet)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return said


def everything(made: Path) -> list[object]:
    models = [part for key in FIVE for part in ("--model", f"{key}={made / key}")]
    return ["all", "--run", made / "run", "--variant", f"7k={made / 'other' / 'dataset'}", "--model", "mini", *models]


def below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def repositories(folder: Path) -> dict[str, dict[str, bytes]]:
    """Return what a dry run wrote for the organisation: repository -> path -> content."""
    return {f"{folder.name}/{place.name}": below(place) for place in folder.iterdir()}


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_what_is_published_is_what_clients_get(made, tmp_path, xet):
    with hub_server.serving(tmp_path / "hub") as hub:
        publish(hub, *everything(made), "--fp16", "--dry-run", tmp_path / "dry")
        assert not hub.received_bytes
        said = publish(hub, *everything(made), "--fp16", xet=xet)
        dry = {kind: repositories(tmp_path / "dry" / name / "alchemists") for kind, name in FOLDERS.items()}
        assert len(dry["model"]) == 7 and len(dry["dataset"]) == 1 and len(dry["space"]) == 1
        for kind, named in dry.items():
            for name, files in named.items():
                there = hub.files(name, kind=f"{kind}s")
                there.pop(".gitattributes")
                assert there == files
                assert f"{name}  " in said
        assert any(path.startswith("POST /v1/xorbs/" if xet else "PUT /lfs/") for path in hub.requests)

        names = {kind: sorted(named) for kind, named in dry.items()} | {"data": "alchemists/alchemist"}
        told = client(hub, READ, json.dumps(names), xet=xet)
        classes = [told[name][0] for name in names["model"]]
        of_class = {"StableDiffusion3Pipeline": 2, "StableDiffusionPipeline": 4, "StableDiffusionXLPipeline": 1}
        assert Counter(classes) == of_class
        assert all(told[name][1] for name in names["model"])
        assert [told[name][2] for name in names["model"] if name.endswith("-alchemist")] == ["torch.float16"] * 5
        assert told["rows"] == [11, True] and told["configurations"] == {"urls": 11, "7k": 11}
        for kind in FOLDERS:
            for name in names[kind]:
                hashes = {path: hashlib.sha256(content).hexdigest() for path, content in dry[kind][name].items()}
                assert told[f"{kind} {name}"] == hashes

        received, commits = hub.received_bytes, sum(path.find("/commit/") > 0 for path in hub.requests.elements())
        publish(hub, *everything(made), "--fp16", xet=xet)
        assert hub.received_bytes == received
        assert sum(path.find("/commit/") > 0 for path in hub.requests.elements()) == commits


def test_uploads_cut_at_random_end_as_an_undisturbed_one_and_are_never_seen_by_half(made, tmp_path):
    with hub_server.serving(tmp_path / "calm") as hub:
        publish(hub, "model", "sd15", made / "sd15")
        name = "alchemists/stable-diffusion-v1-5-alchemist"
        whole, bytes_sent = hub.files(name), hub.received_bytes
    for cut in range(CUTS):
        draw = random.Random(cut)
        xet = bool(cut % 2)
        with hub_server.serving(tmp_path / f"cut-{cut}") as hub, watched(hub, name) as states:
            if cut % 3:
                hub.fail(hub_server.Fault(on=f"{UPLOAD}|{COMMIT}", times=draw.randrange(4)))  # these go through
                hub.fail(hub_server.dropped(after=draw.randrange(1, 60_000), on=f"{UPLOAD}|{COMMIT}"))
                process = command(hub, "model", "sd15", made / "sd15", xet=xet)
                process.communicate(timeout=300)
            else:
                hub.fail(hub_server.slow_disk(0.02, on=UPLOAD))
                process = command(hub, "model", "sd15", made / "sd15", xet=xet)
                limit = draw.uniform(0.05, 0.9) * bytes_sent
                while process.poll() is None and hub.received_bytes < limit:
                    time.sleep(0.01)
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            hub.recover()
            publish(hub, "model", "sd15", made / "sd15", xet=xet)
            assert hub.files(name) == whole, f"cut {cut}"
        assert states <= {(), (".gitattributes",), tuple(sorted(whole))}, f"cut {cut}"


@pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])
def test_an_interrupt_in_mid_upload_is_no_traceback_and_the_next_try_goes_on(made, tmp_path, xet):
    with hub_server.serving(tmp_path / "hub") as hub:
        hub.fail(hub_server.slow_disk(0.2, on=UPLOAD))
        process = command(hub, "model", "sd15", made / "sd15", xet=xet)
        wait_for(lambda: hub.received_bytes > 0)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0]
        assert process.returncode == 130 and "Traceback" not in said, said
        assert set(hub.files("alchemists/stable-diffusion-v1-5-alchemist")) == {".gitattributes"}
        hub.recover()
        assert "sent" in publish(hub, "model", "sd15", made / "sd15", xet=xet)


class watched:
    """Looks at a repository all the time; gives the sets of paths that could be seen."""

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub, self._name, self._states = hub, name, set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._stop.wait(0.005):
            try:
                self._states.add(tuple(sorted(self._hub.files(self._name))))
            except Exception:
                continue  # it is not there yet

    def __enter__(self) -> set[tuple[str, ...]]:
        self._thread.start()
        return self._states

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
