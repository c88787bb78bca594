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
from diffusers import DiffusionPipeline

from curation.errors import CalibrationError
from curation.estimator.attention import NORMS
from curation.estimator.denoiser import FLOAT32, Denoiser
from curation.estimator.keywords import Keywords
from curation.estimator.likelihood import Probe, Readings, measure
from curation.estimator.pipelines import denoiser_of
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
    held_out: dict[str, Any] = field(default_factory=dict)  # figures on labels that took no part, the controls'; depth
    precision: str = FLOAT32  # that the network answered in
    format: int = FORMAT

    @property
    def layers(self) -> dict[int, tuple[str, ...]]:
        """The layers that hold a kept position, by timestep."""
        return {
            timestep: tuple(dict.fromkeys(p.layer for p in self.positions if p.timestep == timestep))
            for timestep in dict.fromkeys(position.timestep for position in self.positions)
        }

    def depth(self, running: Sequence[str]) -> int:
        """Return how many of `running`, the layers in the order they run, a pass needs for the kept positions."""
        return max((running.index(position.layer) + 1 for position in self.positions), default=0)

    def statistics(self, readings: Readings) -> dict[str, np.ndarray]:
        """Return every statistic that the heads use: those measured, and the attention score of each timestep."""
        return readings.statistics | {
            f"attention@{timestep}": self._attention_score(readings, timestep) for timestep in self.layers
        }

    def _attention_score(self, readings: Readings, timestep: int) -> np.ndarray:
        norms_BLK = readings.norms_BTNLK[:, self.probe.timesteps.index(timestep), NORMS.index(self.norm)]
        kept = [p for p in self.positions if p.timestep == timestep]
        places_P2 = np.array([(readings.layers.index(p.layer), readings.tokens.index(p.token)) for p in kept])
        sign_P, mean_P, std_P = (np.array([getattr(p, name) for p in kept]) for name in ("sign", "mean", "std"))
        return keyword_score(norms_BLK, places_P2, sign_P, mean_P, std_P)

    def only(self, column: str) -> "Calibration":
        """Return what one of the scores needs, alone; `impact` is then that score. Without held-out figures.

        Attention needs no contrasts, so its passes end early; the likelihood needs no attention.
        """
        head = self.heads[column]
        kinds, roles = zip(*(_parts(term.statistic) for term in head.terms), strict=True)
        return replace(
            self,
            probe=replace(self.probe, contrasts=tuple(role for role in self.probe.contrasts if role in roles)),
            positions=self.positions if "attention" in kinds else (),
            heads={IMPACT: head, column: head},
            held_out={},
        )

    def with_held_out(self, figures: dict[str, Any]) -> "Calibration":
        """Return the same calibration with held-out figures beside it."""
        return replace(self, held_out=figures)

    def digest(self) -> str:
        """Return a hash of all that changes scores: everything but the held-out figures."""
        record = asdict(self.with_held_out({}))
        if self.precision == FLOAT32:  # not written before there was a choice, and old digests name finished shards
            del record["precision"]
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
    """A model and its calibration, ready to judge pictures."""

    def __init__(self, pipe: DiffusionPipeline | Denoiser, calibration: Calibration) -> None:
        """Raises CalibrationError if the calibration belongs to other weights, or the pipeline is of another class."""
        self.denoiser = denoiser_of(pipe)
        self.calibration = calibration
        if self.denoiser.fingerprint() != calibration.model:
            raise CalibrationError(
                "the calibration belongs to other weights than this model's; calibrate the estimator for this model"
            )

    def unfilled(self) -> "Estimator":
        """Return the same estimator for pictures that come one at a time: passes are not filled up, at a fraction of
        the cost, and scores differ from those of full passes in the last digits."""
        probe = replace(self.calibration.probe, batch=1)
        return Estimator(self.denoiser, replace(self.calibration, probe=probe))

    def score(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return one score (B,) per column for uint8 pictures (H, W, 3) of any size; higher is better."""
        if not len(images):
            return {name: np.empty(0) for name in self.calibration.heads}
        readings = measure(
            self.denoiser,
            self.calibration.probe,
            images,
            tokens=sorted({position.token for position in self.calibration.positions}),
            layers=self.calibration.layers,
        )
        statistics = self.calibration.statistics(readings)
        return {name: head.score(statistics) for name, head in self.calibration.heads.items()}


def _parts(statistic: str) -> tuple[str, str]:
    """Return kind and role of a statistic's name; attention has no role."""
    kind, _, role = statistic.partition("@")[0].partition("/")
    return kind, role
