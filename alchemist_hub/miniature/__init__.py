"""The embedded small world: a renderer with known quality, and small real models trained on it."""

from pathlib import Path


def weights() -> Path:
    """Return the folder of the shipped models: base, tuned, safety, defects, iqa, captioner, judge."""
    return Path(__file__).parent / "weights"


def shipped_run() -> Path:
    """Return the folder of the shipped run: the funnel of `alchemist demo`, packed with thumbnails of its pool."""
    return Path(__file__).parent / "run"
