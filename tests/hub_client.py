"""A client of the test Hub in a process of its own, with the libraries as they are; and a small folder to publish."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from hub_server import Hub

LARGE = random.Random(0).randbytes(200_000)
TREE = {
    "README.md": b"---\nlicense: mit\ntags: [tiny]\n---\n# Tiny\n",
    "config.json": b"{}",
    "empty.txt": b"",
    "unet/weights.safetensors": LARGE + b"again and " * 20_000,  # one chunk that compresses, one that does not
    "unet/floats.bin": b"".join((index * 1000).to_bytes(4, "little") for index in range(40_000)) + b"odd",
}
BEGIN = """
import hashlib, json, pathlib, sys
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download
api, name = HfApi(), "alchemists/tiny"
def tree(folder):
    paths = [path for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
def refused(function):
    try:
        return str(function())
    except Exception as error:
        return [type(error).__name__, getattr(getattr(error, "response", None), "status_code", None)]
def say(value):
    print("SAID", json.dumps(value))
"""
PUBLISH = """
api.create_repo(name, exist_ok=True)
say(refused(lambda: api.upload_folder(repo_id=name, folder_path=sys.argv[1]).oid))
"""


def start(
    hub: Hub, code: str, *arguments: object, xet: bool = True, python: str | Path = sys.executable, **environment: str
) -> subprocess.Popen:
    """Start `code` in a process of its own."""
    return subprocess.Popen(
        [str(python), "-c", BEGIN + code, *map(str, arguments)],
        env=os.environ | hub.environment(xet=xet) | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def client(hub: Hub, code: str, *arguments: object, seconds: float = 120, **how: Any) -> Any:
    """Run `code` in a process of its own and return what it said; `how` as of `start`."""
    with start(hub, code, *arguments, **how) as process:
        out, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, out + errors
    return json.loads(out.rpartition("SAID ")[2])


def write_tree(folder: Path) -> Path:
    """Write `TREE` into `folder` and return it."""
    for name, content in TREE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
