"""Did the model copy its training set? The nearest training pictures of generated ones, with a calibrated alarm.

Distances are cosine distances of features, the smaller of the picture's and its mirror image's. How small is
suspicious is read from the training set itself: a generated picture is flagged when it is closer to a training picture
than 99.9% of distinct training pictures are to their nearest other one. So of 1,000 pictures that differ from the
training set as its own members do, one would be flagged by chance; more is a reason to look, which is why the pairs
are drawn. With fewer than 1,000 training pictures the alarm is their smallest distance. Near-duplicates left among
the training pictures make it less sensitive: deduplicate first.

Which features? Of 200 planted copies among 1,000 miniature pictures `thumbnail` flags every resized, re-encoded, noisy,
brighter or mirrored one and 4 in 10 of those cropped by 5%; `miniature-judge`, made to tell contents apart, flags
exact and mirrored copies, but only 6 to 9 in 10 of resized, re-encoded or noisy ones. Both flag fresh pictures as
seldom as promised (0 and 1 of 500). DINOv2 is what to use on photographs.

Shape legend: Q generated pictures (queries), N training pictures, D features, k neighbours.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import plots
from alchemist_hub.evaluation.features import Features, embed_all
from alchemist_hub.evaluation.galleries import Gallery
from alchemist_hub.evaluation.generate import write_parquet

QUANTILE = 0.001
SAME = 1e-4  # training pictures nearer than this are one picture twice
QUERIES, REFERENCES = 512, 8192  # pictures compared at once: 16 MB of distances
SHOWN = 12  # pairs in the sheet
TABLE, SHEET = "memorisation.parquet", "memorisation.png"


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The k nearest references of each query, nearest first."""

    index_Qk: np.ndarray
    distance_Qk: np.ndarray  # 1 - cosine, in [0,2]
    mirrored_Qk: np.ndarray  # whether the query's mirror image was the nearer one


@dataclass(frozen=True, kw_only=True)
class Memorisation:
    """What was found, in numbers."""

    generated: int
    training: int
    threshold: float  # distance below which a picture is flagged
    flagged: int

    @property
    def expected(self) -> float:
        """How many flags chance alone would raise."""
        return QUANTILE * self.generated


def check(found: Features, generated: Gallery, training: Gallery, out: Path, *, k: int = 3) -> Memorisation:
    """Look for copies and write out/memorisation.parquet (every pair) and out/memorisation.png (the closest).

    Features of both sets and their mirror images are held in memory; distances are, a block at a time. Raises
    EvaluationError without generated pictures or with fewer than two training pictures.
    """
    if len(training.names) < 2:
        raise EvaluationError(f"{len(training.names)} training pictures: at least two are needed to know what is close")
    reference_ND = _unit(embed_all(found, training.pictures()))
    threshold = calibrate(reference_ND, _unit(embed_all(found, training.pictures(mirrored=True))))
    query_QD = _unit(embed_all(found, generated.pictures()))
    mirrored_QD = _unit(embed_all(found, generated.pictures(mirrored=True)))
    near = nearest(query_QD, mirrored_QD, reference_ND, k)
    out.mkdir(parents=True, exist_ok=True)
    result = Memorisation(
        generated=len(query_QD),
        training=len(reference_ND),
        threshold=threshold,
        flagged=int((near.distance_Qk[:, 0] < threshold).sum()),
    )
    write_parquet(_table(found, generated, training, near, result), out / TABLE)
    _draw(generated, training, near, threshold, out / SHEET)
    return result


def calibrate(training_ND: np.ndarray, mirrored_ND: np.ndarray) -> float:
    """Return the distance that 0.1% of the training pictures have to their nearest other one, mirrored ones included.

    Takes unit vectors. Raises EvaluationError if there are no two distinct pictures.
    """
    distances = nearest(training_ND, mirrored_ND, training_ND, 1, distinct=True).distance_Qk[:, 0]
    distances = distances[np.isfinite(distances)]
    if not len(distances):
        raise EvaluationError(f"{len(training_ND)} training pictures, all of them alike: nothing to tell copies by")
    return float(np.quantile(distances, QUANTILE, method="lower"))


