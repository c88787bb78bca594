"""The ledger told to people: the funnel's counts, and why one sample was kept or dropped."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import LedgerError
from curation.ledger import Ledger
from curation.plan import Outline
from curation.records import img_key
from curation.verdicts import KEEP, NOT_SCORED, Check, checks, outcome

SOURCE_STEP = "source"
EXACT_COPY = "exact copy of another file"
NOT_REACHED = "not reached"
SHORTEST_PREFIX = 4  # characters of a key


@dataclass(frozen=True)
class FunnelRow:
    """One step of the funnel. `reasons`: how many samples were dropped for each."""

    step: str
    entered: int
    kept: int
    dropped: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class SegmentStatus:
    """How far a segment is. `waiting`: samples of those that reached it so far which it has not judged."""

    title: str  # its steps
    judged: int
    waiting: int


@dataclass(frozen=True)
class Judgement:
    """One rule applied to one sample. `outcome`: "keep", "drop", "not scored", or "not reached" after a drop."""

    step: str
    column: str
    score: float | bool | str | None
    op: str
    threshold: float | bool
    outcome: str
    reason: str


@dataclass(frozen=True)
class Why:
    """Everything the ledger knows about one sample."""

    img_key: str
    urls: tuple[str, ...]  # more than one where exact copies were found
    text: str | None
    status: str
    detail: str | None
    step: str | None  # where it was dropped, None where it was kept
    reason: str | None
    judgements: tuple[Judgement, ...]
    scores: Mapping[str, Any]
    keeper: str | None  # img_key of the near-duplicate that was kept instead of this one
    keeper_url: str | None

    @property
    def kept(self) -> bool:
        """Whether it passed every rule."""
        return self.step is None


def funnel(ledger: Ledger, outline: Outline | None = None) -> list[FunnelRow]:
    """The source and every step: samples that entered, were kept, were dropped, and why.

    With an `outline` of other thresholds it is a what-if; samples that it lets through to steps which never judged
    them are counted there as "not scored".
    """
    outline = outline or ledger.outline
    asked = checks(outline)
    counts = ledger.query(
        "SELECT coalesce(sum(len(urls)), 0)::BIGINT AS files, count(*) AS keys FROM samples"
    ).to_pylist()[0]
    copies = counts["files"] - counts["keys"]
    rows = [FunnelRow(SOURCE_STEP, counts["files"], counts["keys"], copies, {EXACT_COPY: copies} if copies else {})]
    tally: Counter[tuple[int, str]] = Counter()
    for failed, missing, status, samples in ledger.tally(asked):
        tally[asked[failed].position, asked[failed].reason(missing, status)] += samples
    for position, step in enumerate(outline.steps):
        reasons = {reason: count for (at, reason), count in sorted(tally.items()) if at == position}
        entered, dropped = rows[-1].kept, sum(reasons.values())
        rows.append(FunnelRow(step.name, entered, entered - dropped, dropped, reasons))
    return rows


def status(ledger: Ledger) -> list[SegmentStatus]:
    """Return how far every segment is; what a segment has yet to let through is not counted in the later ones."""
    found = []
    for segment in ledger.outline.segments:
        steps = [step for step in ledger.outline.steps if step.segment == segment]
        title = ", ".join(step.name for step in steps)
        if not found:
            files = ledger.query("SELECT coalesce(sum(len(urls)), 0)::BIGINT AS files FROM samples").to_pylist()
            judged = files[0]["files"]
            total = ledger.source["samples"]
        else:
            total, judged = ledger.progress(segment)
            if steps[0].is_reduction:
                judged = total * ledger.is_answered(steps[0])
        found.append(SegmentStatus(title, judged, total - judged))
    return found


def why(ledger: Ledger, name: str, outline: Outline | None = None) -> Why:
    """Explain one sample. `name`: its key, a unique prefix of it, its url, the end of its url, or a file's path.

    Raises LedgerError where no sample, or more than one, answers to it.
    """
    key = find(ledger, name)
    asked = checks(outline or ledger.outline)
    row = _row(ledger, key)
    outcomes = _outcomes(ledger, asked, key)
    failed = next((number for number, outcome in enumerate(outcomes) if outcome != KEEP), None)
    keeper = row.get("duplicate_keeper")
    keeper = keeper if keeper != key else None
    return Why(
        img_key=key,
        urls=tuple(row["urls"]),
        text=row["text"],
        status=row["status"],
        detail=row["detail"],
        step=None if failed is None else asked[failed].step,
        reason=None if failed is None else _reason(asked[failed], outcomes[failed], row),
        judgements=tuple(_judgements(asked, outcomes, row, failed)),
        scores={column: row[column] for column in ledger.outline.columns},
        keeper=keeper,
        keeper_url=_row(ledger, keeper)["url"] if keeper else None,
    )


def find(ledger: Ledger, name: str) -> str:
    """Return the key of the one sample that answers to `name`, as in `why`. Raises LedgerError."""
    for condition, value in (
        ("img_key = ?", name),
        ("list_contains(urls, ?)", name.removeprefix("./")),
        ("img_key = ?", _key_of_file(ledger, name)),
        ("EXISTS (SELECT 1 FROM unnest(urls) AS places(place) WHERE ends_with(place, ?))", f"/{name}"),
        ("starts_with(img_key, ?)", name.lower() if len(name) >= SHORTEST_PREFIX else None),
    ):
        if value is None:
            continue
        found = ledger.query(f"SELECT img_key, url FROM samples WHERE {condition} ORDER BY url", [value]).to_pylist()
        if len(found) == 1:
            return found[0]["img_key"]
        if found:
            listed = ", ".join(f"{row['img_key']} ({row['url']})" for row in found[:5])
            raise LedgerError(f"{len(found)} samples answer to {name!r}: {listed}{' ...' if len(found) > 5 else ''}")
    raise LedgerError(
        f"no sample of {ledger.run} answers to {name!r}: expected a key, a unique prefix of one, or a file"
    )


def _key_of_file(ledger: Ledger, name: str) -> str | None:
    """A path is looked for here and below the source's folder."""
    for path in (Path(name), Path(ledger.source.get("location", "."), name)):
        if path.is_file():
            return img_key(path.read_bytes())
    return None


def _row(ledger: Ledger, key: str) -> dict[str, Any]:
    return ledger.query("SELECT * FROM samples WHERE img_key = ?", [key]).to_pylist()[0]


def _outcomes(ledger: Ledger, asked: list[Check], key: str) -> list[str]:
    """Every check for itself, in order."""
    told = [f"{outcome(check, ledger.outline.columns)} AS c{number}" for number, check in enumerate(asked)]
    row = ledger.query(f"SELECT {', '.join(told)} FROM samples WHERE img_key = ?", [key]).to_pylist()[0]
    return list(row.values())


def _judgements(asked: list[Check], outcomes: list[str], row: dict[str, Any], failed: int | None) -> list[Judgement]:
    return [
        Judgement(
            check.step,
            check.rule.column,
            row[check.rule.column],
            check.rule.op,
            check.rule.threshold,
            told if failed is None or number <= failed else NOT_REACHED,
            check.rule.reason,
        )
        for number, (check, told) in enumerate(zip(asked, outcomes, strict=True))
        if check.rule
    ]


def _reason(check: Check, told: str, row: dict[str, Any]) -> str:
    reason = check.reason(told == NOT_SCORED, row["status"])
    return reason if check.rule else f"{reason}: {row['detail']}"
