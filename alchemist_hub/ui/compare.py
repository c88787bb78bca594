"""The Compare tab: one prompt and one seed, painted by a base model and by its tuned sibling."""

import random
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from PIL import Image

from alchemist_hub.ui import history
from alchemist_hub.ui.asked import EXAMPLES, LAST_SEED, LINKED, checked, example, linked, refusal
from alchemist_hub.ui.form import Form, Result, lay_out, notice
from alchemist_hub.ui.live import SIDES, Settings, View
from alchemist_hub.ui.moments import Painter, moments, painter
from alchemist_hub.ui.result import finished, line, unfinished
from alchemist_hub.ui.services import PairLoader, Services
from alchemist_hub.ui.visits import Visits

# Whose turn it is is decided in turns.py, which can tell how long it takes; Gradio starts every comparison at once.
RUNNING = {"queue": True, "concurrency_limit": None, "show_progress": "hidden"}
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
WATCHED = RUNNING | PRIVATE

COPY_LINK = """
(prompt, negative, seed, steps, guidance, model) => {
  const link = new URL(window.location.pathname, window.location.origin);
  for (const [name, value] of Object.entries({prompt, negative, seed, steps, guidance, model}))
    if (value !== '' && value !== null) link.searchParams.set(name, value);
  const told = text => {
    const button = document.querySelector('#share');
    button.textContent = text;
    setTimeout(() => { button.textContent = 'Copy link'; }, 2000);
  };
  const byHand = () => window.prompt('Copy this link', link.href);
  if (!navigator.clipboard) byHand();
  else navigator.clipboard.writeText(link.href).then(() => told('Link copied'), byHand);
  return [];
}
"""


def build_compare(page: gr.Blocks, services: Services) -> None:
    """Lay out the tab inside `page`, which is open, and connect it. API name: `/compare`."""
    form, result = lay_out(services)
    paint, visits = painter(services), Visits()
    changed = [*result.shown, *result.past, form.seed, *form.buttons, result.clear]

    async def compare_live(
        prompt: Any, negative: Any, seed: Any, steps: Any, guidance: Any, model: Any, locked: Any, kept: Any,
        request: gr.Request,
    ) -> AsyncIterator[list[Any]]:  # fmt: skip
        seed = seed if locked else random.randrange(LAST_SEED)
        settings, loader = checked(prompt, negative, seed, steps, guidance), _loader(services, model)
        async for values in visits.latest(request, show_comparison(services, paint, settings, loader, kept)):
            yield values

    async def open_page(
        prompt: Any, negative: Any, seed: Any, steps: Any, guidance: Any, model: Any, kept: Any,
        request: gr.Request,
    ) -> AsyncIterator[list[Any]]:  # fmt: skip
        settings, loader = checked(prompt, negative, seed, steps, guidance), _loader(services, model)
        record = settings != example(loader.spec)  # what every visitor finds is nobody's history
        showing = show_comparison(services, paint, settings, loader, kept, record=record)
        async for values in visits.latest(request, showing):
            yield values

    def arrive(kept: Any, request: gr.Request) -> list[Any]:
        return _arrive(services, kept, dict(request.query_params))

    inputs = [*form.asked, form.locked, result.kept]
    asked = gr.on([form.start.click, form.prompt.submit], compare_live, inputs, changed, **WATCHED)
    arrived = page.load(
        arrive,
        result.kept,
        [*form.asked, result.notice, result.history, result.clear],
        **PRIVATE,
    )
    picked = form.examples.click(
        lambda index, model: _example(services, index, model), [form.examples, form.model], [*form.asked, form.locked],
        **PRIVATE,
    )  # fmt: skip
    chosen = result.history.select(_chosen(services), result.kept, [*form.asked, form.locked], **PRIVATE)
    shows = [asked, arrived.then(open_page, [*form.asked, result.kept], changed, **WATCHED)]
    shows += [ready.success(compare_live, inputs, changed, **WATCHED) for ready in (picked, chosen)]
    for show in shows:
        show.failure(lambda: _rest("Nothing painted."), None, [result.status, *form.buttons], **PRIVATE)
    form.cancel.click(
        lambda: _rest("Cancelled."), None, [result.status, *form.buttons], cancels=shows, queue=False, **PRIVATE
    )
    _connect_rest(form, result, services)
    _add_endpoint(services, paint, form)


