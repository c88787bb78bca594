import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from alchemist_hub.training import sharding

ROOT = Path(__file__).parents[3]

# A miniature of the training loop. Runs every job of its argument in turn; a job goes on from a snapshot if it has one.
LOOP = """
import json, sys
from pathlib import Path
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from alchemist_hub.training import checkpoint, sharding
from alchemist_hub.training.average import Average
from alchemist_hub.training.draws import seeded
from alchemist_hub.training.optimizer import new_optimizer

accelerator = sharding.new_accelerator()

def unet():
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(16, 32), layers_per_block=1, cross_attention_dim=32, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=8,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )

def transformer():
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=16, out_channels=4,
        pos_embed_max_size=8,
    )

def run(job):
    torch.manual_seed(0)
    model = {"unet": unet, "transformer": transformer}[job["model"]]().to(getattr(torch, job["dtype"]))
    sharding.shard(model, accelerator)
    weights = dict(model.named_parameters())
    optimizer = new_optimizer(job["optimizer"], weights.items(), learning_rate=1e-3, weight_decay=0.01, seed=0)
    average, step = Average(weights, where=job["ema"]), 0
    if job["resume"]:
        snapshot = checkpoint.load_snapshot(Path(job["resume"]))
        step = snapshot.step
        sharding.load(weights, snapshot.weights)
        average.load(snapshot.average)
        checkpoint.restore_optimizer(optimizer, list(weights), sharding.parts(snapshot.optimizer, weights))
    count = 4 // accelerator.num_processes
    rows, lines = slice(accelerator.process_index * count, (accelerator.process_index + 1) * count), []
    while step < job["steps"]:
        draw = seeded("step", step)
        x, t = torch.randn(4, 4, 8, 8, generator=draw)[rows], torch.randint(0, 1000, (4,), generator=draw)[rows]
        text, pooled = torch.randn(4, 6, 32, generator=draw)[rows], torch.randn(4, 16, generator=draw)[rows]
        loss = torch.zeros(())
        for part in torch.arange(len(x)).split(1):
            inputs = (x[part].to(model.dtype), text[part].to(model.dtype), t[part], pooled[part].to(model.dtype))
            if job["model"] == "unet":
                output = model(inputs[0], inputs[2], inputs[1]).sample
            else:
                output = model(inputs[0], inputs[1], inputs[3], inputs[2]).sample
            share = (output.float() - x[part].flip(1)).square().mean(dim=(1, 2, 3)).sum() / len(x)
            share.backward()
            loss += share.detach()
        norm = sharding.clip(model, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(weights, decay=0.9)
        step += 1
        lines.append([accelerator.reduce(loss, "mean").item(), norm])
    state = checkpoint.optimizer_tensors(optimizer, list(weights))
    whole = {
        what: sharding.whole(tensors, accelerator)
        for what, tensors in (("weights", weights), ("average", average.tensors()), ("optimizer", state))
    }
    held = sum(sharding.local(weight).numel() for weight in weights.values())
    result = {"lines": lines, "held": held, "all": sum(weight.numel() for weight in weights.values())}
    if accelerator.is_main_process:
        checkpoint.save_snapshot(Path(job["out"]), checkpoint.Snapshot(step=step, seconds=0.0, **whole), keep=1)
        (Path(job["out"]) / "result.json").write_text(json.dumps(result))
    else:
        assert not any(whole.values())
    accelerator.wait_for_everyone()

for job in json.loads(sys.argv[1]):
    run(job)
accelerator.end_training()
"""


def job(out: Path, model: str, **settings) -> dict:
    defaults = {"steps": 5, "optimizer": "adamw", "dtype": "float32", "ema": "device", "resume": None}
    return {**defaults, **settings, "model": model, "out": str(out)}