def nearest(
    query_QD: np.ndarray, mirrored_QD: np.ndarray, reference_ND: np.ndarray, k: int, *, distinct: bool = False
) -> Neighbours:
    """Return the k nearest references of unit vectors, by the picture or its mirror image, a block at a time.

    `distinct`: queries are the references themselves; a picture, its own mirror image and its copies do not count.
    """
    k = min(k, len(reference_ND))
    parts = [
        _nearest(query_QD, mirrored_QD, reference_ND, k, rows, distinct) for rows in _slices(len(query_QD), QUERIES)
    ]
    index, distance, mirrored = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Neighbours(index_Qk=index, distance_Qk=distance, mirrored_Qk=mirrored)


def _nearest(
    query_QD: np.ndarray, mirrored_QD: np.ndarray, reference_ND: np.ndarray, k: int, rows: slice, distinct: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = rows.stop - rows.start
    best = (np.zeros((count, 0), np.int64), np.zeros((count, 0), np.float32), np.zeros((count, 0), bool))
    for columns in _slices(len(reference_ND), REFERENCES):
        plain = 1 - query_QD[rows] @ reference_ND[columns].T
        turned = 1 - mirrored_QD[rows] @ reference_ND[columns].T
        distance, mirrored = np.minimum(plain, turned), turned < plain
        index = np.broadcast_to(np.arange(columns.start, columns.stop), distance.shape)
        if distinct:
            distance[(index == np.arange(rows.start, rows.stop)[:, None]) | (distance < SAME)] = np.inf
        merged = [np.concatenate(pair, axis=1) for pair in zip(best, (index, distance, mirrored), strict=True)]
        order = np.argsort(merged[1], axis=1, kind="stable")[:, :k]
        best = tuple(np.take_along_axis(array, order, axis=1) for array in merged)
    index, distance, mirrored = best
    return index, np.maximum(distance, 0), mirrored


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _unit(features_ND: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return (features_ND / np.maximum(lengths, np.finfo(np.float32).tiny)).astype(np.float32)


def _table(found: Features, generated: Gallery, training: Gallery, near: Neighbours, result: Memorisation) -> pa.Table:
    """Return one row a pair, with what it was measured by in the schema's metadata."""
    count, k = near.index_Qk.shape
    table = pa.table(
        {
            "picture": [generated.names[row] for row in range(count) for _ in range(k)],
            "rank": pa.array(np.tile(np.arange(1, k + 1), count), pa.int32()),
            "training": [training.names[place] for place in near.index_Qk.ravel()],
            "distance": near.distance_Qk.ravel().astype(np.float32),
            "mirrored": near.mirrored_Qk.ravel(),
            "flagged": near.distance_Qk.ravel() < result.threshold,
        }
    )
    by = {"features": found.name, "source": found.source, "revision": found.revision}
    told = by | {"threshold": result.threshold, "quantile": QUANTILE, "training": result.training}
    return table.replace_schema_metadata({"memorisation": json.dumps(told)})


def _draw(generated: Gallery, training: Gallery, near: Neighbours, threshold: float, path: Path) -> None:
    """Draw the closest pairs: a generated picture and what it is nearest to."""
    order = np.argsort(near.distance_Qk[:, 0], kind="stable")[:SHOWN]
    rows = [
        [generated.picture(row), *(training.picture(place) for place in near.index_Qk[row].tolist())]
        for row in order.tolist()
    ]
    labels = [_label(generated.names[row], near, row, threshold) for row in order.tolist()]
    columns = ["generated", *(f"nearest {rank}" for rank in range(1, near.index_Qk.shape[1] + 1))]
    plots.picture_grid(rows, labels, columns, path)


def _label(name: str, near: Neighbours, row: int, threshold: float) -> str:
    distance = near.distance_Qk[row, 0]
    found = f"{name[:24]}: distance {distance:.3f}{', mirrored' if near.mirrored_Qk[row, 0] else ''}"
    return f"{found}; FLAGGED, limit {threshold:.3f}" if distance < threshold else f"{found}; limit {threshold:.3f}"
