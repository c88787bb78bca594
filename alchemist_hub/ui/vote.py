"""The Vote tab: which of two pictures is better, aspect by aspect, without knowing which model painted which."""

import base64
from functools import lru_cache
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.events import Dependency
from PIL import Image

from alchemist_hub.errors import VoteError
from alchemist_hub.ui.result import enlarged
from alchemist_hub.voting.ballots import Booth
from alchemist_hub.voting.records import ASPECTS, QUESTIONS, SIDES
from alchemist_hub.voting.store import Receipt

SCRIPT = Path(__file__).with_name("vote.js")
PAINTING = "The first pictures are being painted …"
PATIENCE = 30.0  # seconds that `/ballot` waits for a pair that is still being painted
KEYS = {"left": "1 ←", "right": "2 →", "tie": "3 ↑", "both bad": "4 ↓"}
SHORTCUTS = {"left": "1 ArrowLeft", "right": "2 ArrowRight", "tie": "3 ArrowUp", "both bad": "4 ArrowDown"}
VOTING = {"concurrency_id": "voting", "concurrency_limit": 8}
Choice = Literal["left", "right", "tie", "both bad"]


def build_vote(booth: Booth) -> Dependency:
    """Lay out the tab inside the open page and return the event of a counted vote. API: `/ballot` and `/vote`."""

    def deal(given: Any) -> dict[str, Any]:
        return deal_to_page(booth, given)

    def vote(given: Any) -> dict[str, Any]:
        return vote_from_page(booth, given)

    panel = gr.HTML(
        "", html_template=_template(), js_on_load=SCRIPT.read_text(encoding="utf-8"), server_functions=[deal, vote],
        elem_classes="booth", elem_id="booth", apply_default_css=False,
    )  # fmt: skip
    _add_endpoints(booth)
    return panel.voted


def deal_to_page(booth: Booth, given: Any) -> dict[str, Any]:
    """Return a ballot as the page may know it: id, prompt, pictures; or {"says": why there is none}."""
    try:
        dealt = booth.deal()
        if dealt is None:
            return {"says": PAINTING}
        mine = booth.count(_field(given, "rater"))
    except VoteError as error:
        return {"says": str(error)}
    pictures = {"left": data_url(dealt.left), "right": data_url(dealt.right)}
    return {"ballot": dealt.ballot, "prompt": dealt.prompt, "mine": mine, **pictures}


def vote_from_page(booth: Booth, given: Any) -> dict[str, Any]:
    """Count a vote and return what was where; or {"says": why it does not count}."""
    try:
        receipt = booth.vote(*(_field(given, name) for name in ("ballot", "answers", "rater")))
    except VoteError as error:
        return {"says": _sentence(error)}
    return {**_revealed(receipt), "mine": receipt.mine}


@lru_cache(maxsize=512)
def data_url(path: Path) -> str:
    """Return a picture as shown, inside of its own address: no file name that could tell where it comes from."""
    stream = BytesIO()
    with Image.open(path) as picture:
        enlarged(picture.convert("RGB")).save(stream, format="WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _add_endpoints(booth: Booth) -> None:
    """Add `/ballot` and `/vote` for programs."""

    def ballot(model: str) -> tuple[str, str, Image.Image, Image.Image]:
        """Deal a blind ballot: its id (valid for an hour, one vote), the prompt, the left and the right picture."""
        try:
            dealt = booth.deal(model, wait=PATIENCE)
        except VoteError as error:
            raise _refusal(error) from error
        if dealt is None:
            raise gr.Error("No pair is painted yet: ask again in a minute.", print_exception=False)
        return dealt.ballot, dealt.prompt, _opened(dealt.left), _opened(dealt.right)

    def vote(
        ballot: str, rater: str, relevance: Choice, aesthetics: Choice, complexity: Choice, fidelity: Choice
    ) -> dict[str, Any]:
        """Vote on a ballot; returns once the vote is on the disk.

        `rater`: 8 to 64 letters, digits, hyphens or underscores that say nothing about who you are, the same each time.
        Returns counted (false: this very vote was there already), left and right (which model was where), and mine
        (how often you have voted).
        """
        answers = dict(zip(ASPECTS, (relevance, aesthetics, complexity, fidelity), strict=True))
        try:
            receipt = booth.vote(ballot, answers, rater)
        except VoteError as error:
            raise _refusal(error) from error
        return {"counted": receipt.counted, **_revealed(receipt), "mine": receipt.mine}

    with gr.Row(visible=False):
        asked = gr.Textbox(next(iter(booth.stocks)), label="model")
        told = [gr.Textbox(label="ballot"), gr.Textbox(label="prompt")]
        pictures = [gr.Image(label=side, type="pil", format="png") for side in ("left", "right")]
        gr.Button().click(
            ballot, asked, [*told, *pictures], api_name="ballot", concurrency_id="dealing", concurrency_limit=16,
        )  # fmt: skip
    gr.api(vote, api_name="vote", **VOTING)


def _template() -> str:
    steps = "".join(
        f'<li class="step" data-aspect="{aspect}" data-question="{escape(QUESTIONS[aspect])}">{aspect.capitalize()}'
        '<span class="answer"></span></li>'
        for aspect in ASPECTS
    )
    sides = "".join(
        f'<figure class="{side}"><img alt="{side} picture" decoding="sync"><figcaption class="name">{side.capitalize()}'
        "</figcaption></figure>"
        for side in ("left", "right")
    )
    buttons = "".join(
        f'<button type="button" data-choice="{choice}" aria-keyshortcuts="{SHORTCUTS[choice]}">{choice.capitalize()}'
        f'<kbd aria-hidden="true">{key}</kbd></button>'
        for choice, key in KEYS.items()
    )
    return f"""
<section class="ballot" aria-label="Blind vote">
  <p class="lead">Two models painted the same prompt. Which is which, you learn after your vote.</p>
  <p class="asked" aria-label="Prompt"></p>
  <div class="pair">{sides}</div>
  <ol class="steps">{steps}</ol>
  <p class="question" id="booth-question" role="status"></p>
  <div class="answers" role="group" aria-labelledby="booth-question">{buttons}</div>
  <button type="button" class="next" aria-keyshortcuts="n">Next pair<kbd aria-hidden="true">N →</kbd></button>
  <div class="foot">
    <button type="button" class="skip" aria-keyshortcuts="s">Skip<kbd aria-hidden="true">S</kbd></button>
    <p class="mine"></p><p class="status" role="status"></p></div>
</section>"""


def _field(given: Any, name: str) -> Any:
    return given.get(name) if isinstance(given, dict) else None


def _revealed(receipt: Receipt) -> dict[str, str]:
    left, right = SIDES if receipt.left == SIDES[0] else SIDES[::-1]
    return {"left": left.capitalize(), "right": right.capitalize()}


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _sentence(error: VoteError) -> str:
    text = str(error)
    return f"{text[0].upper()}{text[1:]}."


def _refusal(error: VoteError) -> gr.Error:
    return gr.Error(_sentence(error), title="Not counted", print_exception=False)
