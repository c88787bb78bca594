"""Judge your own image: an uploaded picture before the judges of the run that the Funnel tab shows."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.data_classes import FileData
from PIL import Image

from alchemist_hub.ui.figures import Thumbnail, checks_table, data_uri, grid, number
from alchemist_hub.ui.funnel import thresholds, thumbnails
from alchemist_hub.ui.heat import heat_map, strongest
from alchemist_hub.ui.shown import ShownRun
from curation.errors import CurationError, ImageError
from curation.judge import MOST_BYTES, Verdict
from curation.review import Control, Seen

JUDGING = {"queue": True, "concurrency_id": "judging", "concurrency_limit": 1}
HEADING = (
    '<div class="intro"><h3>Judge your own image</h3><p>It goes through the same judges and rules, with the thresholds '
    "as they stand above, and is deleted once it is judged. JPEG, PNG, WebP, GIF, BMP or TIFF, up to {} MB.</p>{}</div>"
)
MAPS = {
    "likelihood": (
        "Likelihood ratio",
        "Gold: here the quality words explain the picture better than their opposites do; blue: worse.",
    ),
    "attention": (
        "Attention",
        "Gold: here the picture draws attention to the kept words as good pictures do; blue: as others do.",
    ),
}
SCORES = {  # log odds
    "impact": "Estimator",
    "impact_likelihood": "Its likelihood ratios alone",
    "impact_attention": "Its attention alone",
}


def upload_of_picture(**options: Any) -> gr.File:
    """Return a file component that hands over bytes, and deletes the upload whatever becomes of it."""
    upload = gr.File(**options)
    upload.preprocess = taken
    return upload


def taken(payload: FileData | None) -> bytes | None:
    """Return what was uploaded, at most one byte more than is judged, and delete it."""
    if payload is None:
        return None
    path = Path(payload.path)
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise gr.Error("The upload did not arrive: send it again.", print_exception=False) from error
    finally:
        path.unlink(missing_ok=True)


def build_judge(shown: ShownRun, controls: list[Control], sliders: list[gr.Slider]) -> None:
    """Lay out the panel below the funnel; `sliders` hold the thresholds. API name: `/judge`. Nothing without them."""
    if not sliders:
        return
    gr.HTML(HEADING.format(MOST_BYTES >> 20, f'<p class="notice">{shown.notice}</p>' if shown.notice else ""))
    with gr.Row(elem_classes="judge"):
        with gr.Column(scale=2, min_width=280):
            upload = upload_of_picture(label="Your picture", file_types=["image"], height=170, elem_id="upload")
            with_caption = gr.Checkbox(False, label="Write a caption, too", elem_id="with-caption")
        with gr.Column(scale=6, min_width=300):
            told = gr.HTML('<p class="hint">Drop a picture to see what every judge says.</p>', elem_id="verdict")

    def judge_live(image: bytes | None, with_caption: bool, *values: float) -> list[Any]:
        if image is None:
            return [gr.skip(), gr.skip()]
        changes = thresholds(controls, values)
        verdict = judged(shown, image, changes, with_caption)
        return [verdict_page(verdict, thumbnails(shown.review()), bool(shown.notice)), None]

    live = upload.upload(
        judge_live, [upload, with_caption, *sliders], [told, upload], api_visibility="private", **JUDGING
    )
    live.failure(lambda: None, None, upload, api_visibility="private", queue=False)
    _add_endpoint(shown)


def judged(shown: ShownRun, image: bytes, changes: dict[str, float], with_caption: bool) -> Verdict:
    """Return the verdict; raises `gr.Error`, one line, for what is no picture and where there are no judges."""
    try:
        outline = shown.review().with_thresholds(changes)
        return shown.jury().judge(image, outline=outline, with_caption=with_caption)
    except ImageError as error:
        raise gr.Error(f"This file is not judged: {error}.", title="Not judged", print_exception=False) from error
    except CurationError as error:
        raise gr.Error("This run's judges are not at hand.", title="Not judged", print_exception=False) from error


def verdict_page(verdict: Verdict, picture: Thumbnail, in_small_world: bool) -> str:
    """Return everything that was found about a picture, as HTML."""
    return (
        f'<article class="story own"><p class="verdict {"in" if verdict.kept else "out"}">{_headline(verdict)}</p>'
        f"{_remarks(verdict, in_small_world)}"
        f'<div class="pictures">{_figure(Image.fromarray(verdict.seen), "As judged", _size(verdict))}'
        f"{''.join(_map_figures(verdict))}</div>"
        f"{_standing(verdict)}{checks_table(verdict.judgements, lambda column: _place(verdict, column))}"
        f"{_neighbours(verdict, picture)}</article>"
    )


def _headline(verdict: Verdict) -> str:
    if verdict.kept:
        return "Would be kept: it passes every rule."
    failing = [each for each in verdict.judgements if each.outcome != "keep"]
    others = sorted({each.step for each in failing} - {verdict.step})
    further = f" It would also fail at {escape(', '.join(others))}." if others else ""
    return f"Would be dropped at {escape(verdict.step)}, because: {escape(verdict.reason)}.{further}"


def _remarks(verdict: Verdict, in_small_world: bool) -> str:
    lines = []
    if in_small_world and max(verdict.width, verdict.height) > 128:
        lines.append("This picture is larger than any these judges have seen: they look at it reduced to 64 pixels.")
    if verdict.is_in_run:
        lines.append("This very file is in the run; it is compared with the others only.")
    if verdict.caption:
        lines.append(f"Caption: <q>{escape(verdict.caption)}</q>")
    return "".join(f"<p>{line}</p>" for line in lines)


def _size(verdict: Verdict) -> str:
    square = "" if verdict.width == verdict.height else " the estimator sees the central square"
    return f"{verdict.width} × {verdict.height} pixels{';' if square else ''}{square}"


def _figure(picture: Image.Image, title: str, words: str, legend: str = "") -> str:
    return (
        f'<figure><img src="{data_uri(picture)}" alt="{escape(title)}">{legend}'
        f"<figcaption><b>{escape(title)}</b> {escape(words)}</figcaption></figure>"
    )


def _map_figures(verdict: Verdict) -> list[str]:
    maps = {name: getattr(verdict.maps, name) for name in MAPS} if verdict.maps else {}
    return [
        _figure(heat_map(verdict.seen, map_hw), *MAPS[name], _legend(map_hw))
        for name, map_hw in maps.items()
        if map_hw is not None
    ]


def _legend(map_hw: np.ndarray) -> str:
    most = strongest(map_hw)
    return (
        f'<div class="legend"><span>−{most:.1f}</span><i></i><span>+{most:.1f}</span>'
        f"<small>standard deviations; mean {map_hw.mean():+.2f}</small></div>"
    )


def _standing(verdict: Verdict) -> str:
    """Say how high the estimator's scores are in the run."""
    found = [
        f"<li>{words}<b>{number(float(verdict.scores[name]))}</b><small>{escape(_place(verdict, name))}</small></li>"
        for name, words in SCORES.items()
        if name in verdict.scores
    ]
    rank = verdict.scores.get("impact_rank")
    if rank is not None:
        found.append(
            f"<li>Its rank<b>{rank:,}</b><small>among the {verdict.candidates:,} that got that far</small></li>"
        )
    return f'<ul class="standing">{"".join(found)}</ul>' if found else ""


