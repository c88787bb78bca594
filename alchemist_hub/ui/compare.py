"""The Compare tab: one prompt and one seed, painted by a base model and by its tuned sibling."""

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import gradio as gr
from PIL import Image

from alchemist_hub.errors import HubError
from alchemist_hub.ui.live import SIDES, Settings, View, finish, watch
from alchemist_hub.ui.result import finished, line, unfinished
from alchemist_hub.ui.services import PairLoader, Services

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
                        FIRST_SEED, label="Seed", precision=0, minimum=0, maximum=LAST_SEED, min_width=110,
                        elem_id="seed",
                    )  # fmt: skip
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
            status = gr.HTML(line("Ready."), elem_id="status")
            with gr.Row(elem_classes="saves"):
                saves = [_save_button(side) for side in SIDES]

    asked = [prompt, negative, seed, steps, guidance, model]
    result, controls = [*shown, slider, status, *saves], [seed, start, cancel]

    def compare_live(
        prompt: str, negative: str, seed: int, steps: int, guidance: float, model: str, fresh: bool
    ) -> Iterator[list[Any]]:
        seed = random.randrange(LAST_SEED) if fresh else seed
        yield from show_comparison(services, prompt, negative, seed, steps, guidance, model)

    running = gr.on(
        [start.click, prompt.submit], compare_live, [*asked, fresh], [*result, *controls],
        api_visibility="private", **RUNNING,
    )  # fmt: skip
    running.failure(lambda: _rest("Nothing painted."), None, [status, start, cancel], api_visibility="private")
    cancel.click(
        lambda: _rest("Cancelled."), None, [status, start, cancel],
        cancels=[running], queue=False, api_visibility="private",
    )  # fmt: skip
    model.change(lambda key: _of_model(services.pairs[key]), model, [steps, guidance, notice], api_visibility="private")
    page.load(lambda: opening(first), None, result, api_visibility="private", **RUNNING)
    _add_endpoint(services, asked)


def show_comparison(
    services: Services, prompt: str, negative: str, seed: int, steps: int, guidance: float, model: str
) -> Iterator[list[Any]]:
    """Yield the page's values while both sides are painted: pictures, slider, status, downloads, seed, buttons."""
    loader = services.pairs[model]
    settings = checked(prompt, negative, seed, steps, guidance)
    busy = [settings.seed, gr.Button(interactive=False), gr.Button(interactive=True)]
    idle = [gr.skip(), gr.Button(interactive=True), gr.Button(interactive=False)]
    hidden = [gr.DownloadButton(visible=False)] * len(SIDES)
    yield [None, None, None, line(f"Loading {loader.spec.name}"), *hidden, *busy]
    before = View()
    try:
        pair = loader.pair()
        _check_length(pair.base.tokenizer, settings.prompt)
        for view in watch(pair, settings):
            if view.painting is not None:
                yield [*unfinished(view, before, settings), gr.skip(), gr.skip(), gr.skip()]
            before = view
    except HubError as error:
        raise gr.Error(str(error), print_exception=False) from error
    yield [*finished(before, settings, loader), *idle]


def opening(loader: PairLoader) -> list[Any]:
    """Return the result a visitor finds: the first example, painted once for all visitors."""
    settings = checked(EXAMPLES[0], "", FIRST_SEED, loader.spec.steps, loader.spec.guidance)
    try:
        return finished(_painted_once(loader, settings), settings, loader)
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
        elem_classes="picture", alt_text=f"picture of the {side} model",
    )  # fmt: skip


def _save_button(side: str) -> gr.DownloadButton:
    return gr.DownloadButton(f"Save {side}", visible=False, size="sm", min_width=120, elem_id=f"save-{side}")


def _refusal(message: str) -> gr.Error:
    return gr.Error(message, title="Not painted", print_exception=False)


def _check_length(tokenizer: Any, prompt: str) -> None:
    tokens = len(tokenizer(prompt).input_ids)
    if tokens > tokenizer.model_max_length:
        raise _refusal(f"The prompt has {tokens} tokens; this model reads {tokenizer.model_max_length}. Shorten it.")


def _rest(message: str) -> list[Any]:
    return [line(message), gr.Button(interactive=True), gr.Button(interactive=False)]


def _of_model(loader: PairLoader) -> list[Any]:
    return [loader.spec.steps, loader.spec.guidance, _notice(loader)]


def _notice(loader: PairLoader) -> str:
    return f'<p class="notice">{loader.notice}</p>' if loader.notice else ""
