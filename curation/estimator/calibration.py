"""A calibrated estimator: what was asked, which answers count and how much. Written as JSON for people to read.

`Calibration` is the record, `Estimator` applies it to pictures. How it is found: `fitting.py`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import StableDiffusionPipeline

from curation.errors import CalibrationError
from curation.estimator.attention import NORMS
from curation.estimator.denoiser import UNetDenoiser
from curation.estimator.keywords import Keywords
from curation.estimator.likelihood import Probe, Readings, measure
from curation.estimator.score import keyword_score, linear_score

FORMAT = 1
IMPACT, ATTENTION, LIKELIHOOD = "impact", "impact_attention", "impact_likelihood"  # the columns it can write


@dataclass(frozen=True, kw_only=True)
class Position:
    """One kept activation: a token at a cross-attention layer and timestep, and how it was seen to behave."""

    timestep: int
    layer: str
    token: int
    text: str
    role: str  # "start", "word", "end" or "padding"
    sign: float  # 1: larger on good pictures, -1: smaller
    mean: float
    std: float
    auc: float  # of this activation alone, on the calibration labels it was chosen by


@dataclass(frozen=True, kw_only=True)
class Term:
    """One statistic of a score: its mean and deviation over the calibration pictures, and its weight."""

    statistic: str  # "attention@250", "ratio/opposite@250"
    mean: float
    std: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Head:
    """One score: the log odds of "good", linear in standardised statistics."""

    terms: tuple[Term, ...]
    bias: float
    ridge: float
    cross_validated_auc: float  # inside the calibration labels; it took part in choices, so it flatters

    def score(self, statistics: dict[str, np.ndarray]) -> np.ndarray:
        """Return the log odds score_B."""
        x_BF = np.column_stack([statistics[term.statistic] for term in self.terms])
        mean_F, std_F, weight_F = (
            np.array([getattr(term, name) for term in self.terms]) for name in ("mean", "std", "weight")
        )
        return linear_score(x_BF, mean_F, std_F, np.append(weight_F, self.bias))


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Everything that makes a score reproducible. `model` is the fingerprint of the weights it belongs to."""

    model: str
    probe: Probe
    norm: str  # one of attention.NORMS
    positions: tuple[Position, ...]
    heads: dict[str, Head]  # by column name
    pictures: dict[str, int]  # calibration pictures per label: {"high": .., "low": ..}
    held_out: dict[str, Any] = field(default_factory=dict)  # figures on labels that took no part, with the controls'
    format: int = FORMAT

    def statistics(self, readings: Readings) -> dict[str, np.ndarray]:
        """Return every statistic that the heads use: those measured, and the attention score of each timestep."""
        return readings.statistics | {
            f"attention@{timestep}": self._attention_score(readings, index)
            for index, timestep in enumerate(self.probe.timesteps)
        }

    def _attention_score(self, readings: Readings, timestep_index: int) -> np.ndarray:
        norms_BLK = readings.norms_BTNLK[:, timestep_index, NORMS.index(self.norm)]
        kept = [p for p in self.positions if p.timestep == self.probe.timesteps[timestep_index]]
        places_P2 = np.array([(readings.layers.index(p.layer), readings.tokens.index(p.token)) for p in kept])
        sign_P, mean_P, std_P = (np.array([getattr(p, name) for p in kept]) for name in ("sign", "mean", "std"))
        return keyword_score(norms_BLK, places_P2, sign_P, mean_P, std_P)

    def with_held_out(self, figures: dict[str, Any]) -> "Calibration":
        """Return the same calibration with held-out figures beside it."""
        return replace(self, held_out=figures)

    def digest(self) -> str:
        """Return a hash of all that changes scores: everything but the held-out figures."""
        record = asdict(self.with_held_out({}))
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]

    def save(self, path: Path) -> None:
        """Write the calibration as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what `save` wrote. Raises CalibrationError if there is no such file or it is not a calibration."""
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except OSError as error:
            raise CalibrationError(f"no estimator calibration at {path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CalibrationError(f"{path} is not an estimator calibration of format {FORMAT}: {error}") from error

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Calibration":
        """Build a calibration from its JSON value. Raises ValueError, TypeError or KeyError if it does not fit."""
        if record["format"] != FORMAT:
            raise ValueError(f"it has format {record['format']}")
        probe = record["probe"]
        parts = {
            "probe": Probe(
                **probe
                | {"keywords": Keywords(**probe["keywords"])}
                | {name: tuple(probe[name]) for name in ("timesteps", "contrasts")}
            ),
            "positions": tuple(Position(**position) for position in record["positions"]),
            "heads": {
                name: Head(**head | {"terms": tuple(Term(**term) for term in head["terms"])})
                for name, head in record["heads"].items()
            },
        }
        return cls(**record | parts)


class Estimator:
    """A pipeline and its calibration, ready to judge pictures."""

    def __init__(self, pipe: StableDiffusionPipeline, calibration: Calibration) -> None:
        """Raises CalibrationError if the calibration belongs to other weights, or the pipeline is of another class."""
        self.denoiser = UNetDenoiser(pipe)
        self.calibration = calibration
        if self.denoiser.fingerprint() != calibration.model:
            raise CalibrationError(
                "the calibration belongs to other weights than this model's; calibrate the estimator for this model"
            )

    def score(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return one score (B,) per column for uint8 pictures (H, W, 3) of any size; higher is better."""
        if not len(images):
            return {name: np.empty(0) for name in self.calibration.heads}
        positions = self.calibration.positions
        readings = measure(
            self.denoiser,
            self.calibration.probe,
            images,
            tokens=sorted({position.token for position in positions}),
            layers=list(dict.fromkeys(position.layer for position in positions)),
        )
        statistics = self.calibration.statistics(readings)
        return {name: head.score(statistics) for name, head in self.calibration.heads.items()}
