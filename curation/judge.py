"""One picture before the judges of a run: every score, what each rule says, and where it would stand in the run.

The stages are those of the run's recipe. What a run decides about all samples at once is asked of its ledger: a
near-duplicate is looked for among the pictures that got that far, and the rank is the one that the score would get.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.errors import ImageError, RecipeError
from curation.explain import Judgement
from curation.images import decode, decode_table, probe
from curation.plan import Outline, Recipe
from curation.records import SAMPLE
from curation.review import Percentile, Review
from curation.sources.base import sample
from curation.stages.alignment import Picture, same_picture
from curation.stages.base import Stage
from curation.stages.captions import Captioner
from curation.stages.duplicates import Duplicates
from curation.stages.fingerprint import ODD
from curation.stages.top import Top
from curation.verdicts import DROP, KEEP, checks, outcomes

if TYPE_CHECKING:  # seconds to import: what may be uploaded is known before the judges are
    from curation.estimator.maps import Maps

MOST_BYTES = 20 << 20  # of a file
MOST_PIXELS = 40_000_000
SEEN_SIDE = 512  # pixels
NEIGHBOURS = 6  # at most, the nearest first


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A sample of the run that looks like the picture. `is_copy`: also pixel by pixel; None where it has no picture."""

    img_key: str
    url: str
    bits: int  # of 64 that differ
    in_mirror: bool
    is_copy: bool | None
    is_better: bool  # by the score that decides which copy is kept


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the judges say. `step` and `reason`: of the first rule that fails, None where the picture is kept."""

    img_key: str
    width: int  # pixels as displayed
    height: int
    seen: np.ndarray  # uint8 RGB (S, S, 3), S at most `SEEN_SIDE`: the central square, all that the estimator sees
    judgements: tuple[Judgement, ...]
    scores: Mapping[str, float | int | bool]
    percentiles: Mapping[str, Percentile]
    step: str | None
    reason: str | None
    caption: str | None
    neighbours: tuple[Neighbour, ...]
    is_in_run: bool  # this very file
    candidates: int  # samples that the run ranked
    maps: "Maps | None"  # None where the recipe has no estimator

    @property
    def kept(self) -> bool:
        """Whether it passes every rule."""
        return self.step is None


class Jury:
    """The judges of a recipe, opened when first asked, beside a run that was made with them. One picture at a time."""

    def __init__(self, recipe: Recipe, review: Review) -> None:
        """Raises RecipeError if the run was made with other judges than the recipe's."""
        if difference := review.outline.difference(recipe.outline):
            raise RecipeError(f"the run was made with other judges than these models: {difference}")
        self.recipe = recipe
        self.review = review
        self._lock = Lock()
        self._opened: set[str] = set()

    def judge(self, image: bytes, *, outline: Outline | None = None, with_caption: bool = False) -> Verdict:
        """Judge the bytes of a picture's file by the rules of `outline`, the run's own unless given.

        Raises ImageError if they are not one whole, supported picture within `MOST_BYTES` and `MOST_PIXELS`.
        """
        pixels = admitted(image)
        with self._lock:
            try:
                return self._judged(image, pixels, outline or self.review.outline, with_caption)
            finally:
                decode_table(SAMPLE.empty_table())  # lets go of the picture

    def _judged(self, image: bytes, pixels: np.ndarray, outline: Outline, with_caption: bool) -> Verdict:
        table = pa.Table.from_pylist([sample("", image, None)], SAMPLE)
        for step in self.recipe.steps:
            if isinstance(step.judge, Stage) and (with_caption or not isinstance(step.judge, Captioner)):
                table = self._open(step.judge)(table)
        row = table.to_pylist()[0]
        neighbours = self._neighbours(row, pixels)
        row |= {"is_keeper": not any(each.is_copy and each.is_better for each in neighbours)}
        rank, candidates = self._rank(row)
        row |= {"impact_rank": rank}
        judgements = _ruled(outline, row)
        failed = next((each for each in judgements if each.outcome != KEEP), None)
        scores = {name: row[name] for name in outline.columns if isinstance(row.get(name), int | float)}
        return Verdict(
            img_key=row["img_key"],
            width=row["width"],
            height=row["height"],
            seen=_seen(pixels),
            judgements=judgements,
            scores=scores,
            percentiles=self._percentiles(scores),
            step=failed and failed.step,
            reason=failed and (failed.reason if failed.outcome == DROP else failed.outcome),
            caption=row.get("prompt"),
            neighbours=neighbours,
            is_in_run=bool(self._registered(row["img_key"])),
            candidates=candidates,
            maps=self._maps(pixels),
        )

    def _open(self, judge: Stage) -> Stage:
        from curation.stages.impact import Impact

        if judge.name not in self._opened:
            judge.open()
            if isinstance(judge, Impact):
                judge.estimator = judge.estimator.unfilled()
            self._opened.add(judge.name)
        return judge

    def _maps(self, pixels: np.ndarray) -> "Maps | None":
        from curation.estimator.maps import maps
        from curation.stages.impact import Impact

        judges = [step.judge for step in self.recipe.steps if isinstance(step.judge, Impact)]
        return maps(judges[0].estimator.denoiser, judges[0].estimator.calibration, pixels) if judges else None

    def _percentiles(self, scores: Mapping[str, Any]) -> dict[str, Percentile]:
        floats = {name for name, kind in self.review.outline.columns.items() if kind in ("float", "double")}
        found = {name: self.review.percentile(name, score) for name, score in scores.items() if name in floats}
        return {name: percentile for name, percentile in found.items() if percentile}

    def _rank(self, row: Mapping[str, Any]) -> tuple[int | None, int]:
        """The rank that the picture's score would get, and among how many."""
        if Top.name not in {step.name for step in self.review.outline.steps} or row.get("impact") is None:
            return None, 0
        counted = self.review.ledger.query(
            "SELECT count(*) AS ranked, count(*) FILTER (impact > ?) AS better FROM samples "
            "WHERE impact_rank IS NOT NULL AND img_key <> ?",
            [row["impact"], row["img_key"]],
        ).to_pylist()[0]
        return counted["better"] + 1, counted["ranked"]

    def _neighbours(self, row: Mapping[str, Any], pixels: np.ndarray) -> tuple[Neighbour, ...]:
        """Those within the radius of the recipe's search for near-duplicates; only what reached that step counts."""
        judges = [step.judge for step in self.recipe.steps if isinstance(step.judge, Duplicates)]
        if not judges or row.get("phash") is None:
            return ()
        known = self.review.ledger.query(
            "SELECT img_key, url, phash, iqa FROM samples WHERE is_keeper IS NOT NULL AND img_key <> ? "
            "ORDER BY img_key",
            [row["img_key"]],
        )
        hashes_N = known["phash"].to_numpy()
        bits_2N = np.stack([differing(hashes_N, np.uint64(row["phash"]) ^ flip) for flip in (np.uint64(0), ODD)])
        bits_N = bits_2N.min(axis=0)
        nearest = [int(place) for place in np.argsort(bits_N, kind="stable")[:NEIGHBOURS]]
        return tuple(
            self._neighbour(known.slice(place, 1).to_pylist()[0], row, pixels, bits_2N[:, place])
            for place in nearest
            if bits_N[place] <= judges[0].radius
        )

    def _neighbour(
        self, found: Mapping[str, Any], row: Mapping[str, Any], pixels: np.ndarray, bits_2: np.ndarray
    ) -> Neighbour:
        in_mirror = bool(bits_2[1] < bits_2[0])
        shown = self.review.thumbnail(found["img_key"])
        mine = Picture.of(pixels[:, ::-1] if in_mirror else pixels)
        return Neighbour(
            img_key=found["img_key"],
            url=found["url"],
            bits=int(bits_2.min()),
            in_mirror=in_mirror,
            is_copy=None if shown is None else same_picture(mine, Picture.of(np.asarray(shown))),
            is_better=(-found["iqa"], found["img_key"]) < (-row["iqa"], row["img_key"]),
        )

    def _registered(self, key: str) -> int:
        return len(self.review.ledger.query("SELECT img_key FROM samples WHERE img_key = ?", [key]))


