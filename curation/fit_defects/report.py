"""What a fitted network is worth: ROC AUC of every label on files it never saw, and the card that says so.

The views of one file are not independent, so intervals resample files, not views.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import yaml

from curation.estimator.score import auc, interval
from curation.fit_defects.pictures import LABELS, Picture
from curation.fit_defects.training import Settings, view

VIEWS = 8  # of every clean picture held out
RESAMPLES = 500

Figures = dict[str, dict[str, Any]]  # label -> auc, interval, files, views


def measure(
    network: torch.nn.Module,
    to_pixels: Callable[[list[np.ndarray]], torch.Tensor],
    pictures: Sequence[Picture],
    labels: Sequence[str],
    settings: Settings,
) -> Figures:
    """Return the AUC of every label on pictures held out, with a 95% interval; None where they hold but one kind."""
    scores, truths, owners = [], [], []
    for number, picture in enumerate(pictures):
        for draw in range(VIEWS if picture.labels is None else 1):
            shown = view(picture, np.random.default_rng((settings.seed, 1, number, draw)), settings.size)
            with torch.inference_mode():
                scores.append(network(to_pixels([shown.pixels]).to(network.device)).logits[0].cpu().numpy())
            truths.append(shown.labels)
            owners.append(number)
    found = np.array(scores), np.array(truths), np.array(owners)
    return {
        label: _figure(found[0][:, column], found[1][:, LABELS.index(label)], found[2])
        for column, label in enumerate(labels)
    }


def _figure(scores_N: np.ndarray, truths_N: np.ndarray, owner_N: np.ndarray) -> dict[str, Any]:
    is_known_N = ~np.isnan(truths_N)
    scores_N, is_bad_N, owner_N = scores_N[is_known_N], truths_N[is_known_N] >= 0.5, owner_N[is_known_N]
    owners = np.unique(owner_N)
    figure = {"auc": None, "interval": None, "files": len(owners), "views": len(scores_N)}
    if is_bad_N.all() or not is_bad_N.any():
        return figure
    rng, rows, values = np.random.default_rng(0), [np.flatnonzero(owner_N == owner) for owner in owners], []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rows[place] for place in rng.integers(len(rows), size=len(rows))])
        if is_bad_N[drawn].any() and not is_bad_N[drawn].all():
            values.append(auc(scores_N[drawn], is_bad_N[drawn]))
    return figure | {"auc": auc(scores_N, is_bad_N), "interval": list(interval(np.array(values)))}


def lines(figures: Figures) -> list[str]:
    """Return the figures as people read them."""
    return [f"  {label}: AUC {_told(figure)}" for label, figure in figures.items()]


def card(figures: Figures, record: dict[str, Any]) -> str:
    """Return the README.md of a fitted network. `record`: what training.json holds."""
    head = {
        "library_name": "transformers",
        "pipeline_tag": "image-classification",
        "tags": ["image-quality", "multi-label"],
    }
    if record["settings"]["backbone"]:
        head["base_model"] = record["settings"]["backbone"]
    rows = [f"| {name} | {_told(row)} | {row['files']} | {row['views']} |" for name, row in figures.items()]
    size, data = record["settings"]["size"], record["data"]
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
            "# Visible defects of pictures\n",
            "The probability of each defect, independent of the others: the judge `defects` of a curation funnel.\n",
            "| label | AUC on files held out (95%) | files | views |\n|---|---|---|---|",
            *rows,
            "",
            f"Data: {data['training']} files to learn from, {data['validation']} others to measure on, of them "
            f"{data['labelled']} with labels by people. The rest is clean pictures, damaged by `curation.degrade` in "
            f"every view anew. Seed {record['settings']['seed']}, {record['steps']} steps of "
            f"{record['settings']['batch']} views.\n",
            "## Limits\n",
            f"- The whole picture is seen at {size} x {size} pixels: what vanishes at that size is not found.",
            "- Damage done on purpose is not the web's; the figures above are on damage of the same making, and "
            "intervals resample files. Measure on pictures of your own before you trust a threshold.",
            "- Files are held out by their bytes: copies of one picture may stand on both sides.",
            "",
        ]
    )


def _told(figure: dict[str, Any]) -> str:
    if figure["auc"] is None:
        return f"not measured: one kind only in {figure['views']} views"
    low, high = figure["interval"]
    return f"{figure['auc']:.3f} [{low:.3f}, {high:.3f}]"
