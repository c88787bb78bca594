"""The embedded small world: a renderer with known quality, and small real models trained on it."""

from pathlib import Path


def weights() -> Path:
    """Return the folder of the shipped models: base, tuned, safety, defects, iqa, captioner, judge."""
    return Path(__file__).parent / "weights"
