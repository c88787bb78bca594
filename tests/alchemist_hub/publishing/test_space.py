"""The Space as it is deployed: what was published starts with what its requirements.txt installs, and compares.

Slow: an environment of its own (.cache/environments) is made once.
"""

import os
import socket
import subprocess
import urllib.request
from importlib.metadata import version
from pathlib import Path

import hub_server
import pytest
from environments import python_with
from gradio_client import Client
from huggingface_hub import HfApi
from PIL import Image
from run_process import wait_for

from alchemist_hub.publishing.hub import Hub, Target
from alchemist_hub.publishing.trees import space_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def deployed(tmp_path, monkeypatch) -> Path:
    """The Space as a Hub gives it out: published, then downloaded."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server.serving(tmp_path / "hub") as running:
        api = HfApi(endpoint=running.url, token="hf_tiny")
        tree = space_tree(tmp_path / "workshop", organisation="alchemists")
        Hub("alchemists", api=api, say=lambda line: None).publish(tree, Target())
        place = api.snapshot_download(tree.repository, repo_type="space", local_dir=tmp_path / "deployed")
    return Path(place)


def is_served(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def test_the_deployed_tree_starts_with_its_requirements_alone_and_compares(deployed, tmp_path):
    lines = (deployed / "requirements.txt").read_text(encoding="utf-8").splitlines()
    torch = f"torch=={version('torch').partition('+')[0]}"  # of its many builds the one that the tests run with
    python = python_with(torch, *(line for line in lines if line and not line.startswith("#")))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRADIO", "HF_"))}
    environment = own | {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([python, "app.py"], cwd=deployed, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: is_served(url) or process.poll() is not None, seconds=300)
        assert process.poll() is None, (tmp_path / "log").read_text()
        client = Client(url, download_files=tmp_path / "pictures", verbose=False)
        sides = client.predict("Mars rises on the horizon.", seed=7, api_name="/compare")[:2]
        base, tuned = (Image.open(side).convert("RGB") for side in sides)
        assert base.size == tuned.size and base.tobytes() != tuned.tobytes()
    finally:
        process.kill()
        process.wait()