def run(processes: int, jobs: list[dict]) -> None:
    """Run LOOP in as many processes, told about each other as torchrun does it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    alone = {key: value for key, value in os.environ.items() if key not in ("RANK", "LOCAL_RANK", *world)}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", LOOP, json.dumps(jobs)],
            cwd=ROOT,
            env=alone | ({"RANK": str(rank), "LOCAL_RANK": str(rank), **world} if processes > 1 else {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    try:
        errors = [child.communicate(timeout=600)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0] * processes, "\n".join(errors)[-3000:]


def lines(out: Path) -> list[list[float]]:
    return json.loads((out / "result.json").read_text())["lines"]


def snapshot(out: Path, what: str) -> dict[str, torch.Tensor]:
    (file,) = out.glob(f"step-*/{what}.safetensors")
    return load_file(file)


def flat(values: list[list[float]]) -> list[float]:
    return [number for line in values for number in line]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", ["unet", "transformer"])
def test_two_processes_train_as_one_and_resume_each_others_snapshots(model: str, tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    early_one, early_two = tmp_path / "early-one", tmp_path / "early-two"
    run(1, [job(one, model), job(early_one, model, steps=2)])
    run(
        2,
        [
            job(two, model, ema="host"),
            job(early_two, model, steps=2),
            job(tmp_path / "two-after-one", model, resume=str(early_one)),
            job(tmp_path / "two-after-two", model, resume=str(early_two)),
        ],
    )
    run(1, [job(tmp_path / "one-after-two", model, resume=str(early_two))])

    assert flat(lines(two)) == pytest.approx(flat(lines(one)), rel=1e-5)
    for resumed in ("two-after-one", "one-after-two"):
        assert flat(lines(tmp_path / resumed)) == pytest.approx(flat(lines(one)[2:]), rel=1e-5)
    assert lines(tmp_path / "two-after-two") == lines(two)[2:]  # bit for bit where nothing but the start differs
    for what in ("weights", "average", "optimizer"):
        expected = snapshot(one, what)
        for out in (two, tmp_path / "one-after-two", tmp_path / "two-after-one"):
            found = snapshot(out, what)
            assert found.keys() == expected.keys()
            for name, tensor in expected.items():
                assert torch.allclose(found[name], tensor, rtol=1e-3, atol=2e-5), (out.name, what, name)
    held = json.loads((two / "result.json").read_text())
    assert held["held"] < 0.55 * held["all"]  # each process holds about half of the weights


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_moments_in_8_bits_pass_between_one_process_and_two(tmp_path: Path):
    pytest.importorskip("bitsandbytes")
    eight = {"optimizer": "adamw8bit", "dtype": "bfloat16"}
    one, two, early = tmp_path / "one", tmp_path / "two", tmp_path / "early"
    run(1, [job(one, "unet", **eight)])
    run(
        2,
        [
            job(two, "unet", **eight),
            job(early, "unet", steps=2, **eight),
            job(tmp_path / "after", "unet", resume=str(early), **eight),
            job(tmp_path / "carried", "unet", steps=5, resume=str(one), **eight),
        ],
    )
    assert flat(lines(two)) == pytest.approx(flat(lines(one)), rel=0.02)  # other random bits, and bfloat16 norms
    assert lines(tmp_path / "after") == lines(two)[2:]
    for what in ("weights", "average", "optimizer"):  # read by two, written again by two: unchanged
        before, carried = snapshot(one, what), snapshot(tmp_path / "carried", what)
        assert before.keys() == carried.keys()
        assert all(torch.equal(tensor, carried[name]) for name, tensor in before.items())
    assert any(tensor.dtype == torch.uint8 for tensor in snapshot(two, "optimizer").values())


def test_one_process_keeps_a_model_as_it_is():
    model, accelerator = nn.Linear(3, 2), sharding.new_accelerator()
    sharding.shard(model, accelerator)
    weights = dict(model.named_parameters())
    assert type(model) is nn.Linear and all(type(weight) is nn.Parameter for weight in weights.values())
    assert all(torch.equal(sharding.whole(weights, accelerator)[name], weight) for name, weight in weights.items())
    assert sharding.parts({"weight/step": torch.ones(())}, weights) == {"weight/step": torch.ones(())}
    sharding.load(weights, {name: torch.ones_like(weight) for name, weight in weights.items()})
    assert all(torch.equal(weight, torch.ones_like(weight)) for weight in weights.values())


def test_gradients_are_clipped_and_their_norm_is_told():
    model = nn.Linear(2, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, 4.0]])
    assert sharding.clip(model, 1.0) == pytest.approx(5.0)
    assert model.weight.grad.norm().item() == pytest.approx(1.0, rel=1e-5)
