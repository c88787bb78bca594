"""The Compare tab: one prompt and one seed, painted by a base model and by its tuned sibling."""

import random
import re
from collections.abc import Iterator
from functools import lru_cache
from html import escape
from io import BytesIO
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from alchemist_hub.errors import HubError
from alchemist_hub.ui.live import SIDES, Settings, View, finish, watch
from alchemist_hub.ui.services import PairLoader, Services

SHOWN_SIDE = 512  # pixels; smaller pictures are enlarged for the page, downloads stay as they were painted
LONGEST_PROMPT = 500  # characters; the model's own limit, in tokens, comes on top
STEPS = (2, 50)
GUIDANCE = (1.0, 15.0)
LAST_SEED = 2**31 - 1
EXAMPLES = (
    "Mars rises on the horizon.",
    "a photo of the moon over a lake at night",
    "an oil painting of mountains at sunset",
    "a watercolour of a village at dawn",
    "saturn rising over the desert at night",
    "pixel art of a city at night, detailed",
)
FIRST_SEED = 7
RUNNING = {"queue": True, "concurrency_id": "painting", "concurrency_limit": 1, "show_progress": "hidden"}


def build_compare(page: gr.Blocks, services: Services) -> None:
    """Lay out the tab inside `page`, which is open, and connect it. API name: `/compare`."""
    first = next(iter(services.pairs.values()))
    with gr.Row(elem_classes="compare"):
        with gr.Column(scale=2, min_width=300, elem_classes="controls"):
            prompt = gr.Textbox(
                EXAMPLES[0], label="Prompt", lines=1, max_lines=4, max_length=LONGEST_PROMPT, elem_id="prompt"
            )
            with gr.Row(elem_classes="actions"):
                start = gr.Button("Compare", variant="primary", elem_id="start", scale=3, min_width=120)
                cancel = gr.Button("Cancel", interactive=False, elem_id="cancel", scale=1, min_width=90)
            with gr.Column(elem_classes="try"):
                gr.Examples([[text] for text in EXAMPLES], prompt, label="Try", elem_id="examples")
            with gr.Group(elem_classes="settings"):
                model = gr.Dropdown(
                    [(loader.spec.name, key) for key, loader in services.pairs.items()],
                    value=first.spec.key,
                    label="Model",
                    visible=len(services.pairs) > 1,
                )
                with gr.Row():
                    seed = gr.Number(
                        FIRST_SEED, label="Seed", precision=0, minimum=0, maximum=LAST_SEED, min_width=120, elem_id="seed"
                    )
                    fresh = gr.Checkbox(False, label="New each time", min_width=110, elem_id="fresh")
                steps = gr.Slider(*STEPS, value=first.spec.steps, step=1, label="Steps", elem_id="steps")
                guidance = gr.Slider(*GUIDANCE, value=first.spec.guidance, step=0.5, label="Guidance")
                negative = gr.Textbox("", label="Negative prompt", placeholder="what to keep away from, if anything")
        with gr.Column(scale=5, min_width=300, elem_classes="result"):
            notice = gr.HTML(_notice(first))
            with gr.Tabs(elem_classes="views"):
                with gr.Tab("Side by side"), gr.Row(elem_classes="pictures"):
                    shown = [_picture(side) for side in SIDES]
                with gr.Tab("Slider"):
                    slider = gr.ImageSlider(
                        label="Base left, tuned right", interactive=False, buttons=["fullscreen"], max_height=640,
                        elem_id="slider",
                    )  # fmt: skip
            status = gr.HTML(_line("Ready."), elem_id="status")
            with gr.Row(elem_classes="saves"):
                saves = [_save_button(side) for side in SIDES]

    asked = [prompt, negative, seed, steps, guidance, model]
    values = [*shown, slider, status, *saves, seed, start, cancel]

    def compare_live(
        prompt: str, negative: str, seed: int, steps: int, guidance: float, model: str, fresh: bool
    ) -> Iterator[list[Any]]:
        seed = random.randrange(LAST_SEED) if fresh else seed
        yield from show_comparison(services, prompt, negative, seed, steps, guidance, model)

    running = gr.on(
        [start.click, prompt.submit], compare_live, [*asked, fresh], values, api_visibility="private", **RUNNING
    )
    running.failure(lambda: _rest("Nothing painted."), None, [status, start, cancel], api_visibility="private")
    cancel.click(
        lambda: _rest("Cancelled."), None, [status, start, cancel],
        cancels=[running], queue=False, api_visibility="private",
    )  # fmt: skip
    model.change(
        lambda key: _of_model(services.pairs[key]), model, [steps, guidance, notice], api_visibility="private"
    )
    page.load(lambda: opening(first), None, values, api_visibility="private", **RUNNING)
    _add_endpoint(services, asked)


