"""The gates that the miniature's base has to pass before anything is built on it.

On 200 clean prompts: does the picture show what was asked (judged beside real renders and their VAE reconstructions,
which bound what the judge and the VAE allow), how well the VAE reconstructs clean held-out pictures, whether quality
keywords make better pictures, and what one picture costs. Writes base_gates-DATE.json, .md and .png beside itself.

    python benchmarks/base_gates.py [--models FOLDER] [--prompts 200] [--work runs/base_gates]
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import datetime
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from alchemist_hub import miniature, models, sampling
from alchemist_hub.evaluation import generate, plots, votes
from alchemist_hub.evaluation.aspects import SHOWN, Asked, judged_quality, shown_correctly
from alchemist_hub.evaluation.generate import Settings
from alchemist_hub.evaluation.judges import JudgeNetwork
from alchemist_hub.evaluation.pages import number, percent
from alchemist_hub.evaluation.progress import watched
from alchemist_hub.evaluation.results import write_json
from alchemist_hub.evaluation.votes import Interval
from alchemist_hub.miniature.world import Sample, draw_sample, prompts

HELD_OUT = 977_001  # a pool seed that nothing was trained on
PROMPT_SEED = 20
KEYWORDS = "high quality, detailed, beautiful"
GRID = 48
GATES = {"ground": 0.80, "time": 0.92, "style": 0.75, "body": 0.65, "psnr": 30.0, "keywords": 0.85, "cpu_seconds": 1.5}


def main() -> None:
    """Measure, print, write."""
    options = arguments()
    sampling.hide_loading_bars()
    spec = models.model("mini")
    settings = Settings(seeds=(0,), steps=spec.steps, guidance=spec.guidance)
    base, judge = options.models / "base", JudgeNetwork.load(options.models / "judge")
    asked = prompts(options.prompts, seed=PROMPT_SEED)
    praised = [replace(prompt, text=f"{prompt.text}, {KEYWORDS}") for prompt in asked]
    plain_pictures = painted(base, asked, settings, options.work, "clean prompts")
    praised_pictures = painted(base, praised, settings, options.work, "with quality keywords")
    plain, keywords = judge.score_images(plain_pictures), judge.score_images(praised_pictures)
    real = clean_samples(options.prompts, size=spec.size)
    truths, renders = [sample.truth for sample in real], np.stack([sample.image for sample in real])
    pipe = sampling.load(base)
    reconstructions = reconstructed(pipe, renders)
    found = {
        "prompts": len(asked),
        "steps": settings.steps,
        "guidance": settings.guidance,
        "base": generate.checkpoint_id(base),
        "shown": {
            "generated": shown(judge.score_images(plain_pictures), asked),
            "generated, quality keywords": shown(keywords, praised),
            "real renders": shown(judge.score_images(renders), truths),
            "VAE reconstructions": shown(judge.score_images(reconstructions), truths),
        },
        "psnr": summary(psnr(renders, reconstructions)),
        "keywords": {
            "text": KEYWORDS,
            "win_rate": asdict(votes.win_rate(judged_quality(keywords), judged_quality(plain))),
            "mean_difference": asdict(votes.mean_difference(judged_quality(keywords), judged_quality(plain))),
        },
        "cpu_seconds": latency(pipe, asked[0].text, settings),
    }
    found["gates"] = gates(found)
    write(found, plain_pictures[:GRID])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=miniature.weights(), help="folder with base and judge")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path("runs/base_gates"), help="pictures; a rerun finds them")
    return parser.parse_args()


def painted(base: Path, asked: Sequence[Asked], settings: Settings, work: Path, title: str) -> list[Image.Image]:
    """Paint one picture a prompt, or find it from an earlier run."""
    with watched(title, len(asked)) as advance:
        index = generate.paint(base, [prompt.text for prompt in asked], settings, work, on_done=advance)
    return [Image.open(work / file).convert("RGB") for file in index["file"].to_pylist()]


def clean_samples(count: int, *, size: int) -> list[Sample]:
    """Draw `count` held-out pictures without defects or emblem, as the raw pool mixes them."""
    samples, index = [], 0
    while len(samples) < count:
        sample = draw_sample(HELD_OUT, index, size=size)
        index += 1
        if not sample.truth.defects and not sample.truth.unsafe:
            samples.append(sample)
    return samples


@torch.inference_mode()
def reconstructed(pipe: DiffusionPipeline, images_BHWC: np.ndarray) -> np.ndarray:
    """Return uint8 pictures encoded (the distribution's mean) and decoded again."""
    batches = []
    for start in range(0, len(images_BHWC), 32):
        pixels = torch.from_numpy(images_BHWC[start : start + 32]).permute(0, 3, 1, 2).float() / 127.5 - 1
        decoded = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mode()).sample
        batches.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())
    return np.concatenate(batches)


