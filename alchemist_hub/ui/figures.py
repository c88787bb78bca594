"""What the Funnel tab shows, as HTML: the funnel, a score's distribution, thumbnails, one sample's story. Pure.

Everything that came from a pool (names, texts, reasons) is escaped here.
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from html import escape
from io import BytesIO
from math import isnan, log10
from typing import Any

from PIL import Image

from curation.review import (
    DROP,
    KEEP,
    NOT_REACHED,
    NOT_SCORED,
    Answer,
    Control,
    FunnelRow,
    Judgement,
    Seen,
    Why,
)

MARKS = {KEEP: ("✓", "holds"), DROP: ("✗", "fails"), NOT_SCORED: ("?", "not scored"), NOT_REACHED: ("–", "not asked")}
SHOWN_REASONS = 8  # of a step, the most frequent first
BAR_TOP, BARS_HEIGHT = 2, 30  # units of a distribution's drawing
BELOW = 4  # a funnel's scale ends at this part of what the run keeps
VEIL = 5  # pixels a side that are left of a picture that is not to be shown

Thumbnail = Callable[[str], str | None]  # img_key -> a picture as a data URI, None where there is none


def kept_line(answer: Answer) -> str:
    """Return "n of m kept", and how many enter and leave."""
    files = answer.rows[0].entered
    moves = [
        f"<b>{count:,}</b> {word}" for count, word in ((answer.leaves, "leave"), (answer.enters, "enter")) if count
    ]
    change = (
        f'<span class="moves">{" · ".join(moves)}</span>' if moves else '<span class="moves">as the run has it</span>'
    )
    return f'<div class="kept" role="status"><b class="n">{answer.kept:,}</b> of {files:,} kept {change}</div>'


def funnel_figure(answer: Answer) -> str:
    """Return the funnel: a bar for each step that drops something, as wide as the logarithm of what is left."""
    before = {row.step: row for row in answer.before}
    shown = [row for row in answer.rows if row.dropped or before[row.step].dropped or row is answer.rows[-1]]
    total = max(answer.rows[0].entered, 1)
    base = narrowest([row.kept for row in answer.before])
    rows = "".join(_step(row, base, total, row.kept - before[row.step].kept) for row in shown)
    button = f'<button type="button" class="reason all" data-kept="1">show the {answer.kept:,} kept</button>'
    note = "".join(
        f'<p class="unjudged">{count:,} more would reach <b>{escape(step)}</b>, which has never judged them: '
        "run the recipe with these thresholds to know what it says.</p>"
        for step, count in answer.unjudged.items()
    )
    return (
        f'<div class="steps">{rows}<div class="step last"><span></span>{button}'
        f"<small>widths are logarithmic</small></div></div>{note}"
    )


def narrowest(counts: Sequence[int]) -> float:
    """Return the count at which a funnel would be no wider than a line: well below what the run itself keeps."""
    return max(0.5, min((count for count in counts if count), default=1) / BELOW)


def width(count: int, base: float, total: int) -> float:
    """Return a bar's width in percent: logarithmic, 0 at `base` and below, 100 for all."""
    return 100 * log10(count / base) / log10(total / base) if count > base else 0.0


def _step(row: FunnelRow, base: float, total: int, change: int) -> str:
    top, bottom = width(row.entered, base, total) / 2, width(row.kept, base, total) / 2
    shape = f"polygon({50 - top:.2f}% 0,{50 + top:.2f}% 0,{50 + bottom:.2f}% 100%,{50 - bottom:.2f}% 100%)"
    moved = f'<i class="{"more" if change > 0 else "fewer"}">{change:+,}</i>' if change else ""
    return (
        f'<div class="step"><span class="name">{escape(row.step)}</span>'
        f'<span class="bar"><span class="fill" style="clip-path:{shape}"></span>'
        f'<span class="count">{row.kept:,}{moved}</span></span>'
        f'<span class="reasons">{"".join(_reasons(row))}</span></div>'
    )


def _reasons(row: FunnelRow) -> Iterator[str]:
    ranked = sorted(row.reasons.items(), key=lambda item: -item[1])
    for reason, count in ranked[:SHOWN_REASONS]:
        words = f"{count:,} {escape(reason)}"
        if row.step == "source":  # copies have no row of their own
            yield f'<span class="reason plain">{words}</span>'
        else:
            yield (
                f'<button type="button" class="reason" data-step="{escape(row.step)}" '
                f'data-reason="{escape(reason)}">{words}</button>'
            )


def distribution(control: Control, threshold: float) -> str:
    """Return a score's distribution, what the rule drops shaded, the threshold and the run's own marked."""
    least = min(control.bars) if control.ranked_by else 0.0  # scores may be negative, counts are not
    scale = (max(control.bars) - least) or 1.0
    bars, count = [], len(control.bars)
    for place, value in enumerate(control.bars):
        height = BARS_HEIGHT * ((value - least) / scale) ** 0.5  # the root, so that the few beyond a crowd are seen
        middle = control.low + (place + 0.5) / count * (control.high - control.low)
        kind = "in" if holds(middle, control.rule.op, threshold) else "out"
        bars.append(
            f'<rect class="{kind}" x="{place + 0.06:.2f}" y="{BARS_HEIGHT + BAR_TOP - height:.2f}" '
            f'width="0.88" height="{height:.2f}"/>'
        )
    marks = [_mark(control, control.rule.threshold, "own")]
    if threshold != control.rule.threshold:
        marks.append(_mark(control, threshold, "moved"))
    told = f"mean {control.ranked_by} at each rank" if control.ranked_by else f"{control.scored:,} scores"
    return (
        f'<svg class="bars" viewBox="0 0 {count} {BARS_HEIGHT + BAR_TOP}" preserveAspectRatio="none" role="img" '
        f'aria-label="distribution of {escape(control.rule.column)}"><title>{escape(told)}, root scale</title>'
        f"{''.join(bars)}{''.join(marks)}</svg>"
    )


