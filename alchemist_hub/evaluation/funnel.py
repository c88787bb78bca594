"""A funnel run held against known truth: was each drop right, how clean is the kept set, how much richer is it.

Reads the run through `curation.dataset` only. Truth is a parquet file, one row a file of the pool, as
`alchemist_hub.miniature.world.write_pool` leaves it beside the pool. Writes funnel.json, figures/funnel.png, contact
sheets of the kept and of the dropped pictures by reason, and the report pages anew.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import pages, plots
from alchemist_hub.evaluation.metrics import PrecisionRecall, precision_recall
from alchemist_hub.evaluation.results import write_json
from alchemist_hub.evaluation.votes import Interval, interval
from curation import dataset

FUNNEL = "funnel.json"
COPIES = "exact copies"
DECODE = "decode"  # where the report counts files that no step could read
RESAMPLES = 2000
SHEET = 48  # pictures on a contact sheet
TRUTH_COLUMNS = ("img_key", "file", "broken", "small", "tier", "defects", "unsafe", "group")

VERDICT = ("img_key", "status", "kept", "step", "reason")  # of a run's table: its scores may share a truth's name

TOP = "top"
DUPLICATES = "duplicates"

Wanted = Callable[[pd.DataFrame], pd.Series]

# What a stage ought to drop, in words and as a column. Duplicates are judged by groups, see `duplicate_counts`.
WANTED: dict[str, tuple[str, Wanted]] = {
    "decode": ("broken files", lambda rows: rows["broken"]),
    "safety": ("unsafe pictures", lambda rows: rows["unsafe"]),
    "resolution": ("pictures below half the pool's size", lambda rows: rows["small"]),
    "defects": ("pictures with a defect", lambda rows: rows["defects"].map(len) > 0),
    "iqa": ("degraded pictures", lambda rows: rows["tier"] == "degraded"),
    TOP: ("not excellent", lambda rows: rows["tier"] != "excellent"),
}


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """One stage's drops among the samples that reached it."""

    stage: str
    wanted: str | None  # what it ought to drop, in words; None where the truth says nothing about it
    reached: int
    dropped: int
    hits: int | None
    wanted_count: int | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True, kw_only=True)
class Purity:
    """What a set of pictures is made of."""

    count: int
    tiers: dict[str, int]
    unsafe: int
    watermarked: int
    degraded: int
    repeated: int  # pictures beyond the first of their near-duplicate group

    @property
    def excellent_share(self) -> float:
        return self.tiers.get("excellent", 0) / self.count if self.count else 0.0


@dataclass(frozen=True, kw_only=True)
class FunnelReport:
    """What funnel.json holds."""

    pool: int
    stages: tuple[StageResult, ...]
    steps: tuple[tuple[str, dict[str, int]], ...]  # label, tier -> pictures left: the funnel's bars
    reasons: dict[str, int]
    kept: Purity
    candidates: Purity  # what the estimator could choose from
    enrichment: Interval  # truly excellent: share in the kept set over share among the candidates


def funnel_report(run: str | Path, truth: str | Path, out: str | Path, *, pool: str | Path) -> FunnelReport:
    """Hold the finished run `run` against the parquet file `truth`; write funnel.json, figures and pages to `out`.

    `pool` is the folder that the run read: the contact sheets show its files. Raises EvaluationError if the truth
    does not describe the run's pool.
    """
    out = Path(out)
    known = read_truth(Path(truth))
    rows = joined(dataset.scores(Path(run)).to_pandas(), known)
    report = against_truth(rows, known, dataset.steps(Path(run)))
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    plots.funnel(narrowing(report.steps), figures / "funnel.png")
    contact_sheets(rows, Path(pool), figures)
    write_json(asdict(report), out / FUNNEL)
    pages.write(out)
    return report


def narrowing(steps: Sequence[tuple[str, dict[str, int]]]) -> list[tuple[str, dict[str, int]]]:
    """Return the steps that dropped something, and the first: what the figure shows."""
    return [steps[0], *(step for before, step in pairwise(steps) if sum(step[1].values()) < sum(before[1].values()))]


def read_truth(path: Path) -> pd.DataFrame:
    """Read the truth about a pool. Raises EvaluationError if there is none or a column is missing."""
    if not path.is_file():
        raise EvaluationError(f"no truth at {path}: expected the parquet file that write_pool leaves beside a pool")
    table = pq.read_table(path)
    if missing := sorted(set(TRUTH_COLUMNS) - set(table.column_names)):
        raise EvaluationError(f"{path} is no truth about a pool: it lacks {', '.join(missing)}")
    return table.select(list(TRUTH_COLUMNS)).to_pandas()