def psnr(one_BHWC: np.ndarray, other_BHWC: np.ndarray) -> np.ndarray:
    """Return (B,) peak signal-to-noise ratios in dB of uint8 pictures."""
    error_B = ((one_BHWC.astype(np.float64) - other_BHWC) ** 2).mean(axis=(1, 2, 3))
    return 10 * np.log10(255**2 / np.maximum(error_B, 1e-9))


def summary(values_B: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(values_B, [0.1, 0.5, 0.9])
    return {"p10": float(low), "median": float(median), "p90": float(high)}


def shown(judged: dict[str, np.ndarray], asked: Sequence[Asked]) -> dict[str, dict[str, float]]:
    """Return part -> share shown correctly with its interval, as JSON values."""
    return {part: asdict(votes.bootstrap_mean(right)) for part, right in shown_correctly(judged, asked).items()}


def latency(pipe: DiffusionPipeline, text: str, settings: Settings) -> dict[str, float]:
    """Return CPU seconds of one picture on one thread: median and spread of five, after one to warm up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for seed in range(6):
        start = time.process_time()
        sampling.generate(pipe, [text], [seed], steps=settings.steps, guidance=settings.guidance)
        times.append(time.process_time() - start)
    torch.set_num_threads(threads)
    return {"median": float(np.median(times[1:])), "min": min(times[1:]), "max": max(times[1:])}


def gates(found: dict) -> dict[str, dict[str, float | bool]]:
    """Return gate -> asked, measured, passed."""
    measured = {part: found["shown"]["generated"][part]["value"] for part in SHOWN}
    measured |= {"psnr": found["psnr"]["median"], "keywords": found["keywords"]["win_rate"]["value"]}
    measured["cpu_seconds"] = found["cpu_seconds"]["median"]
    return {
        name: {
            "asked": asked,
            "measured": measured[name],
            "passed": bool(measured[name] <= asked if name == "cpu_seconds" else measured[name] >= asked),
        }
        for name, asked in GATES.items()
    }


def write(found: dict, pictures: list[Image.Image]) -> None:
    """Write base_gates-DATE.json, .md and .png beside this file and print the markdown."""
    stem = Path(__file__).with_name(f"base_gates-{datetime.date.today()}")
    write_json(found, stem.with_suffix(".json"))
    plots.contact_sheet(pictures, stem.with_suffix(".png"), columns=8, cell=128)
    text = markdown(json.loads(stem.with_suffix(".json").read_text()), stem.with_suffix(".png").name)
    stem.with_suffix(".md").write_text(text)
    print(text)


def markdown(found: dict, grid: str) -> str:
    """Return the results as a page."""
    win, cpu = Interval(**found["keywords"]["win_rate"]), found["cpu_seconds"]
    lines = [
        "# Gates of the miniature's base",
        "",
        f"{found['prompts']} prompts, {found['steps']} steps, guidance {found['guidance']}, base `{found['base']}`.",
        "",
        "| gate | asked | measured | |",
        "|---|---|---|---|",
        *(
            f"| {name} | {gate['asked']} | {number(gate['measured'])} | {'passed' if gate['passed'] else 'MISSED'} |"
            for name, gate in found["gates"].items()
        ),
        "",
        "What the pictures show, by the judge's first choice, 95% over prompts. The judge on real renders bounds what",
        "can be measured; on VAE reconstructions it bounds what the base can reach.",
        "",
        "| pictures | style | time | ground | body |",
        "|---|---|---|---|---|",
        *(f"| {name} | {' | '.join(_cell(parts[part]) for part in SHOWN)} |" for name, parts in found["shown"].items()),
        "",
        f"VAE on clean held-out pictures: median {number(found['psnr']['median'], 1)} dB "
        f"(10% below {number(found['psnr']['p10'], 1)}, 10% above {number(found['psnr']['p90'], 1)}).",
        "",
        f'Prompts with ", {found["keywords"]["text"]}" against without, same seeds, judged quality (mean of complexity',
        "and aesthetics less expected defects): win rate "
        f"{percent(win.value)} [{percent(win.low)}, {percent(win.high)}].",
        "",
        f"One picture: {number(cpu['median'])} CPU seconds on one thread (five: {number(cpu['min'])} to "
        f"{number(cpu['max'])}).",
        "",
        f"![48 pictures of the first prompts]({grid})",
        "",
    ]
    return "\n".join(lines)


def _cell(share: dict[str, float]) -> str:
    return f"{percent(share['value'])} [{percent(share['low'])}, {percent(share['high'])}]"


if __name__ == "__main__":
    main()
