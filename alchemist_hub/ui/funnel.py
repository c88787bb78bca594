"""The Funnel tab: a curation run drawn as the paper's Figure 2, with its thresholds in the visitor's hand."""

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import gradio as gr

from alchemist_hub.ui.figures import Thumbnail, data_uri, distribution, funnel_figure, grid, kept_line, story
from alchemist_hub.ui.shown import ShownRun
from curation.errors import CurationError
from curation.review import Answer, Control, Review

KEY = re.compile(r"[0-9a-f]{32}")
SHOWN = 48  # thumbnails of one kind
LIVE = {
    "queue": True, "concurrency_id": "funnel", "concurrency_limit": 2, "show_progress": "hidden",
    "api_visibility": "private", "trigger_mode": "always_last",
}  # fmt: skip
# A click on anything that names a sample, a reason or the kept ones is an event with what it names.
CLICKS = """
element.addEventListener('click', event => {
  const named = event.target.closest('[data-key], [data-reason], [data-kept]');
  if (!named) return;
  trigger('click', {...named.dataset});
  const shown = document.querySelector(named.dataset.key ? '#story' : '#listed');
  if (innerWidth <= 700) shown.scrollIntoView({behavior: 'smooth', block: 'start'});
});
"""
HINT = '<p class="hint">Click any picture to read why it is kept or dropped.</p>'
INTRO = (
    '<div class="intro"><p>A pool of pictures as the web has them, judged step by step; each step keeps less than the '
    "one before. Move a threshold: the answer comes from recorded scores, no picture is judged again. "
    "Places that become free go to the next best.</p>{}</div>"
)
PICTURES_GONE = "<p><b>The run's pictures are no longer there:</b> samples are listed without them.</p>"


def build_funnel(shown: ShownRun) -> tuple[list[Control], list[gr.Slider]]:
    """Lay out the tab; return the thresholds, for whatever else depends on them. Without a run it says so."""
    try:
        review = shown.review()
    except CurationError as error:
        logging.getLogger(__name__).warning("no run to show: %s", error)  # names its folder
        gr.HTML('<p class="notice">There is no run to show here.</p>')
        return [], []
    controls, picture = list(review.controls), thumbnails(review)
    if not controls:
        gr.HTML('<p class="notice">This run has no threshold that could be moved.</p>')
        return [], []
    answer = review.ask({}, most=SHOWN)
    gr.HTML(INTRO.format("" if review.has_pictures else PICTURES_GONE))
    with gr.Row(elem_classes="funnel"):
        with gr.Column(scale=2, min_width=300, elem_classes="thresholds"):
            kept = gr.HTML(kept_line(answer), elem_id="kept")
            reset = gr.Button("Reset", size="sm", elem_id="reset")
            drawings, sliders = zip(*(_threshold(control) for control in controls), strict=True)
        with gr.Column(scale=4, min_width=300, elem_classes="seen"):
            figure = gr.HTML(funnel_figure(answer), elem_id="figure", js_on_load=CLICKS)
            moves = gr.HTML("", elem_id="moves", js_on_load=CLICKS)
            listed = gr.HTML(_kept(review, {}, answer.kept, picture), elem_id="listed", js_on_load=CLICKS)
        with gr.Column(scale=3, min_width=300, elem_classes="told"):
            gr.HTML(HINT)
            told = gr.HTML(_first_story(review, picture), elem_id="story", js_on_load=CLICKS)
    choice = gr.State({"kept": "1"})

    def answered(choice: dict[str, str], *values: float) -> list[Any]:
        changes = thresholds(controls, values)
        answer = review.ask(changes, most=SHOWN)
        pictures = [distribution(control, value) for control, value in zip(controls, values, strict=True)]
        return [
            kept_line(answer), funnel_figure(answer), _moves(answer, picture),
            _listed(review, changes, answer, choice, picture), *pictures,
        ]  # fmt: skip

    def chosen(event: gr.EventData, *values: float) -> list[Any]:
        changes = thresholds(controls, values)
        if key := getattr(event, "key", None):
            return [gr.skip(), gr.skip(), _story(review, changes, str(key), picture)]
        choice = {name: str(getattr(event, name)) for name in ("kept", "step", "reason") if hasattr(event, name)}
        return [choice, _listed(review, changes, review.ask(changes), choice, picture), gr.skip()]

    outputs = [kept, figure, moves, listed, *drawings]
    gr.on([slider.input for slider in sliders], answered, [choice, *sliders], outputs, **LIVE)
    own = [control.rule.threshold for control in controls]
    reset.click(lambda: own, None, list(sliders), api_visibility="private", queue=False).then(
        answered, [choice, *sliders], outputs, **LIVE
    )
    for place in (figure, moves, listed, told):
        place.click(chosen, list(sliders), [choice, listed, told], **LIVE)
    _add_endpoint(review, controls)
    return controls, list(sliders)


