"""The claim: our trainer trains 1.5 times the images per CPU second of the official diffusers text-to-image script.

    python benchmarks/training.py [--official train_text_to_image.py] [--python PYTHON] [--turns 3] [--epochs 8]

The script is examples/text_to_image/train_text_to_image.py of github.com/huggingface/diffusers, run unchanged by PYTHON
(this one unless told otherwise), which needs diffusers, transformers, accelerate and datasets; without --official only
our side is measured. Both sides get the same small SD1.5 (`parts/scaled.py`), pictures, batch, learning rate, AdamW,
average of the weights, uniform timesteps, no flips, no dropped captions, float32, one thread.

Every run is a process of its own: in every turn, on a seed of its own, a short and a long run a side. End to end are
the CPU seconds of a long run, from the start of the process to the saved pipeline, our caches included, which no run
shares. Steady is what a long run takes more than a short one, for the steps it makes more: free of start, caches and
saving. Losses of the long runs are compared step by step. Writes `training-DATE.json` and `.md` beside this file.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import tempfile
from datetime import date
from statistics import NormalDist, median
from typing import Any

import numpy as np
from PIL import Image

from alchemist_hub.miniature.world import draw_sample
from alchemist_hub.training import recipes
from benchmarks.parts import scaled
from benchmarks.parts.trainers import BATCH, OFFICIAL, OURS, RATE, SCRIPT_RUNNER, SIZE, Run, Trainers
from tests.tiny_data import write_dataset

GOAL = 1.5
POOL_SEED = 977_090
SHORT = 2  # steps of the short runs
SMALL_SET = 168  # pictures that the miniature's recipe was written for
WINDOWS = 4  # of the loss curves


def prepare(folder: Path, pictures: int) -> int:
    """Write base/, data/ and, for the script, imagefolder/; return the denoiser's parameters.

    Pictures have twice the side that is trained on, as the paper's megapixels have beside SD1.5's 512 px.
    """
    samples = [draw_sample(POOL_SEED, index, size=2 * SIZE) for index in range(pictures)]
    images, captions = [_jpeg(sample.image) for sample in samples], [sample.caption for sample in samples]
    write_dataset(folder / "data", images, captions, sizes=[2 * SIZE] * pictures)
    (folder / "imagefolder").mkdir()
    rows = [{"file_name": f"{index}.jpg", "text": caption} for index, caption in enumerate(captions)]
    (folder / "imagefolder" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row, image in zip(rows, images, strict=True):
        (folder / "imagefolder" / row["file_name"]).write_bytes(image)
    return scaled.save_pipeline(folder / "base", np.stack([sample.image[::2, ::2] for sample in samples[:16]]))


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92)
    return file.getvalue()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Take turns; return every figure."""
    steps = options.epochs * options.pictures // BATCH
    lengths = {"short": SHORT, "long": steps}
    runs: dict[str, list[dict[str, Run]]] = {OURS: [], OFFICIAL: []}
    with tempfile.TemporaryDirectory() as folder:
        trainers = Trainers(folder=Path(folder), official=options.official, python=options.python)
        parameters = prepare(trainers.folder, options.pictures)
        for seed in range(options.turns):
            for side in trainers.sides:
                runs[side].append({name: trainers.run(side, steps=count, seed=seed) for name, count in lengths.items()})
    found = {
        "date": date.today().isoformat(),
        "parameters": parameters,
        "pictures": options.pictures,
        "epochs": options.epochs,
        "steps": steps,
        "encoding beside forward and backward": scaled.encoding_shares(),
        "sides": {side: side_figures(runs[side], steps) for side in trainers.sides},
    }
    if options.official:
        found["script"] = script_facts(options)
        found |= compared(found["sides"])
    return found


