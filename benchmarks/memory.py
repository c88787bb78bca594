"""The claim: the planner's peak is within 15% of what a training step takes, found without allocating anything.

    python benchmarks/memory.py

Two denoisers of the tuned models' classes, of more than 100 million parameters, are trained on the CPU with random
weights, each setting in a fresh process: a step on one small picture, which makes the optimiser's state, then one of
full size. Measured is the peak of resident memory over what the process held after its imports, with an allocator that
returns what is freed (glibc's, with a fixed threshold). CUDA's autocast and 8-bit states are not checked here.
Writes `memory-DATE.json` and `.md` beside this file.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import json
import os
import resource
import subprocess
import time
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import torch
from diffusers import ModelMixin, SD3Transformer2DModel, UNet2DConditionModel

from alchemist_hub.evaluation.results import write_json
from alchemist_hub.training import architectures, objective
from alchemist_hub.training.memory import GiB, Plan, Settings, plan

GOAL = 0.15  # of the measured peak
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # else freed memory stays resident
TOKENS = 77
FACTOR = 8
NETWORKS = {
    "UNet": (
        UNet2DConditionModel,
        {"block_out_channels": [128, 256, 512, 512], "cross_attention_dim": 768, "attention_head_dim": 8},
    ),
    "SD3 transformer": (
        SD3Transformer2DModel,
        {
            "sample_size": 32,
            "num_layers": 6,
            "num_attention_heads": 12,
            "caption_projection_dim": 768,
            "joint_attention_dim": 1024,
            "pooled_projection_dim": 768,
            "qk_norm": "rms_norm",
        },
    ),
}
PLAIN = Settings(size=256, micro_batch_size=4, accumulates=False)
CASES = (
    ("UNet", PLAIN),
    ("UNet", replace(PLAIN, gradient_checkpointing=True)),
    ("UNet", replace(PLAIN, micro_batch_size=2, accumulates=True, average_on="none")),
    ("SD3 transformer", PLAIN),
)


def main() -> None:
    """Measure every setting in a process of its own, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=int, help="train this one here and print what it took; for the script itself")
    case = parser.parse_args().case
    if case is not None:
        print(json.dumps(trained(*CASES[case])))
        return
    found = {"goal": GOAL, "torch": torch.__version__, "cpus": os.cpu_count()}
    found["cases"] = [compared(index) for index in range(len(CASES))]
    stem = Path(__file__).with_name(f"memory-{date.today()}")
    write_json(found, stem.with_suffix(".json"))
    stem.with_suffix(".md").write_text(markdown(found))
    print(markdown(found))


def compared(index: int) -> dict[str, Any]:
    """Return the plan of one setting beside what a fresh process took."""
    kind, settings = CASES[index]
    with torch.device("meta"):
        denoiser = network(kind)
    started = time.process_time()
    planned = plan(denoiser, fed(denoiser, settings), settings)
    seconds = time.process_time() - started
    command = [sys.executable, __file__, "--case", str(index)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | ALLOCATOR)
    return {
        "network": kind,
        "parameters": sum(weight.numel() for weight in denoiser.parameters()),
        "settings": asdict(settings) | {"said": str(settings)},
        "rows": rows(planned),
        "planned": planned.peak,
        "planning_cpu_seconds": seconds,
        **json.loads(run.stdout.splitlines()[-1]),
    }


def rows(planned: Plan) -> dict[str, int]:
    names = ("weights", "gradients", "optimizer", "average", "activations", "transient", "peak", "host")
    return {name: getattr(planned, name) for name in names}


def network(kind: str) -> ModelMixin:
    """Return a denoiser with random weights on the device that is active."""
    cls, config = NETWORKS[kind]
    return cls(**config)


def fed(denoiser: ModelMixin, settings: Settings) -> dict[str, Any]:
    """Return one call's arguments on the denoiser's device."""
    side = settings.size // FACTOR
    return architectures.inputs(
        denoiser, size=(side, side), batch=settings.micro_batch_size, tokens=TOKENS, dtype=settings.dtype
    )


def trained(kind: str, settings: Settings) -> dict[str, float]:
    """Train as the loop does; return resident memory before, and the peak."""
    before = resident()
    denoiser = network(kind).train()
    if settings.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=1e-5, fused=True)
    kept = settings.average_on == "device"
    average = [weight.detach().clone() for weight in denoiser.parameters()] if kept else []
    small = replace(settings, size=64, micro_batch_size=1)
    for each in (small, settings):
        step(denoiser, optimizer, average, each)
    return {"before": before, "measured": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before}


def step(
    denoiser: ModelMixin, optimizer: torch.optim.Optimizer, average: list[torch.Tensor], settings: Settings
) -> None:
    """One step as the loop makes it, on noise."""
    for _ in range(2 if settings.accumulates else 1):
        inputs = {name: torch.rand_like(value) for name, value in fed(denoiser, settings).items()}
        output_BChw = denoiser(**inputs, return_dict=False)[0]
        target_BChw = torch.rand_like(output_BChw)
        objective.weighted_mse(output_BChw, target_BChw, torch.ones(len(target_BChw))).mean().backward()
        del output_BChw
    torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for mean, weight in zip(average, denoiser.parameters(), strict=False):
            mean.lerp_(weight, 0.01)


def resident() -> int:
    """Return the bytes that this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def markdown(found: dict[str, Any]) -> str:
    """Return the results as a page."""
    worst = max(abs(case["planned"] / case["measured"] - 1) for case in found["cases"])
    before = [case["before"] / GiB for case in found["cases"]]
    lines = [
        "# Planned memory beside measured",
        "",
        f"Peak of resident memory over a training step on a CPU, above what the process held after its "
        f"imports ({min(before):.2f} to {max(before):.2f} GiB); torch {found['torch']}, 256 px, float32.",
        "",
        "| network | settings | planned GiB | measured GiB | planned / measured | planning, CPU s |",
        "|---|---|---|---|---|---|",
        *(_case(case) for case in found["cases"]),
        "",
        f"Largest deviation {worst:.1%}; asked: {found['goal']:.0%} ({'met' if worst <= found['goal'] else 'MISSED'}).",
        "",
    ]
    return "\n".join(lines)


def _case(case: dict[str, Any]) -> str:
    return (
        f"| {case['network']}, {case['parameters'] / 1e6:.0f} M | {case['settings']['said']}"
        f"{', two a step' if case['settings']['accumulates'] else ''} | {case['planned'] / GiB:.2f} | "
        f"{case['measured'] / GiB:.2f} | {case['planned'] / case['measured']:.3f} | "
        f"{case['planning_cpu_seconds']:.1f} |"
    )


if __name__ == "__main__":
    main()