def show_comparison(
    services: Services, prompt: str, negative: str, seed: int, steps: int, guidance: float, model: str
) -> Iterator[list[Any]]:
    """Yield the page's values while both sides are painted: pictures, slider, status, downloads, seed, buttons."""
    loader = services.pairs[model]
    settings = checked(prompt, negative, seed, steps, guidance)
    busy = [settings.seed, gr.Button(interactive=False), gr.Button(interactive=True)]
    hidden = [gr.DownloadButton(visible=False)] * len(SIDES)
    yield [None, None, None, _line(f"Loading {loader.spec.name}"), *hidden, *busy]
    try:
        pair = loader.pair()
        _check_length(pair.base.tokenizer, settings.prompt)
        for view in watch(pair, settings):
            if view.painting is not None:
                yield [*_pictures(view), _progress(view, settings.steps), *hidden, *busy]
    except HubError as error:
        raise gr.Error(str(error), print_exception=False) from error
    yield _finished(view, settings, loader)


def opening(loader: PairLoader) -> list[Any]:
    """Return the page's values as a visitor finds them: the first example, painted once for all visitors."""
    settings = checked(EXAMPLES[0], "", FIRST_SEED, loader.spec.steps, loader.spec.guidance)
    try:
        return _finished(_painted_once(loader, settings), settings, loader)
    except HubError as error:
        raise gr.Error(str(error), print_exception=False) from error


@lru_cache(maxsize=4)
def _painted_once(loader: PairLoader, settings: Settings) -> View:
    return finish(loader.pair(), settings)


def checked(prompt: str, negative: str, seed: int, steps: int, guidance: float) -> Settings:
    """Return the settings; raises `gr.Error`, one line, when they cannot be painted."""
    prompt, negative = (prompt or "").strip(), (negative or "").strip()
    if not prompt:
        raise _refusal("The prompt is empty: write what the picture should show, or pick an example.")
    for name, text in (("prompt", prompt), ("negative prompt", negative)):
        if len(text) > LONGEST_PROMPT:
            raise _refusal(f"The {name} has {len(text)} characters; at most {LONGEST_PROMPT} are read.")
    for name, value, (low, high) in (
        ("Seed", seed, (0, LAST_SEED)),
        ("Steps", steps, STEPS),
        ("Guidance", guidance, GUIDANCE),
    ):
        if value is None or not low <= value <= high:
            raise _refusal(f"{name} has to be between {low:g} and {high:g}; {value} arrived.")
    return Settings(prompt=prompt, negative=negative, seed=int(seed), steps=int(steps), guidance=float(guidance))


def enlarged(picture: Image.Image, side: int = SHOWN_SIDE) -> Image.Image:
    """Return a picture whose longer side is at least `side` pixels, resampled without blocks."""
    scale = side / max(picture.size)
    if scale <= 1:
        return picture
    return picture.resize([round(length * scale) for length in picture.size], Image.Resampling.LANCZOS)


def unknown_words(text: str, vocabulary: frozenset[str]) -> list[str]:
    """Return the words of `text` that are not in `vocabulary`, in order, each once; none if it is empty."""
    words = dict.fromkeys(re.findall(r"[^\W_]+", text.lower()))
    return [word for word in words if word not in vocabulary] if vocabulary else []


def _add_endpoint(services: Services, asked: list[gr.components.Component]) -> None:
    """Add `/compare`: the same inputs, with defaults, and the two pictures as they were painted."""

    def compare(
        prompt: str, negative: str, seed: int, steps: int, guidance: float, model: str
    ) -> tuple[Image.Image, Image.Image]:
        """Paint one prompt and seed with a base model and its tuned sibling; returns both pictures, base first."""
        settings = checked(prompt, negative, seed, steps, guidance)
        try:
            pair = services.pairs[model].pair()
            _check_length(pair.base.tokenizer, settings.prompt)
            view = finish(pair, settings)
        except HubError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return view.base, view.tuned

    with gr.Row(visible=False):
        trigger = gr.Button()
        answers = [gr.Image(label=side, type="pil", format="png") for side in SIDES]
    trigger.click(compare, asked, answers, api_name="compare", **RUNNING)