def _mark(control: Control, threshold: float, kind: str) -> str:
    place = (threshold - control.low) / (control.high - control.low) * len(control.bars)
    return f'<line class="{kind}" x1="{place:.3f}" x2="{place:.3f}" y1="0" y2="{BARS_HEIGHT + BAR_TOP}"/>'


def holds(value: float, op: str, threshold: float) -> bool:
    """Whether a rule keeps this score."""
    return {
        "<": value < threshold,
        "<=": value <= threshold,
        ">": value > threshold,
        ">=": value >= threshold,
        "==": value == threshold,
    }[op]


def grid(title: str, seen: Sequence[Seen], count: int, picture: Thumbnail, *, kind: str = "told") -> str:
    """Return thumbnails to click; `count`: how many there are in all; `kind`: "leave" and "near" tell each reason."""
    if not count:
        return ""
    more = f" <small>{len(seen):,} shown</small>" if len(seen) < count else ""
    cells = "".join(_thumbnail(each, picture) for each in seen)
    return (
        f'<section class="samples {kind}"><h4>{escape(title)} <b>{count:,}</b>{more}</h4><div>{cells}</div></section>'
    )


def _thumbnail(seen: Seen, picture: Thumbnail) -> str:
    reason = seen.reason or "kept"
    source = picture(seen.img_key)
    image = f'<img src="{source}" alt="">' if source else '<span class="gone">no picture</span>'
    label = escape(f"{seen.url}: {reason}")
    return (
        f'<button type="button" class="sample" data-key="{escape(seen.img_key)}" title="{label}" aria-label="{label}">'
        f"{image}<span>{escape(reason)}</span></button>"
    )


def story(told: Why, picture: Thumbnail) -> str:
    """Return why one sample is kept or dropped: every check with score, threshold and outcome."""
    source = picture(told.img_key)
    image = f'<img src="{source}" alt="the sample">' if source else '<span class="gone">no picture</span>'
    names = ", ".join(escape(url) for url in told.urls[:3]) + (" …" if len(told.urls) > 3 else "")
    verdict = "kept" if told.kept else f"dropped at {told.step}: {told.reason}"
    keeper = ""
    if told.keeper:
        shown = _thumbnail(
            Seen(img_key=told.keeper, url=told.keeper_url or "", step=None, reason="its keeper"), picture
        )
        keeper = f'<div class="keeper"><p>Kept in its place:</p>{shown}</div>'
    rewritten = told.scores.get("prompt")
    prompt = f"<p><small>rewritten</small> {escape(str(rewritten))}</p>" if rewritten else ""
    return (
        f'<article class="story"><div class="who">{image}<div><p class="verdict {"in" if told.kept else "out"}">'
        f"{escape(verdict[:1].upper() + verdict[1:])}</p><p><small>file</small> {names}</p>"
        f"<p><small>text</small> {escape(told.text or 'none')}</p>{prompt}</div></div>"
        f"{checks_table(told.judgements)}{keeper}</article>"
    )


def checks_table(judgements: Sequence[Judgement], percentiles: Callable[[str], str] | None = None) -> str:
    """Return a table of rules: step, what is asked, the score, the outcome; `percentiles`: column -> a further cell."""
    rows = "".join(_check(each, percentiles) for each in judgements)
    further = "<th>in this run</th>" if percentiles else ""
    heads = f"<tr><th></th><th>step</th><th>asked</th><th>score</th>{further}</tr>"
    return f'<div class="checks"><table><thead>{heads}</thead><tbody>{rows}</tbody></table></div>'


def _check(each: Judgement, percentiles: Callable[[str], str] | None) -> str:
    sign, words = MARKS[each.outcome]
    kind = {KEEP: "in", DROP: "out"}.get(each.outcome, "none")
    further = f"<td>{escape(percentiles(each.column))}</td>" if percentiles else ""
    return (
        f'<tr class="{kind}"><td title="{words}" aria-label="{words}">{sign}</td><td>{escape(each.step)}</td>'
        f"<td>{escape(f'{each.column} {each.op} {number(each.threshold)}')}</td>"
        f"<td>{escape(number(each.score))}</td>{further}</tr>"
    )


def number(value: Any) -> str:
    """Return a score or threshold as people read it."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.0e}"


def data_uri(picture: Image.Image, *, veiled: bool = False) -> str:
    """Return a picture as a WebP data URI; `veiled`: nothing of it can be recognised."""
    if veiled:
        picture = picture.resize((VEIL, VEIL), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)
    stream = BytesIO()
    picture.save(stream, format="WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