def joined(samples: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Return the samples with their truth, by img_key. Raises EvaluationError if a sample is not in the truth."""
    rows = samples[[*VERDICT]].merge(truth.drop_duplicates("img_key"), on="img_key", how="left")
    if unknown := int(rows["file"].isna().sum()):
        example = rows.loc[rows["file"].isna(), "img_key"].iloc[0]
        raise EvaluationError(f"{unknown} samples of the run are not in the truth, {example} among them: another pool?")
    return rows


def against_truth(rows: pd.DataFrame, truth: pd.DataFrame, stages: Sequence[str]) -> FunnelReport:
    """Judge the verdicts in `rows` (one row a sample: status, kept, step, reason and truth), stages in funnel order.

    `truth` has a row for each file, so that exact copies, which share a sample, are counted. Files that could not be
    read count as dropped before the first stage, wherever that was noticed.
    """
    rows = rows.assign(step=rows["step"].where(rows["status"] == "ok", DECODE))
    left, results, steps = rows, [_exact_copies(rows, truth)], [("files", _tiers(truth)), (COPIES, _tiers(rows))]
    candidates = rows
    for stage in (DECODE, *stages):
        candidates = left if stage == TOP else candidates
        results.append(stage_result(stage, left))
        left = left[~_dropped_at(left, stage)]
        steps.append((stage, _tiers(left)))
    kept = rows[rows["kept"]]
    return FunnelReport(
        pool=len(truth),
        stages=tuple(results),
        steps=tuple(steps),
        reasons={str(reason): int(n) for reason, n in rows.loc[~rows["kept"], "reason"].value_counts().items()},
        kept=purity(kept),
        candidates=purity(candidates),
        enrichment=enrichment(candidates["tier"] == "excellent", candidates["kept"]),
    )


def stage_result(stage: str, reached: pd.DataFrame) -> StageResult:
    """Count one stage's drops, right and wrong, among the samples that reached it."""
    dropped = _dropped_at(reached, stage)
    words, found = None, None
    if stage == DUPLICATES:
        words, found = "all but one of each group of near-duplicates", duplicate_counts(reached["group"], dropped)
    elif stage in WANTED:
        words, wanted = WANTED[stage]
        found = precision_recall(dropped, wanted(reached))
    return StageResult(
        stage=stage,
        wanted=words,
        reached=len(reached),
        dropped=int(dropped.sum()),
        hits=found and found.hits,
        wanted_count=found and found.wanted,
        precision=found and found.precision,
        recall=found and found.recall,
    )


def _exact_copies(rows: pd.DataFrame, truth: pd.DataFrame) -> StageResult:
    """Files with the same bytes are one sample: right by definition."""
    copies = len(truth) - len(rows)
    return StageResult(
        stage=COPIES,
        wanted="all but one of each set of identical files",
        reached=len(truth),
        dropped=copies,
        hits=copies,
        wanted_count=copies,
        precision=1.0 if copies else None,
        recall=1.0 if copies else None,
    )


def duplicate_counts(groups: pd.Series, dropped: pd.Series) -> PrecisionRecall:
    """Judge drops of near-duplicates: of each group (-1 is alone) all but one are to go, whichever one stays."""
    grouped = pd.DataFrame({"group": groups, "dropped": dropped})[groups >= 0].groupby("group")["dropped"]
    size, gone = grouped.size(), grouped.sum()
    return PrecisionRecall(
        hits=int(np.minimum(gone, size - 1).sum()), flagged=int(dropped.sum()), wanted=int((size - 1).sum())
    )


def purity(rows: pd.DataFrame) -> Purity:
    """Count what a set is made of."""
    groups = rows.loc[rows["group"] >= 0, "group"]
    return Purity(
        count=len(rows),
        tiers=_tiers(rows),
        unsafe=int(rows["unsafe"].sum()),
        watermarked=int(rows["defects"].map(lambda names: "watermark" in names).sum()),
        degraded=int((rows["tier"] == "degraded").sum()),
        repeated=len(groups) - groups.nunique(),
    )


def enrichment(excellent: pd.Series, kept: pd.Series, *, seed: int = 0) -> Interval:
    """Return the share of excellent among the kept candidates over their share among all, resampling candidates.

    NaN where nothing was kept or nothing is excellent.
    """
    cells = np.array(
        [(kept & excellent).sum(), (kept & ~excellent).sum(), (~kept & excellent).sum(), (~kept & ~excellent).sum()]
    )
    if not kept.any() or not excellent.any():
        return Interval(value=np.nan, low=np.nan, high=np.nan)
    drawn_R4 = np.random.default_rng(seed).multinomial(cells.sum(), cells / cells.sum(), size=RESAMPLES)
    return interval(_ratio(cells[None])[0], _ratio(drawn_R4))


def _ratio(cells_R4: np.ndarray) -> np.ndarray:
    """Return (R,) enrichments of counts (kept excellent, kept other, dropped excellent, dropped other)."""
    kept_excellent, kept_other, dropped_excellent, _ = cells_R4.T
    share_kept = kept_excellent / np.maximum(kept_excellent + kept_other, 1)
    share_all = np.maximum(kept_excellent + dropped_excellent, 1) / cells_R4.sum(axis=1)
    return share_kept / share_all


def _dropped_at(rows: pd.DataFrame, stage: str) -> pd.Series:
    return ~rows["kept"] & (rows["step"] == stage)


def _tiers(rows: pd.DataFrame) -> dict[str, int]:
    tiers = rows["tier"].where(~rows["broken"].astype(bool), "broken")
    return {str(tier): int(count) for tier, count in tiers.value_counts().items()}


def contact_sheets(rows: pd.DataFrame, pool: Path, figures: Path) -> None:
    """Draw kept.png, and dropped_REASON.png for each reason; the same few pictures every time."""
    for old in figures.glob("dropped_*.png"):  # of other thresholds
        old.unlink()
    _sheet(rows[rows["kept"]], pool, figures / "kept.png")
    for reason, dropped in rows[~rows["kept"]].groupby("reason"):
        _sheet(dropped, pool, figures / f"dropped_{_file_word(str(reason))}.png")


def _sheet(rows: pd.DataFrame, pool: Path, path: Path) -> None:
    shown = rows.sort_values("img_key").head(SHEET)
    plots.contact_sheet([_picture(pool / file) for file in shown["file"]], path)


def _picture(path: Path) -> Image.Image:
    """Return the picture, or a gray cell for a file that is none: broken files are in the pool on purpose."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:  # what PIL raises for unreadable and cut files alike
        return Image.new("RGB", (64, 64), "#9aa0a6")


def _file_word(reason: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", reason.lower()).strip("_")[:60]
