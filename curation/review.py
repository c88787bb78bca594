"""A run looked at by people: what other thresholds would do, who would enter and who would leave, and each one's story.

Everything is answered from the ledger. Pictures are shown small: from RUN/thumbnails.parquet, which a packed run
brings along (`curation.pack`), or from the pool, where it still is.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from curation import explain
from curation.engines.driver import image_reader
from curation.errors import CurationError, ImageError, LedgerError
from curation.explain import NOT_REACHED, FunnelRow, Judgement, Why
from curation.images import decode
from curation.ledger import Ledger, ends
from curation.plan import Outline, StepOutline
from curation.sources import reopen
from curation.stages.base import Rule
from curation.verdicts import DROP, KEEP, NOT_SCORED, checks, quoted

__all__ = [
    "DROP", "KEEP", "NOT_REACHED", "NOT_SCORED", "Answer", "Control", "FunnelRow", "Judgement", "Percentile", "Review",
    "Seen", "Why",
]  # fmt: skip

SAFETY = "safety"  # the step whose drops are not shown
THUMBNAILS = "thumbnails.parquet"  # img_key, picture: the encoded bytes
THUMBNAIL_SIDE = 96  # pixels, the longer side of what is shown of a pool's pictures
BINS = 48
STEPS = 200  # places that a threshold can take between the ends of its range
OUTLIERS = 0.005  # share of the scores, the highest, that a range need not reach if they are far from the rest


@dataclass(frozen=True, kw_only=True)
class Control:
    """A rule whose threshold is a number: where it stands, where it can go, and how its scores are distributed."""

    step: str
    rule: Rule
    low: float
    high: float
    resolution: float  # between two places of the threshold
    bars: tuple[float, ...]  # samples between `low` and `high`, in equal parts; for a rank, the mean score there
    scored: int
    ranked_by: str | None  # the score that a rank was made of, None for a score itself


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A sample as it is listed. `reason`: why it is not kept, None where it is; `step`: where it was dropped."""

    img_key: str
    url: str
    step: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What thresholds would do. `entering` and `leaving`: against the run's own, the first few of each."""

    rows: tuple[FunnelRow, ...]
    before: tuple[FunnelRow, ...]  # the run's own
    kept: int
    entering: tuple[Seen, ...]
    leaving: tuple[Seen, ...]
    enters: int  # how many in all
    leaves: int
    unjudged: Mapping[str, int]  # step -> samples it would be given and has never judged; a rerun would tell


@dataclass(frozen=True, kw_only=True)
class Percentile:
    """Where a score lies among those of a run: the share of samples that score less, in [0,1]."""

    below: float
    scored: int