def side_figures(turns: list[dict[str, Run]], steps: int) -> dict[str, Any]:
    """Return the figures of one side, a value a turn, and what its medians mean for longer trainings."""
    more = (steps - SHORT) * BATCH
    steady = [more / (turn["long"].cpu_seconds - turn["short"].cpu_seconds) for turn in turns]
    whole = [turn["long"].cpu_seconds for turn in turns]
    return {
        "images per CPU s": steady,
        "whole run CPU s": whole,
        "peak MB": [turn["long"].peak_mb for turn in turns],
        "losses": [turn["long"].losses for turn in turns],
        "before and after the steps CPU s": median(whole) - steps * BATCH / median(steady),
    }


def script_facts(options: argparse.Namespace) -> dict[str, str]:
    asked = [options.python, str(SCRIPT_RUNNER), "--torchvision"]
    transforms = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    return {"sha256": hashlib.sha256(options.official.read_bytes()).hexdigest(), "transforms": transforms}


def compared(sides: dict[str, Any]) -> dict[str, Any]:
    """Return ours over the script's, turn by turn, and how far the losses are apart."""
    ours, theirs = sides[OURS], sides[OFFICIAL]
    return {
        "times the images per CPU s": _ratios(ours["images per CPU s"], theirs["images per CPU s"]),
        "times as fast end to end": _ratios(theirs["whole run CPU s"], ours["whole run CPU s"]),
        "losses": loss_windows(np.array(ours["losses"]), np.array(theirs["losses"])) if len(ours["losses"]) > 1 else [],
    }


def _ratios(over: list[float], under: list[float]) -> dict[str, Any]:
    return {"median": median(over) / median(under), "turns": [a / b for a, b in zip(over, under, strict=True)]}


def loss_windows(ours_TS: np.ndarray, theirs_TS: np.ndarray) -> list[dict[str, Any]]:
    """Return each window's mean losses and their difference in standard errors; T turns (seeds), S steps.

    The noise is the variance between seeds at one step, pooled over the window's steps and both sides.
    """
    found = []
    for window in np.array_split(np.arange(ours_TS.shape[1]), WINDOWS):
        ours, theirs = ours_TS[:, window], theirs_TS[:, window]
        error = np.sqrt((ours.var(axis=0, ddof=1) + theirs.var(axis=0, ddof=1)).mean() / ours.size)
        found.append(
            {
                "steps": [int(window[0]) + 1, int(window[-1]) + 1],
                OURS: float(ours.mean()),
                OFFICIAL: float(theirs.mean()),
                "standard errors apart": float((ours.mean() - theirs.mean()) / error),
                "standard error": float(error),
            }
        )
    return found


def noise_limit() -> float:
    """Return how many standard errors the widest of the windows may be apart by chance, at 5%."""
    return NormalDist().inv_cdf(1 - 0.05 / (2 * WINDOWS))


def markdown(found: dict[str, Any]) -> str:
    """Return the page that people read, with the goals in plain words."""
    shares = found["encoding beside forward and backward"]
    adds = ", ".join(f"{100 * share:.0f}% in {name}" for name, share in shares.items())
    lines = [
        f"# Training beside the official script, {found['date']}",
        "",
        f"A random UNet of SD1.5's kind, {found['parameters'] / 1e6:.1f} million parameters, at {SIZE} px; "
        f"{found['pictures']} pictures of {2 * SIZE} px, {found['epochs']} epochs in {found['steps']} steps of "
        f"{BATCH}, constant learning rate {RATE}, AdamW, averaged weights, float32, one thread. CPU seconds, medians "
        "(least to most) of turns, each with its own seed. The VAE was scaled to cost what it costs in SD1.5: with the "
        f"text encoder it adds to the UNet's forward and backward, in operations, {adds}.",
        "",
        "| side | images per CPU s, steady | whole run, CPU s | of it start, caches, saving | peak MB |",
        "|---|---|---|---|---|",
        *(_row(side, figures) for side, figures in found["sides"].items()),
        "",
    ]
    if "script" not in found:
        return "\n".join([*lines, "The official script was not given (--official): nothing to compare with.", ""])
    return "\n".join(lines + _verdicts(found))


