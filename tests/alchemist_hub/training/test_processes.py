"""Two processes on one model, with the whole trainer: the same losses, and a snapshot that one process goes on from."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_data import tiny_dataset

from alchemist_hub.training import checkpoint
from alchemist_hub.training.loop import train
from alchemist_hub.training.recipes import TrainingRecipe

ROOT = Path(__file__).parents[3]
TRAIN = """
import json, os, signal, sys
from pathlib import Path
from alchemist_hub.training import checkpoint
from alchemist_hub.training.loop import train
from alchemist_hub.training.recipes import TrainingRecipe
base, data, out, cache, recipe, last = sys.argv[1:]
save = checkpoint.save_snapshot

def save_and_die(folder, snapshot, *, keep):
    save(folder, snapshot, keep=keep)
    if snapshot.step == int(last):
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_snapshot = save_and_die
train(TrainingRecipe.from_dict(json.loads(recipe)), base=base, data=data, out=out, cache=Path(cache), progress=False)
"""


def in_two(settings: TrainingRecipe, base: Path, data: Path, out: Path, cache: Path, last: int = 0) -> int:
    """Train in two processes as torchrun starts them; they die after the snapshot of step `last`."""
    arguments = [*map(str, (base, data, out, cache)), json.dumps(settings.to_dict()), str(last)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, *arguments],
            cwd=ROOT,
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.DEVNULL,
        )
        for rank in range(2)
    ]
    status = children[0].wait(timeout=280)
    if status:
        children[1].kill()  # as a launcher does when one of its processes dies
    children[1].wait(timeout=60)
    return status


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "component"), [("xl_pipeline", "unet"), ("sd3_pipeline", "transformer")])
def test_two_processes_train_as_one_does(kind, component, tmp_path: Path, request: pytest.FixtureRequest):
    base, data, cache = request.getfixturevalue(kind), tiny_dataset(tmp_path / "data"), tmp_path / "cache"
    settings = TrainingRecipe(
        steps=6, learning_rate=1e-3, batch_size=4, micro_batch_size=1, ema=0.9, checkpoint_every=3, validate_every=5
    )
    arguments = {"base": base, "data": data, "cache": cache}
    train(settings, out=tmp_path / "one", progress=False, **arguments)

    assert in_two(settings, out=tmp_path / "two", **arguments) == 0
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)

    assert in_two(settings, out=tmp_path / "two then one", last=3, **arguments) != 0
    assert checkpoint.load_snapshot(tmp_path / "two then one" / "snapshots").step == 3
    train(settings, out=tmp_path / "two then one", progress=False, **arguments)
    assert losses(tmp_path / "two then one") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)

    whole, resumed, split = (
        load_file(tmp_path / name / "pipeline" / component / "diffusion_pytorch_model.safetensors")
        for name in ("one", "two then one", "two")
    )
    assert whole.keys() == split.keys() == resumed.keys()
    assert max((whole[name].float() - split[name].float()).abs().max() for name in whole) < 2e-3
    assert max((whole[name].float() - resumed[name].float()).abs().max() for name in whole) < 2e-3
