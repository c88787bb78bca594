"""Calibrate an estimator on one's own labels: a pool of good pictures, a pool of plain ones.

Half of the pictures (by a hash of their bytes) choose and weigh what the estimator reads; the other half is only
measured, together with the controls, and its figures travel with the calibration.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curation import images
from curation.errors import CalibrationError, ImageError, RecipeError
from curation.records import OK
from curation.sources import Source, open_source

if TYPE_CHECKING:
    from curation.estimator.calibration import Calibration
    from curation.estimator.controls import Labelled
    from curation.estimator.fitting import Search
    from curation.estimator.keywords import Family

ROWS_AT_ONCE = 256


def calibrate(
    model: str,
    *,
    good: str | Path | Source,
    plain: str | Path | Source,
    out: Path,
    family: "str | Family" = "stable-diffusion",
    search: "Search | None" = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> "Calibration":
    """Calibrate `model`, a folder or Hub id, save the result as JSON to `out`, return it.

    The estimator reads StableDiffusionPipeline, StableDiffusionXLPipeline and StableDiffusion3Pipeline.

    `family`: the name of one in `curation.estimator.keywords`, or keywords of your own.

    Raises SourceError, RecipeError for a model that cannot be loaded, CalibrationError for one of another class or too
    few pictures.
    """
    from curation.estimator.controls import build_estimator
    from curation.estimator.fitting import DEFAULT_SEARCH
    from curation.estimator.keywords import FAMILIES
    from curation.stages.impact import open_denoiser

    if isinstance(family, str) and family not in FAMILIES:
        raise RecipeError(f"unknown family of keywords {family!r}; known are {', '.join(FAMILIES)}")
    denoiser = open_denoiser(model)
    halves = _halves(good, plain, denoiser.image_size)
    return build_estimator(
        denoiser,
        out,
        calibration=halves[0],
        held_out=halves[1],
        family=FAMILIES[family] if isinstance(family, str) else family,
        search=search or DEFAULT_SEARCH,
        progress=progress,
    )


def lines(calibration: "Calibration") -> list[str]:
    """Return what was chosen and its figures, as people read it."""
    probe, figures = calibration.probe, calibration.held_out
    depth = figures.get("depth")
    early = f", reads {depth['read']} of {depth['layers']} layers" if depth else ""
    told = [
        f"{probe.passes} passes a picture at timesteps {', '.join(map(str, probe.timesteps))}{early}; held out: "
        f"{figures['pictures']['high']} good, {figures['pictures']['low']} plain"
    ]
    told += [f"  AUC of {name}: {_interval(entry, 'auc')}" for name, entry in figures["auc"].items()]
    told += [f"  {row['of']} over {row['over']}: {_interval(row, 'difference')}" for row in figures["above"]]
    return told


def _halves(good: str | Path | Source, plain: str | Path | Source, size: int) -> "tuple[Labelled, Labelled]":
    from curation.estimator.controls import Labelled

    parts: tuple[list[Any], list[Any]] = ([], [])
    for pool, label in ((good, True), (plain, False)):
        for key, pixels in _pictures(pool if isinstance(pool, Source) else open_source(pool), size).items():
            parts[int(key, 16) % 2].append((pixels, label))
    if not all(parts):
        raise CalibrationError("too few pictures to split into a half to calibrate on and a half to measure")
    return tuple(
        Labelled(images=[pixels for pixels, _ in part], labels_B=np.array([label for _, label in part]))
        for part in parts
    )


def _pictures(source: Source, size: int) -> dict[str, np.ndarray]:
    """Return key -> central square of every picture that decodes, ordered by key."""
    from curation.estimator.denoiser import square

    found = {}
    for part in source.slices(ROWS_AT_ONCE):
        for row in source.read(part).to_pylist():
            if row["status"] == OK:
                try:
                    found[row["img_key"]] = square(images.decode(row["image"]), size)
                except ImageError:
                    continue  # as the funnel would, but without a ledger to tell it to
    return dict(sorted(found.items()))


def _interval(entry: dict[str, Any], name: str) -> str:
    low, high = entry["interval"]
    return f"{entry[name]:.3f} [{low:.3f}, {high:.3f}]"
