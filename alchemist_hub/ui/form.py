"""The parts of the Compare tab and where they stand. What they do is in compare.py."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from alchemist_hub.ui import history
from alchemist_hub.ui.asked import EXAMPLES, FIRST_SEED, GUIDANCE, LAST_SEED, LONGEST_PROMPT, STEPS
from alchemist_hub.ui.live import SIDES
from alchemist_hub.ui.result import line
from alchemist_hub.ui.services import PairLoader, Services

# A click, or Enter on a focused button, names the comparison to show again.
CHOOSE = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-index]');
  if (button) trigger('select', {index: Number(button.dataset.index)});
});
"""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a visitor sets."""

    prompt: gr.Textbox
    negative: gr.Textbox
    seed: gr.Number
    steps: gr.Slider
    guidance: gr.Slider
    model: gr.Dropdown
    locked: gr.Checkbox
    start: gr.Button
    cancel: gr.Button
    examples: gr.Dataset

    @property
    def asked(self) -> list[gr.components.Component]:
        """The inputs of a comparison, in the order of `asked.LINKED`."""
        return [self.prompt, self.negative, self.seed, self.steps, self.guidance, self.model]

    @property
    def buttons(self) -> list[gr.Button]:
        """The two that take turns."""
        return [self.start, self.cancel]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a visitor sees."""

    notice: gr.HTML
    pictures: list[gr.Image]
    slider: gr.ImageSlider
    status: gr.HTML
    saves: list[gr.DownloadButton]
    share: gr.Button
    history: gr.HTML
    clear: gr.Button
    kept: gr.BrowserState

    @property
    def shown(self) -> list[gr.components.Component]:
        """What one moment of a comparison changes."""
        return [*self.pictures, self.slider, self.status, *self.saves]

    @property
    def past(self) -> list[gr.components.Component]:
        """What a finished comparison is added to."""
        return [self.kept, self.history]


def lay_out(services: Services) -> tuple[Form, Result]:
    """Put every part onto the page that is open."""
    with gr.Row(elem_classes="compare"):
        with gr.Column(scale=2, min_width=300, elem_classes="controls"):
            form = _form(services)
        with gr.Column(scale=5, min_width=300, elem_classes="result"):
            return form, _result(next(iter(services.pairs.values())))


def as_it_arrives(part: gr.components.Component) -> gr.components.Component:
    """Let any JSON value through to `asked.checked`, which refuses in one line where Gradio fails without one."""
    part.preprocess = _unchanged
    return part


def notice(loader: PairLoader) -> str:
    """Return what has to be known about a pair: why it cannot run here, or how to judge it."""
    if loader.blocked:
        return f'<p class="notice blocked" role="status"><b>Not on this machine.</b> {loader.blocked}</p>'
    return f'<p class="notice">{loader.notice}</p>' if loader.notice else ""


def _form(services: Services) -> Form:
    first = next(iter(services.pairs.values()))
    prompt = gr.Textbox(
        EXAMPLES[0], label="Prompt", lines=1, max_lines=4, max_length=LONGEST_PROMPT, elem_id="prompt",
    )  # fmt: skip
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Compare", variant="primary", elem_id="start", scale=3, min_width=120)
        cancel = gr.Button("Cancel", interactive=False, elem_id="cancel", scale=1, min_width=90)
    with gr.Column(elem_classes="try"):
        examples = gr.Dataset(
            components=["textbox"], samples=[[text] for text in EXAMPLES], label="Try", type="index",
            elem_id="examples",
        )  # fmt: skip
    with gr.Group(elem_classes="settings"):
        model = gr.Dropdown(
            [(_choice(loader), key) for key, loader in services.pairs.items()], value=first.spec.key, label="Model",
            visible=len(services.pairs) > 1, filterable=False, elem_id="model",
        )  # fmt: skip
        with gr.Row(elem_classes="seeds"):
            seed = gr.Number(
                FIRST_SEED, label="Seed", precision=0, minimum=0, maximum=LAST_SEED, min_width=110, elem_id="seed"
            )
            locked = gr.Checkbox(
                True, label="Lock seed", info="Off: a new seed each time", min_width=130, elem_id="lock"
            )
        steps = gr.Slider(*STEPS, value=first.spec.steps, step=1, label="Steps", elem_id="steps")
        guidance = gr.Slider(*GUIDANCE, value=first.spec.guidance, step=0.5, label="Guidance", elem_id="guidance")
        negative = gr.Textbox(
            "", label="Negative prompt", placeholder="what to keep away from, if anything", elem_id="negative",
            max_length=LONGEST_PROMPT,
        )  # fmt: skip
    for part in (prompt, negative, seed, steps, guidance, model):
        as_it_arrives(part)
    return Form(
        prompt=prompt, negative=negative, seed=seed, steps=steps, guidance=guidance, model=model, locked=locked,
        start=start, cancel=cancel, examples=examples,
    )  # fmt: skip


def _result(first: PairLoader) -> Result:
    above = gr.HTML(notice(first), elem_id="notice")
    with gr.Tabs(elem_classes="views"):
        with gr.Tab("Side by side"), gr.Row(elem_classes="pictures"):
            pictures = [_picture(side) for side in SIDES]
        with gr.Tab("Slider"):
            slider = gr.ImageSlider(
                label="Base left, tuned right", interactive=False, buttons=["fullscreen"], max_height=640,
                elem_id="slider",
            )  # fmt: skip
    status = gr.HTML(line("Ready."), elem_id="status")
    with gr.Row(elem_classes="saves"):
        saves = [_save_button(side) for side in SIDES]
        share = gr.Button("Copy link", size="sm", min_width=110, elem_id="share")
    with gr.Column(elem_classes="past"):
        with gr.Row(elem_classes="past-head"):
            gr.HTML("<h2>Your comparisons</h2>")
            clear = gr.Button("Clear", size="sm", min_width=80, scale=0, elem_id="clear", visible=False)
        listed = gr.HTML(history.shown([]), js_on_load=CHOOSE, elem_id="history")
    kept = gr.BrowserState([], storage_key="alchemist-hub-comparisons", secret="alchemist-hub")
    return Result(
        notice=above, pictures=pictures, slider=slider, status=status, saves=saves, share=share, history=listed,
        clear=clear, kept=kept,
    )  # fmt: skip


def _choice(loader: PairLoader) -> str:
    return f"{loader.spec.name} (not here)" if loader.blocked else loader.spec.name


def _picture(side: str) -> gr.Image:
    return gr.Image(
        label=side.capitalize(), interactive=False, buttons=["fullscreen"], min_width=140, elem_id=side,
        elem_classes="picture", alt_text=f"picture of the {side} model",
    )  # fmt: skip


def _save_button(side: str) -> gr.DownloadButton:
    return gr.DownloadButton(f"Save {side}", visible=False, size="sm", min_width=120, elem_id=f"save-{side}")


def _unchanged(payload: Any) -> Any:
    return payload