def _place(verdict: Verdict, column: str) -> str:
    percentile = verdict.percentiles.get(column)
    return f"above {percentile.below:.0%} of {percentile.scored:,}" if percentile else ""


def _neighbours(verdict: Verdict, picture: Thumbnail) -> str:
    words = {True: "the same picture", False: "looks alike", None: "looks alike, not compared"}
    seen = [
        Seen(
            img_key=each.img_key,
            url=each.url,
            step=None,
            reason=f"{words[each.is_copy]}{', mirrored' if each.in_mirror else ''} ({each.bits} of 64 bits differ)",
        )
        for each in verdict.neighbours
    ]
    return grid("Nearest in the run", seen, len(seen), picture, kind="near")


def _add_endpoint(shown: ShownRun) -> None:
    """Add `/judge`: a file and whether to caption it; the verdict as JSON and the map of the likelihood ratio."""

    def judge(image: bytes | None, with_caption: bool) -> tuple[dict[str, Any], Image.Image | None]:
        """Judge a picture by the run's own rules; returns the verdict, and where the estimator responds.

        The verdict: kept, step, reason, caption, scores, percentiles (shares of the run's samples that score less),
        checks (step, column, op, threshold, score, outcome), near_duplicates.
        """
        if image is None:
            raise gr.Error("No picture arrived: send a file.", title="Not judged", print_exception=False)
        verdict = judged(shown, image, {}, with_caption)
        map_hw = verdict.maps and verdict.maps.likelihood
        return as_json(verdict), None if map_hw is None else heat_map(verdict.seen, map_hw)

    with gr.Row(visible=False):
        image = upload_of_picture(label="image")
        with_caption = gr.Checkbox(False, label="with_caption")
        trigger = gr.Button()
        answers = [gr.JSON(label="verdict"), gr.Image(label="map", type="pil", format="png")]
    trigger.click(judge, [image, with_caption], answers, api_name="judge", **JUDGING)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return what `/judge` answers."""
    return {
        "kept": verdict.kept,
        "step": verdict.step,
        "reason": verdict.reason,
        "caption": verdict.caption,
        "width": verdict.width,
        "height": verdict.height,
        "scores": {name: _plain(score) for name, score in verdict.scores.items()},
        "percentiles": {name: round(each.below, 4) for name, each in verdict.percentiles.items()},
        "checks": [
            {
                "step": each.step,
                "column": each.column,
                "op": each.op,
                "threshold": each.threshold,
                "score": _plain(each.score),
                "outcome": each.outcome,
            }
            for each in verdict.judgements
        ],
        "near_duplicates": [
            {"sample": each.url, "bits": each.bits, "mirrored": each.in_mirror, "same_picture": each.is_copy}
            for each in verdict.neighbours
        ],
    }


def _plain(score: Any) -> Any:
    """A score that JSON and JavaScript carry unharmed: hashes of 64 bits as hex."""
    if isinstance(score, int) and score > 2**53:
        return f"{score:016x}"
    return round(score, 6) if isinstance(score, float) else score
