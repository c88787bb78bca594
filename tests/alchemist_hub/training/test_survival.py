"""Runs that are killed outright, and disks that are full: what is finished stays, and the end is the same."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_data import tiny_dataset

from alchemist_hub.errors import TrainingError
from alchemist_hub.training import checkpoint
from alchemist_hub.training.loop import train
from alchemist_hub.training.recipes import TrainingRecipe

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
ROOT = Path(__file__).parents[3]

TRAIN = """
import json, os, signal, sys
from pathlib import Path
from alchemist_hub.training import checkpoint
from alchemist_hub.training.loop import train
from alchemist_hub.training.recipes import TrainingRecipe
base, data, out, cache, recipe, fatal = sys.argv[1:]
written, save = 0, checkpoint.save_file

def save_or_die(*arguments, **settings):
    global written
    written += 1
    if written == int(fatal):
        os.kill(os.getpid(), signal.SIGKILL)
    save(*arguments, **settings)

checkpoint.save_file = save_or_die
train(TrainingRecipe.from_dict(json.loads(recipe)), base=base, data=data, out=out, cache=Path(cache), progress=False)
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def recipe(**settings) -> TrainingRecipe:
    defaults = {"learning_rate": 1e-3, "batch_size": 4, "ema": 0.9, "flip": True, "attention": "plain"}
    return TrainingRecipe(**{**defaults, **settings})


def start(settings: TrainingRecipe, base: Path, data: Path, out: Path, cache: Path, fatal: int = 0) -> subprocess.Popen:
    """Train in another process, which kills itself when it writes its `fatal`th file of a snapshot."""
    arguments = [*map(str, (base, data, out, cache)), json.dumps(settings.to_dict()), str(fatal)]
    return subprocess.Popen([sys.executable, "-c", TRAIN, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)


def lines(out: Path) -> int:
    log = out / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def kill_after(child: subprocess.Popen, steps: int, out: Path) -> int:
    """Send SIGKILL when the log tells of so many steps; return the exit status."""
    deadline = time.monotonic() + 200
    while child.poll() is None and time.monotonic() < deadline:
        if lines(out) >= steps:
            os.kill(child.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    return child.wait(timeout=60)


def assert_same_end(one: Path, other: Path) -> None:
    assert (one / "log.jsonl").read_bytes() == (other / "log.jsonl").read_bytes()
    assert (one / "pipeline" / WEIGHTS).read_bytes() == (other / "pipeline" / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_ten_kills_at_random_steps_end_in_the_same_weights_bit_for_bit(
    v_pipeline: Path, data: Path, cache: Path, tmp_path: Path
):
    settings = recipe(steps=64, checkpoint_every=3, warmup=5, timesteps="logit_normal")
    arguments = {"base": v_pipeline, "data": data, "cache": cache}
    train(settings, out=tmp_path / "whole", progress=False, **arguments)
    for killed in range(10):
        after = min(lines(tmp_path / "cut") // 3 * 3 + random.randrange(1, 7), 60)
        child = start(settings, out=tmp_path / "cut", **arguments)
        time.sleep(1)  # the log of the run before is cut back first
        assert kill_after(child, after, tmp_path / "cut") == -signal.SIGKILL, f"kill {killed}, after step {after}"
        assert not (tmp_path / "cut" / "pipeline").exists()
    train(settings, out=tmp_path / "cut", progress=False, **arguments)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_kill_while_a_snapshot_is_written_leaves_the_one_before(
    v_pipeline: Path, data: Path, cache: Path, tmp_path: Path
):
    settings = recipe(steps=7, checkpoint_every=2)
    arguments = {"base": v_pipeline, "data": data, "cache": cache}
    train(settings, out=tmp_path / "whole", progress=False, **arguments)
    child = start(settings, out=tmp_path / "cut", fatal=5, **arguments)  # the second file of the second snapshot
    assert child.wait(timeout=200) == -signal.SIGKILL
    assert checkpoint.load_snapshot(tmp_path / "cut" / "snapshots").step == 2
    train(settings, out=tmp_path / "cut", progress=False, **arguments)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_full_disk_is_one_line_and_the_last_snapshot_survives(
    v_pipeline: Path, data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = recipe(steps=7, checkpoint_every=2)
    arguments = {"base": v_pipeline, "data": data, "cache": cache, "progress": False}
    train(settings, out=tmp_path / "whole", **arguments)
    save, written = checkpoint.save_file, []

    def save_until_full(*given, **more) -> None:
        written.append(given)
        if len(written) > 4:
            raise OSError(28, "No space left on device")
        save(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", save_until_full)
        with pytest.raises(TrainingError, match="No space left on device; the last snapshot is kept") as caught:
            train(settings, out=tmp_path / "cut", **arguments)
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "cut" / "snapshots").iterdir()] == ["step-00000002"]
    train(settings, out=tmp_path / "cut", **arguments)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_its_snapshot(
    v_pipeline: Path, data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from alchemist_hub.training import objective

    weighted, calls = objective.weighted_mse, []

    def broken(*given):
        calls.append(given)
        return weighted(*given) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr(objective, "weighted_mse", broken)
    with pytest.raises(TrainingError, match="loss nan.* at step 4: lower the learning rate"):
        train(recipe(steps=6, checkpoint_every=2), base=v_pipeline, data=data, out=tmp_path, cache=cache)
    assert checkpoint.load_snapshot(tmp_path / "snapshots").step == 2