def admitted(image: bytes) -> np.ndarray:
    """Return the pixels, uint8 RGB (H, W, 3). Raises ImageError for what is too large or not one whole picture."""
    if len(image) > MOST_BYTES:
        raise ImageError(f"too large: {len(image) / 1e6:.0f} MB, at most {MOST_BYTES / 1e6:.0f} MB are read")
    header = probe(image)
    if header.width * header.height > MOST_PIXELS:
        raise ImageError(
            f"too large: {header.width} x {header.height} pixels, at most {MOST_PIXELS // 10**6} million are opened"
        )
    return decode(image)


def _seen(pixels: np.ndarray) -> np.ndarray:
    from curation.estimator.denoiser import square

    return square(pixels, min(SEEN_SIDE, *pixels.shape[:2]))


def differing(hashes_N: np.ndarray, value: np.uint64) -> np.ndarray:
    """Return in how many bits each uint64 differs from `value` (N,)."""
    return np.unpackbits((hashes_N ^ value).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)


def _ruled(outline: Outline, row: Mapping[str, Any]) -> tuple[Judgement, ...]:
    """Every rule applied to one scored sample."""
    asked = [check for check in checks(outline) if check.rule]
    columns = {check.rule.column: outline.columns.get(check.rule.column, "int64") for check in asked}
    scored = pa.table({name: pa.array([row.get(name)], pa.type_for_alias(kind)) for name, kind in columns.items()})
    (told,) = outcomes(scored, asked)
    return tuple(
        Judgement(
            check.step,
            check.rule.column,
            row.get(check.rule.column),
            check.rule.op,
            check.rule.threshold,
            outcome,
            check.rule.reason,
        )
        for check, outcome in zip(asked, told, strict=True)
    )


def jury_of(review: Review, models: Path) -> Jury:
    """Return the judges that a run was made with, from the folder `models`.

    Raises RecipeError if the run's recipe is not one of `curation.recipes`, or its models are others.
    """
    from curation import recipes

    made = {"miniature": recipes.miniature, "alchemist": recipes.alchemist}
    if review.outline.name not in made:
        raise RecipeError(f"the run was made with the recipe {review.outline.name}; known are {', '.join(made)}")
    return Jury(made[review.outline.name](models), review)