def _row(side: str, figures: dict[str, Any]) -> str:
    before = figures["before and after the steps CPU s"]
    return (
        f"| {side} | {_spread(figures['images per CPU s'])} | {_spread(figures['whole run CPU s'])} | {before:.1f} | "
        f"{median(figures['peak MB']):.0f} |"
    )


def _spread(values: list[float], digits: int = 1) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def _verdicts(found: dict[str, Any]) -> list[str]:
    steady, whole = found["times the images per CPU s"], found["times as fast end to end"]
    lines = [
        f"Steady: {steady['median']:.2f} times the images per CPU second (turns {_turns(steady)}). "
        f"Goal, at least {GOAL}: {_met(steady['median'] >= GOAL)}.",
        "",
        f"End to end, caches built anew: {whole['median']:.2f} times as fast (turns {_turns(whole)}). "
        f"Goal, ahead: {_met(whole['median'] > 1)}. {_longer(found)}",
        "",
    ]
    if found["losses"]:
        limit = noise_limit()
        widest = max(abs(window["standard errors apart"]) for window in found["losses"])
        lines += [
            "| loss, mean of steps | ours | official script | apart, in standard errors |",
            "|---|---|---|---|",
            *(
                f"| {window['steps'][0]}-{window['steps'][1]} | {window[OURS]:.4f} | {window[OFFICIAL]:.4f} | "
                f"{window['standard errors apart']:+.2f} of {window['standard error']:.4f} |"
                for window in found["losses"]
            ),
            "",
            f"Standard errors from the variance between seeds. Widest {widest:.2f}; the widest of {WINDOWS} windows is "
            f"beyond {limit:.2f} by chance in 5% of cases. Goal, within noise: {_met(widest <= limit)}.",
            "",
        ]
    facts = found["script"]
    return [*lines, f"Script: SHA-256 `{facts['sha256']}`, unchanged; image transforms by {facts['transforms']}.", ""]


def _longer(found: dict[str, Any]) -> str:
    """Say what the medians come to for the epochs of the miniature's recipe; longer trainings favour a cache."""
    small = recipes.miniature()
    epochs = small.steps * small.batch_size / SMALL_SET
    seconds = {
        side: figures["before and after the steps CPU s"]
        + epochs * found["pictures"] / median(figures["images per CPU s"])
        for side, figures in found["sides"].items()
    }
    return (
        f"The miniature's recipe makes {epochs:.0f} epochs of {SMALL_SET} pictures. As many of these "
        f"{found['pictures']}, by the figures above and not run: {seconds[OFFICIAL] / seconds[OURS]:.2f} times."
    )


def _met(holds: bool) -> str:
    return "met" if holds else "MISSED"


def _turns(ratios: dict[str, Any]) -> str:
    return ", ".join(f"{ratio:.2f}" for ratio in ratios["turns"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="path of train_text_to_image.py; without it, our side alone")
    parser.add_argument("--python", default=sys.executable, help="who runs the script, where it is not this Python")
    parser.add_argument("--turns", type=int, default=3, help="each with a seed of its own; two or more compare losses")
    parser.add_argument("--epochs", type=int, default=8, help="of the long runs")
    parser.add_argument("--pictures", type=int, default=64, help=f"a multiple of {BATCH}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the results")
    options = parser.parse_args()
    if options.pictures % BATCH or options.epochs * options.pictures // BATCH < max(WINDOWS, SHORT + 1):
        parser.error(f"--pictures has to be a multiple of {BATCH}, and its --epochs {WINDOWS} steps or more")
    if options.official and not options.official.is_file():
        parser.error(f"--official has to be a file, not {options.official}")
    if not (python := shutil.which(options.python)):
        parser.error(f"--python has to be a Python, not {options.python}")
    options.python = str(Path(python).absolute())
    options.official = options.official and options.official.absolute()
    found = measure(options)
    stem = options.out / f"training-{found['date']}"
    stem.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    text = markdown(found)
    stem.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
