"""The claim: a diffusion model asked about quality tells good clean pictures from plain ones.

    python benchmarks/estimator.py [--save alchemist_hub/miniature/weights/estimator.json]

Calibrates the estimator and its controls on one draw of the miniature world, measures them on another, beside simple
measures of the picture, and writes `estimator-DATE.json` and `.md` beside this file. Clean pictures only; "good" means
tier excellent or good, against plain. No figure here took part in a choice.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from alchemist_hub.miniature import weights
from alchemist_hub.miniature.world import draw_sample
from curation.estimator import score
from curation.estimator.calibration import Calibration, Estimator
from curation.estimator.controls import KEYWORDS, Labelled, calibrate_with_controls, held_out_figures
from curation.estimator.fitting import Search
from curation.estimator.keywords import MINIATURE
from curation.images import decode, to_jpeg

CALIBRATION_SEED, HELD_OUT_SEED = 11, 12  # the base was trained on seed 1, judges on seed 2
TIERS = ("excellent", "good", "good") + ("plain",) * 6  # the web's mixture of clean pictures
GATE = 0.80


def clean_pictures(seed: int, count: int) -> Labelled:
    """Draw `count` clean pictures of the world as the JPEG files of a pool would show them."""
    rng = np.random.default_rng((seed, 0xE57))
    samples, index = [], 0
    while len(samples) < count:
        sample = draw_sample(seed, index, tier=TIERS[index % len(TIERS)])
        index += 1
        if not sample.truth.unsafe:
            samples.append(sample)
    images = [as_published(sample.image, int(rng.integers(86, 97))) for sample in samples]
    return Labelled(images=images, labels_B=np.array([sample.truth.tier != "plain" for sample in samples]))


def as_published(image: np.ndarray, quality: int) -> np.ndarray:
    """Return the picture after JPEG with chroma subsampling, as `world.write_pool` writes it."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    return decode(data.tobytes())


def grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)