class Review:
    """A run and its questions. Raises LedgerError where `run` is not a run that judged anything."""

    def __init__(self, run: str | Path) -> None:
        self.ledger = Ledger(run)
        self.outline = self.ledger.outline
        self.before = tuple(explain.funnel(self.ledger))
        if not self.before[0].entered:
            raise LedgerError(f"{run} has judged nothing yet: run `alchemist curate run` first")

    @cached_property
    def controls(self) -> tuple[Control, ...]:
        """One for each column that one rule reads, with a number for a threshold, in order; none without scores."""
        rules = [(step, rule) for step in self.outline.steps for rule in step.rules]
        read = Counter(rule.column for _, rule in rules)
        single = [(step, rule) for step, rule in rules if read[rule.column] == 1]
        made = [self._control(step, rule) for step, rule in single if not isinstance(rule.threshold, bool)]
        return tuple(control for control in made if control)

    def with_thresholds(self, thresholds: Mapping[str, float]) -> Outline:
        """Return the run's outline with other thresholds, by column. Raises RecipeError for an unknown column."""
        return self.outline.with_thresholds(self._changed(thresholds))

    def ask(self, thresholds: Mapping[str, float], *, most: int = 60) -> Answer:
        """Say what these thresholds, by column, would do; at most `most` samples are listed of each kind."""
        outline = self.with_thresholds(thresholds)
        ledger = self.ledger.what_if(outline)
        rows = tuple(explain.funnel(ledger, outline))
        kept = self._kept(ledger, outline)
        leaving, entering = self._kept_before - kept, kept - self._kept_before
        return Answer(
            rows=rows,
            before=self.before,
            kept=rows[-1].kept,
            entering=self._listed(ledger, outline, sorted(entering)[:most]),
            leaving=self._listed(ledger, outline, sorted(leaving)[:most]),
            enters=len(entering),
            leaves=len(leaving),
            unjudged={row.step: row.reasons[NOT_SCORED] for row in rows if row.reasons.get(NOT_SCORED)},
        )

    def kept(self, thresholds: Mapping[str, float], *, most: int = 60) -> tuple[Seen, ...]:
        """List what these thresholds keep, the best rank first where there is one, at most `most`."""
        outline = self.with_thresholds(thresholds)
        ledger = self.ledger.what_if(outline)
        rank = [rule.column for step in outline.steps if step.is_reduction for rule in step.rules if rule.op == "<="]
        table = ledger.failures(checks(outline), ["url", *rank])
        table = table.filter(table["failed"].is_null())
        table = table.sort_by([(name, "ascending") for name in (*rank, "img_key")])
        return self._listed(ledger, outline, table["img_key"].to_pylist()[:most], in_order=True)

    def dropped(self, thresholds: Mapping[str, float], step: str, reason: str, *, most: int = 60) -> tuple[Seen, ...]:
        """List what these thresholds drop at `step` for `reason`, at most `most`."""
        outline = self.with_thresholds(thresholds)
        ledger = self.ledger.what_if(outline)
        asked = checks(outline)
        table = ledger.failures(asked, [])
        keys = [
            key
            for key, (failed, missing, status) in zip(table["img_key"].to_pylist(), ends(table), strict=True)
            if failed is not None and (asked[failed].step, asked[failed].reason(missing, status)) == (step, reason)
        ]
        return self._listed(ledger, outline, keys[:most])

    def why(self, key: str, thresholds: Mapping[str, float]) -> Why:
        """Tell everything about one sample under these thresholds. Raises LedgerError for an unknown key."""
        outline = self.with_thresholds(thresholds)
        return explain.why(self.ledger.what_if(outline), key, outline)

    def percentile(self, column: str, score: float) -> Percentile | None:
        """Say where a score lies among those of the run, None where the run has none of that name."""
        if column not in self.outline.columns:
            return None
        name = quoted([column])
        row = self.ledger.query(
            f"SELECT count(*) AS scored, count(*) FILTER ({name} < ?) AS below FROM samples "
            f"WHERE {self._is_scored(column)}",
            [score],
        ).to_pylist()[0]
        return Percentile(below=row["below"] / row["scored"], scored=row["scored"]) if row["scored"] else None

    def veiled(self, keys: Sequence[str]) -> frozenset[str]:
        """Return those of `keys` whose pictures are not to be shown: they fail the run's own rules of safety."""
        rules = [check for check in checks(self.outline) if check.rule and check.step == SAFETY]
        if not rules or not keys:
            return frozenset()
        table = self.ledger.failures(rules, [], _among(keys))
        return frozenset(table.filter(table["failed"].is_valid())["img_key"].to_pylist())

    def thumbnail(self, key: str) -> Image.Image | None:
        """Return a small picture of a sample, None where there is none or its file is gone."""
        if self._thumbnails is not None:
            stored = self._thumbnails.get(key)
            return Image.open(io.BytesIO(stored)).convert("RGB") if stored else None
        if self._read_image is None:
            return None
        try:
            pixels = decode(self._read_image(key))
        except (ImageError, LedgerError, OSError):
            return None
        picture = Image.fromarray(pixels)
        picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
        return picture

    @cached_property
    def has_pictures(self) -> bool:
        """Whether there is anything to show: thumbnails that came along, or a pool that is still there."""
        return self._thumbnails is not None or self._read_image is not None

    @cached_property
    def _thumbnails(self) -> dict[str, bytes] | None:
        path = self.ledger.run / THUMBNAILS
        if not path.is_file():
            return None
        table = pq.read_table(path)
        return dict(zip(table["img_key"].to_pylist(), table["picture"].to_pylist(), strict=True))

    @cached_property
    def _read_image(self) -> Any:
        """The way back to the pool's files, None where it is not there any more."""
        try:
            return image_reader(self.ledger, reopen(self.ledger.source, self.ledger.run))
        except (CurationError, KeyError):
            return None

    @cached_property
    def _kept_before(self) -> frozenset[str]:
        return self._kept(self.ledger, self.outline)

    def _kept(self, ledger: Ledger, outline: Outline) -> frozenset[str]:
        table = ledger.failures(checks(outline), [])
        return frozenset(table.filter(table["failed"].is_null())["img_key"].to_pylist())

    def _changed(self, thresholds: Mapping[str, float]) -> dict[str, float]:
        """Those that differ from the run's own by more than half a place: a slider rounds to its places."""
        controls = {control.rule.column: control for control in self.controls}
        return {
            column: value
            for column, value in thresholds.items()
            if column not in controls or abs(value - controls[column].rule.threshold) > controls[column].resolution / 2
        }

    def _listed(self, ledger: Ledger, outline: Outline, keys: list[str], *, in_order: bool = False) -> tuple[Seen, ...]:
        if not keys:
            return ()
        asked = checks(outline)
        table = ledger.failures(asked, ["url"], _among(keys))
        found = {}
        for key, url, end in zip(table["img_key"].to_pylist(), table["url"].to_pylist(), ends(table), strict=True):
            failed, missing, status = end
            step = None if failed is None else asked[failed].step
            reason = None if failed is None else asked[failed].reason(missing, status)
            found[key] = Seen(img_key=key, url=url, step=step, reason=reason)
        return tuple(found[key] for key in (keys if in_order else sorted(found)))

    def _control(self, step: StepOutline, rule: Rule) -> Control | None:
        name = quoted([rule.column])
        found = self.ledger.query(
            f"SELECT count(*) AS scored, min({name})::DOUBLE AS low, max({name})::DOUBLE AS high, "
            f"quantile_cont({name}::DOUBLE, {1 - OUTLIERS}) AS most FROM samples WHERE {self._is_scored(rule.column)}"
        ).to_pylist()[0]
        if not found["scored"]:
            return None
        ranked_by = step.reads[0] if step.is_reduction and len(step.reads) == 1 else None
        is_whole = self.outline.columns.get(rule.column, "").startswith(("int", "uint"))
        low = min(found["low"], rule.threshold)
        reach = max(found["most"], 2 * rule.threshold)
        high = max(rule.threshold, reach if found["high"] > 2 * reach else found["high"])
        resolution = round_step((high - low) / STEPS, least=1.0 if is_whole else 0.0)
        low, high = np.floor(low / resolution) * resolution, np.ceil(high / resolution) * resolution
        high = max(high, low + resolution)
        return Control(
            step=step.name,
            rule=rule,
            low=round(float(low), 9),
            high=round(float(high), 9),
            resolution=resolution,
            bars=self._bars(rule.column, ranked_by, float(low), float(high)),
            scored=found["scored"],
            ranked_by=ranked_by,
        )

    def _bars(self, column: str, ranked_by: str | None, low: float, high: float) -> tuple[float, ...]:
        value = f"avg({quoted([ranked_by])})" if ranked_by else "count(*)"
        place = f"floor(({quoted([column])}::DOUBLE - {low!r}) / {(high - low) / BINS!r})"
        counted = self.ledger.query(
            f"SELECT least({place}, {BINS - 1})::INTEGER AS place, {value}::DOUBLE AS value FROM samples "
            f"WHERE {self._is_scored(column)} AND {quoted([column])} BETWEEN {low!r} AND {high!r} GROUP BY place"
        )
        bars = dict(zip(counted["place"].to_pylist(), counted["value"].to_pylist(), strict=True))
        return tuple(bars.get(place, 0.0) for place in range(BINS))

    def _is_scored(self, column: str) -> str:
        kind, name = self.outline.columns.get(column, ""), quoted([column])
        return f"{name} IS NOT NULL" + (f" AND NOT isnan({name})" if kind in ("float", "double") else "")


def round_step(step: float, *, least: float = 0.0) -> float:
    """Return the nearest of 1, 2 and 5 times a power of ten to `step`, at least `least`."""
    if step <= 0:
        return least or 1.0
    power = 10.0 ** np.floor(np.log10(step))
    nearest = min((1, 2, 5, 10), key=lambda factor: abs(np.log(step / (factor * power))))
    return max(float(f"{nearest * power:.1g}"), least)


def _among(keys: Sequence[str]) -> str:
    """SQL that is true for these keys; they are hex."""
    return "img_key IN ('" + "', '".join(key.replace("'", "''") for key in keys) + "')"