async def show_comparison(
    services: Services, paint: Painter, settings: Settings, loader: PairLoader, kept: Any, *, record: bool = True
) -> AsyncIterator[list[Any]]:
    """Yield the page's values while both sides are painted: what is shown, history, seed, buttons, clear."""
    busy = [settings.seed, gr.Button(interactive=False), gr.Button(interactive=True), gr.skip()]
    idle = [gr.skip(), gr.Button(interactive=True), gr.Button(interactive=False)]
    still, same = [gr.skip()] * 4, [gr.skip()] * 2
    blank = [None, None, None]
    yield [*[gr.skip()] * 3, line("Getting ready"), *same, *same, *busy]
    before, begun = View(), False
    async for moment in moments(services, paint, loader.spec.key, settings):
        if isinstance(moment, View) and moment.painting is None:
            before = moment
            continue
        if not begun:
            yield [*blank, gr.skip(), *[gr.DownloadButton(visible=False)] * 2, *same, *still]
            begun = True
        if isinstance(moment, str):
            yield [*[gr.skip()] * 3, line(moment), *same, *same, *still]
        else:
            yield [*unfinished(moment, before, settings), *same, *still]
            before = moment
    records = history.recorded(kept, before, settings, loader.spec.key) if record else history.read(kept)
    past = [records, history.shown(records)]
    yield [*finished(before, settings, loader, earlier=not begun), *past, *idle, gr.Button(visible=bool(records))]


def _arrive(services: Services, kept: Any, parameters: dict[str, str]) -> list[Any]:
    """Return what a visitor finds in the form, by the share link that was opened or the first example; and history."""
    loader = next(iter(services.pairs.values()))
    settings = example(loader.spec)
    if any(name in parameters for name in LINKED):
        try:
            loader = _loader(services, parameters.get("model", loader.spec.key))
            settings = linked(parameters, loader.spec)
        except gr.Error as error:
            gr.Warning(f"This link cannot be shown. {error.message}", title="Link")
            settings = example(loader.spec)
    records = history.read(kept)
    return [*_form_values(settings, loader), notice(loader), history.shown(records), gr.Button(visible=bool(records))]


def _example(services: Services, index: Any, model: Any) -> list[Any]:
    loader = _loader(services, model)
    if not isinstance(index, int) or not 0 <= index < len(EXAMPLES):
        raise refusal("There is no such example.")
    return [*_form_values(example(loader.spec, EXAMPLES[index]), loader), True]


def _chosen(services: Services) -> Any:
    def choose(kept: Any, event: gr.EventData) -> list[Any]:
        """Return the form of a comparison in the history, its seed locked."""
        found = history.chosen(kept, event._data.get("index") if isinstance(event._data, dict) else None)
        if found is None:
            raise refusal("This comparison is no longer in the history.")
        settings, key = found
        return [*_form_values(settings, _loader(services, key)), True]

    return choose


def _form_values(settings: Settings, loader: PairLoader) -> list[Any]:
    return [*(getattr(settings, name) for name in LINKED[:-1]), loader.spec.key]


def _loader(services: Services, key: Any) -> PairLoader:
    if not isinstance(key, str) or key not in services.pairs:
        raise refusal(f"There is no such model; the models are {', '.join(services.pairs)}.")
    return services.pairs[key]


def _connect_rest(form: Form, result: Result, services: Services) -> None:
    """Connect what paints nothing: model choice, share link, clearing the history."""
    form.model.change(
        lambda key: _of_model(_loader(services, key)), form.model,
        [form.steps, form.guidance, result.notice, form.start], **PRIVATE,
    )  # fmt: skip
    result.share.click(None, form.asked, None, js=COPY_LINK, **PRIVATE)
    result.clear.click(
        lambda: [[], history.shown([]), gr.Button(visible=False)], None, [*result.past, result.clear], **PRIVATE
    )


def _add_endpoint(services: Services, paint: Painter, form: Form) -> None:
    """Add `/compare`: the same inputs, with defaults, and the two pictures as they were painted."""

    async def compare(
        prompt: str, negative: str, seed: int, steps: int, guidance: float, model: str
    ) -> tuple[Image.Image | None, Image.Image | None]:
        """Paint one prompt and seed with a base model and its tuned sibling.

        Returns both pictures, base first; None for one that the safety filter hides.
        """
        settings, loader = checked(prompt, negative, seed, steps, guidance), _loader(services, model)
        async for moment in moments(services, paint, loader.spec.key, settings):
            view = moment
        return view.base, view.tuned

    with gr.Row(visible=False):
        trigger = gr.Button()
        answers = [gr.Image(label=side, type="pil", format="png") for side in SIDES]
    trigger.click(compare, form.asked, answers, api_name="compare", **RUNNING)


def _rest(message: str) -> list[Any]:
    return [line(message), gr.Button(interactive=True), gr.Button(interactive=False)]


def _of_model(loader: PairLoader) -> list[Any]:
    return [loader.spec.steps, loader.spec.guidance, notice(loader), gr.Button(interactive=not loader.blocked)]