def colourfulness(image: np.ndarray) -> float:
    """Hasler and Suesstrunk's M3."""
    red, green, blue = np.moveaxis(image.astype(np.float64), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    return float(np.linalg.norm(opponents.std(axis=(1, 2))) + 0.3 * np.linalg.norm(opponents.mean(axis=(1, 2))))


def entropy(image: np.ndarray) -> float:
    share = np.bincount(grey(image).astype(int).ravel() // 4, minlength=64) / image[..., 0].size
    return float(-(share[share > 0] * np.log2(share[share > 0])).sum())


SIMPLE: dict[str, Callable[[np.ndarray], float]] = {
    "JPEG size": lambda image: float(np.log(len(to_jpeg(image, quality=90)))),
    "contrast": lambda image: float(grey(image).std()),
    "Laplacian variance": lambda image: float(np.log(cv2.Laplacian(grey(image), cv2.CV_64F).var() + 1e-6)),
    "colourfulness": colourfulness,
    "saturation": lambda image: float(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 1].mean()),
    "brightness": lambda image: float(grey(image).mean()),
    "entropy": entropy,
}
ALL_SIMPLE = "logistic regression of simple measures"


def simple_features(pictures: Labelled) -> np.ndarray:
    """Return the simple measures (B, F) in the order of `SIMPLE`."""
    return np.array([[measure(image) for measure in SIMPLE.values()] for image in pictures.images])


def simple_scores(calibration: Labelled, held_out: Labelled) -> dict[str, np.ndarray]:
    """Score held-out pictures by each simple measure and by all of them, signs and weights from calibration."""
    known_BF, fresh_BF = simple_features(calibration), simple_features(held_out)
    labels_B = calibration.labels_B
    sign_F = np.where(score.auc_per_feature(known_BF, labels_B) >= 0.5, 1.0, -1.0)
    fold_B = score.folds(labels_B, count=5, seed=0)
    ridge = max((score.cross_validated_auc(known_BF, labels_B, fold_B, ridge=r), r) for r in Search().ridges)[1]
    mean_F, std_F = known_BF.mean(axis=0), known_BF.std(axis=0)
    weights_F1 = score.fit_ridge_logistic(score.standardised(known_BF, mean_F, std_F), labels_B, ridge=ridge)
    scores = {name: fresh_BF[:, i] * sign_F[i] for i, name in enumerate(SIMPLE)}
    return scores | {ALL_SIMPLE: score.linear_score(fresh_BF, mean_F, std_F, weights_F1)}


def both_together(
    pipe: StableDiffusionPipeline, estimator: Calibration, calibration: Labelled, held_out: Labelled
) -> np.ndarray:
    """Score held-out pictures by the estimator and the simple measures in one regression: what each still lacks."""
    judge = Estimator(pipe, estimator)
    known_BF, fresh_BF = (
        np.column_stack([judge.score(part.images)["impact"], simple_features(part)]) for part in (calibration, held_out)
    )
    mean_F, std_F = known_BF.mean(axis=0), known_BF.std(axis=0)
    fitted = score.fit_ridge_logistic(score.standardised(known_BF, mean_F, std_F), calibration.labels_B, ridge=10.0)
    return score.linear_score(fresh_BF, mean_F, std_F, fitted)


def seconds_per_picture(pipe: StableDiffusionPipeline, calibration: Calibration, images: list[np.ndarray]) -> float:
    """Return CPU seconds a picture of the calibrated estimator."""
    judge = Estimator(pipe, calibration)
    start = time.process_time()
    judge.score(images)
    return (time.process_time() - start) / len(images)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Calibrate, measure, compare; return every figure."""
    pipe = StableDiffusionPipeline.from_pretrained(arguments.model, dtype=torch.float32, safety_checker=None)
    calibration = clean_pictures(CALIBRATION_SEED, arguments.pictures)
    held_out = clean_pictures(HELD_OUT_SEED, arguments.pictures)
    calibrations = calibrate_with_controls(pipe, calibration, family=MINIATURE, progress=show_progress)
    shipped = calibrations[KEYWORDS]
    figures = held_out_figures(pipe, calibrations, held_out)
    if arguments.save:
        shipped.with_held_out(figures).save(arguments.save)
    impact = Estimator(pipe, shipped).score(held_out.images)["impact"]
    simple = simple_scores(calibration, held_out)
    together = both_together(pipe, shipped, calibration, held_out)
    beside = score.compare_aucs(
        {"estimator": impact, **simple, "estimator and simple measures": together},
        held_out.labels_B,
        [("estimator", name) for name in simple] + [("estimator and simple measures", ALL_SIMPLE)],
    )
    return {
        "date": date.today().isoformat(),
        "model": shipped.model,
        "seeds": {"calibration": CALIBRATION_SEED, "held out": HELD_OUT_SEED},
        "calibration pictures": shipped.pictures,
        "cost": {
            "passes a picture": shipped.probe.passes,
            "CPU seconds a picture": seconds_per_picture(pipe, shipped, list(held_out.images[:128])),
        },
        "chosen": {name: chosen(calibration) for name, calibration in calibrations.items()},
        "held out": figures,
        "beside simple measures": beside,
    }


def chosen(calibration: Calibration) -> dict[str, Any]:
    """Return what the calibration decided on, in short."""
    roles = [position.role for position in calibration.positions]
    return {
        "timesteps": calibration.probe.timesteps,
        "contrasts": calibration.probe.contrasts,
        "norm": calibration.norm,
        "positions": {role: roles.count(role) for role in dict.fromkeys(roles)},
        "cross-validated AUC": {name: head.cross_validated_auc for name, head in calibration.heads.items()},
    }


def show_progress(done: int, total: int) -> None:
    print(f"\rreading {done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)


def markdown(figures: dict[str, Any]) -> str:
    """Return the tables that people read, with the gate and the goal in plain words."""
    aucs, above = figures["held out"]["auc"], figures["held out"]["above"]
    beside = figures["beside simple measures"]
    prompts = list(dict.fromkeys(name.split("/")[0] for name in aucs))
    lines = [
        f"# Estimator on held-out clean pictures, {figures['date']}",
        "",
        f"Excellent or good ({figures['held out']['pictures']['high']}) against plain "
        f"({figures['held out']['pictures']['low']}); ROC AUC with 95% bootstrap intervals. "
        f"{figures['cost']['passes a picture']} passes and "
        f"{figures['cost']['CPU seconds a picture'] * 1000:.0f} CPU ms a picture.",
        "",
        f"| statistic | {' | '.join(prompts)} |",
        "|---" * (len(prompts) + 1) + "|",
        *(
            f"| {title} | {' | '.join(interval_text(aucs[f'{prompt}/{column}'], 'auc') for prompt in prompts)} |"
            for title, column in (
                ("attention norms", "impact_attention"),
                ("likelihood ratio", "impact_likelihood"),
                ("combination (shipped)", "impact"),
            )
        ),
        "",
        "| measure | AUC |",
        "|---|---|",
        *(f"| {name} | {interval_text(row, 'auc')} |" for name, row in beside["auc"].items()),
        "",
        "| paired difference | AUC |",
        "|---|---|",
        *(
            f"| {row['of']} over {row['over']} | {interval_text(row, 'difference')} |"
            for row in [*above, *beside["above"]]
        ),
        "",
        verdict(figures),
    ]
    return "\n".join(lines) + "\n"


def interval_text(row: dict[str, Any], value: str) -> str:
    low, high = row["interval"]
    return f"{row[value]:.3f} [{low:.3f}, {high:.3f}]"


def verdict(figures: dict[str, Any]) -> str:
    """Say whether the gate and the goal are met."""
    auc = figures["held out"]["auc"]["keywords/impact"]["auc"]
    controls = [row for row in figures["held out"]["above"] if row["of"] == "keywords/impact"]
    gate = auc >= GATE and all(row["interval"][0] > 0 for row in controls)
    over_simple = [row for row in figures["beside simple measures"]["above"] if row["of"] == "estimator"]
    goal = all(row["interval"][0] > 0 for row in over_simple)
    return (
        f"Gate (AUC at least {GATE:.2f} and above both controls, paired interval above zero): "
        f"{'met' if gate else 'MISSED'}. Goal (above every simple measure, their regression included, paired): "
        f"{'met' if goal else 'MISSED'}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(weights() / "base"), help="StableDiffusionPipeline folder")
    parser.add_argument("--pictures", type=int, default=1200, help="pictures for calibration, and as many held out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the results")
    parser.add_argument("--save", type=Path, help="write the calibration here")
    arguments = parser.parse_args()
    figures = run(arguments)
    stem = arguments.out / f"estimator-{figures['date']}"
    stem.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    text = markdown(figures)
    stem.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