def _add_endpoint(review: Review, controls: list[Control]) -> None:
    """Add `/funnel`: thresholds by column in, the funnel as JSON out."""

    def funnel(changes: dict[str, float] | None) -> dict[str, Any]:
        """Say what other thresholds would keep, like {"iqa": 0.8}; those left out are the run's own.

        The answer: steps (step, entered, kept, dropped, reasons), kept, enters, leaves, thresholds.
        """
        own = {control.rule.column: control.rule.threshold for control in controls}
        if not isinstance(changes or {}, dict) or not (changes or {}).keys() <= own.keys():
            raise gr.Error(f"Thresholds are numbers by column: {', '.join(own)}.", print_exception=False)
        asked = own | (changes or {})
        answer = review.ask(thresholds(controls, tuple(asked.values())), most=0)
        return {
            "steps": [vars(row) for row in answer.rows],
            "kept": answer.kept,
            "enters": answer.enters,
            "leaves": answer.leaves,
            "thresholds": asked,
        }

    with gr.Row(visible=False):
        changes, told = gr.JSON(label="thresholds"), gr.JSON(label="funnel")
        trigger = gr.Button()
    trigger.click(funnel, changes, told, api_name="funnel", queue=True, concurrency_id="funnel", concurrency_limit=2)


def thresholds(controls: list[Control], values: tuple[float, ...]) -> dict[str, float]:
    """Return column -> threshold; raises `gr.Error` where a value is no number within its range."""
    for control, value in zip(controls, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not control.low <= value <= control.high:
            raise gr.Error(
                f"{control.rule.column} has to be between {control.low:g} and {control.high:g}", print_exception=False
            )
    return {control.rule.column: float(value) for control, value in zip(controls, values, strict=True)}


def thumbnails(review: Review) -> Thumbnail:
    """Return what turns a key into a picture to show; unsafe ones are veiled."""

    @lru_cache(maxsize=4096)
    def picture(key: str) -> str | None:
        found = review.thumbnail(key)
        return data_uri(found, veiled=bool(review.veiled([key]))) if found else None

    return picture


def _threshold(control: Control) -> tuple[gr.HTML, gr.Slider]:
    with gr.Column(elem_classes="threshold"):
        drawing = gr.HTML(distribution(control, control.rule.threshold))
        slider = gr.Slider(
            control.low, control.high, value=control.rule.threshold, step=control.resolution, buttons=[],
            label=f"{control.rule.column} {control.rule.op}", elem_id=f"threshold-{control.rule.column}",
        )  # fmt: skip
    return drawing, slider


def _moves(answer: Answer, picture: Thumbnail) -> str:
    leaving = grid("Leave the kept set", answer.leaving, answer.leaves, picture, kind="leave")
    return leaving + grid("Enter it", answer.entering, answer.enters, picture, kind="enter")


def _listed(
    review: Review, changes: dict[str, float], answer: Answer, choice: dict[str, str], picture: Thumbnail
) -> str:
    """The samples that were asked for: the kept ones, or those dropped at a step for a reason."""
    step, reason = choice.get("step", ""), choice.get("reason", "")
    count = next((row.reasons.get(reason, 0) for row in answer.rows if row.step == step), 0)
    if not count:
        return _kept(review, changes, answer.kept, picture)
    return grid(f"Dropped at {step}: {reason}", review.dropped(changes, step, reason, most=SHOWN), count, picture)


def _kept(review: Review, changes: dict[str, float], count: int, picture: Thumbnail) -> str:
    return grid("Kept", review.kept(changes, most=SHOWN), count, picture)


def _first_story(review: Review, picture: Thumbnail) -> str:
    """That of the best that is kept, so that there is one to see."""
    return "".join(story(review.why(each.img_key, {}), picture) for each in review.kept({}, most=1))


def _story(review: Review, changes: dict[str, float], key: str, picture: Callable[[str], str | None]) -> str:
    if not KEY.fullmatch(key):
        raise gr.Error("That names no sample of this run.", print_exception=False)
    try:
        return story(review.why(key, changes), picture)
    except CurationError as error:
        raise gr.Error("That names no sample of this run.", print_exception=False) from error