def _picture(side: str) -> gr.Image:
    return gr.Image(
        label=side.capitalize(), interactive=False, buttons=["fullscreen"], min_width=140, elem_id=side,
        elem_classes="picture", alt_text=f"picture of the {side} model", placeholder=" ",
    )  # fmt: skip


def _save_button(side: str) -> gr.DownloadButton:
    return gr.DownloadButton(f"Save {side}", visible=False, size="sm", min_width=120, elem_id=f"save-{side}")


def _refusal(message: str) -> gr.Error:
    return gr.Error(message, title="Not painted", print_exception=False)


def _check_length(tokenizer: Any, prompt: str) -> None:
    tokens = len(tokenizer(prompt).input_ids)
    if tokens > tokenizer.model_max_length:
        raise _refusal(f"The prompt has {tokens} tokens; this model reads {tokenizer.model_max_length}. Shorten it.")


def _pictures(view: View) -> list[Any]:
    """Values of the two pictures and of the slider, which needs both."""
    sides = [getattr(view, side) for side in SIDES]
    large = [None if picture is None else enlarged(picture) for picture in sides]
    return [*large, None if None in large else tuple(large)]


def _finished(view: View, settings: Settings, loader: PairLoader) -> list[Any]:
    """Values of the page once both sides are there."""
    saves = [_saved(side, view, settings, loader) for side in SIDES]
    idle = [settings.seed, gr.Button(interactive=True), gr.Button(interactive=False)]
    return [*_pictures(view), _line(_summary(view, settings, loader)), *saves, *idle]


def _line(text: str) -> str:
    return f'<div class="line" role="status">{text}</div>'


def _progress(view: View, steps: int) -> str:
    done = SIDES.index(view.painting) * steps + view.step
    bar = f'<progress max="{len(SIDES) * steps}" value="{done}"></progress>'
    return _line(f"{bar}<span>{view.painting.capitalize()}, step {view.step} of {steps}</span>")


def _summary(view: View, settings: Settings, loader: PairLoader) -> str:
    times = ", ".join(f"{side} {seconds:.1f} s" for side, seconds in zip(SIDES, view.seconds, strict=True))
    width, height = view.base.size
    parts = [
        f"<b>{escape(loader.spec.name)}</b>",
        times,
        f"seed {settings.seed}",
        f"{settings.steps} steps",
        f"guidance {settings.guidance:g}",
        f"{width} × {height} pixels",
    ]
    strangers = unknown_words(settings.prompt, loader.vocabulary)
    note = f'<div class="note">Not in its vocabulary: {escape(", ".join(strangers))}.</div>' if strangers else ""
    return f"<span>{' · '.join(parts)}</span>{note}"


def _saved(side: str, view: View, settings: Settings, loader: PairLoader) -> gr.DownloadButton:
    """Write one picture as painted, with its settings inside the PNG, and return the button that hands it out."""
    words = re.sub(r"[^a-z0-9]+", "-", settings.prompt.lower()).strip("-")[:48]
    facts = PngInfo()
    for name, value in {**vars(settings), "model": loader.spec.key, "side": side}.items():
        facts.add_text(name, str(value))
    png = BytesIO()
    getattr(view, side).save(png, format="PNG", pnginfo=facts)
    name = f"{words}_seed-{settings.seed}_{side}.png"
    # In the page's own cache, so that it is deleted with the other files of the page.
    return gr.DownloadButton(value=save_bytes_to_cache(png.getvalue(), name, get_upload_folder()), visible=True)


def _rest(message: str) -> list[Any]:
    return [_line(message), gr.Button(interactive=True), gr.Button(interactive=False)]


def _of_model(loader: PairLoader) -> list[Any]:
    return [loader.spec.steps, loader.spec.guidance, _notice(loader)]


def _notice(loader: PairLoader) -> str:
    return f'<p class="notice">{loader.notice}</p>' if loader.notice else ""
