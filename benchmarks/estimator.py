"""The claim: a diffusion model asked about quality tells good clean pictures from plain ones.

    python benchmarks/estimator.py [--save alchemist_hub/miniature/weights/estimator.json]

Calibrates the estimator and its controls on one draw of the miniature world, measures them on another, beside simple
measures of the picture, and writes `estimator-DATE.json` and `.md` beside this file. Clean pictures only; "good" means
tier excellent or good, against plain. No figure here took part in a choice.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import json
import time
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import StableDiffusionPipeline

from alchemist_hub.miniature import weights
from alchemist_hub.miniature.labelled import CALIBRATION_SEED, HELD_OUT_SEED, clean_files
from benchmarks.simple_measures import LOGISTIC, fitted_scores, simple_features
from curation.estimator import score
from curation.estimator.calibration import Calibration, Estimator
from curation.estimator.controls import KEYWORDS, Labelled, calibrate_with_controls, held_out_figures
from curation.estimator.keywords import MINIATURE
from curation.images import decode

GATE = 0.80


def simple_features_of(files: list[bytes]) -> pd.DataFrame:
    return pd.DataFrame([simple_features(data) for data in files])


def seconds_per_picture(pipe: StableDiffusionPipeline, calibration: Calibration, images: list[np.ndarray]) -> float:
    """Return CPU seconds a picture of the calibrated estimator."""
    judge = Estimator(pipe, calibration)
    start = time.process_time()
    judge.score(images)
    return (time.process_time() - start) / len(images)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Calibrate, measure, compare; return every figure."""
    pipe = StableDiffusionPipeline.from_pretrained(arguments.model, dtype=torch.float32, safety_checker=None)
    known_files, known_labels = clean_files(CALIBRATION_SEED, arguments.pictures)
    fresh_files, fresh_labels = clean_files(HELD_OUT_SEED, arguments.pictures)
    calibration = Labelled(images=[decode(data) for data in known_files], labels_B=known_labels)
    held_out = Labelled(images=[decode(data) for data in fresh_files], labels_B=fresh_labels)
    calibrations = calibrate_with_controls(pipe, calibration, family=MINIATURE, progress=show_progress)
    shipped = calibrations[KEYWORDS]
    figures = held_out_figures(pipe, calibrations, held_out)
    if arguments.save:
        shipped.with_held_out(figures).save(arguments.save)
    judge = Estimator(pipe, shipped)
    impact = judge.score(held_out.images)["impact"]
    known, fresh = simple_features_of(known_files), simple_features_of(fresh_files)
    simple = fitted_scores(known, known_labels, fresh)
    known_impact = judge.score(calibration.images)["impact"]
    together = fitted_scores(known.assign(impact=known_impact), known_labels, fresh.assign(impact=impact))[LOGISTIC]
    beside = score.compare_aucs(
        {"estimator": impact, **simple, "estimator and simple measures": together},
        held_out.labels_B,
        [("estimator", name) for name in simple] + [("estimator and simple measures", LOGISTIC)],
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
