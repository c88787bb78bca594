"""The whole page: theme, header and tabs. `make_demo` builds it, `launch` serves it."""

import atexit
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

import gradio as gr

from alchemist_hub.errors import HubError
from alchemist_hub.evaluation.results import read_report
from alchemist_hub.ui.compare import build_compare
from alchemist_hub.ui.funnel import build_funnel
from alchemist_hub.ui.judge import build_judge
from alchemist_hub.ui.moments import paint_ahead
from alchemist_hub.ui.results import build_results
from alchemist_hub.ui.services import Services
from alchemist_hub.ui.vote import build_vote
from curation.judge import MOST_BYTES

STYLES = Path(__file__).parent  # one style sheet a tab, style.css for the page
MOST_UPLOADED = MOST_BYTES + (1 << 16)  # bytes of a request; the picture itself is refused in words
KEPT = 3600  # seconds that pictures made for the page stay on disk
WAITING = 512  # requests that may wait, of all kinds together
HEADER = """
<header class="masthead">
  <svg viewBox="0 0 32 32" aria-hidden="true"><circle class="ring" cx="16" cy="16" r="13"/>
    <circle class="core" cx="16" cy="16" r="3.5"/></svg>
  <div><h1>Alchemist Hub</h1>
  <p>One prompt, one seed, two models: before and after fine-tuning on a few carefully chosen pictures.</p></div>
  <button type="button" class="theme" aria-label="Switch between light and dark" title="Light or dark">
    <svg viewBox="0 0 24 24" aria-hidden="true"><circle cx="12" cy="12" r="8"/><path d="M12 4a8 8 0 0 1 0 16z"/></svg>
  </button>
</header>
"""
# The visitor's choice of theme, kept in their browser; a theme in the address goes first, as Gradio has it.
THEME = """
const dark = () => document.body.classList.contains('dark');
const asked = new URLSearchParams(window.location.search).get('__theme');
const chosen = asked ? null : localStorage.getItem('alchemist-hub-theme');
if (chosen) document.body.classList.toggle('dark', chosen === 'dark');
element.querySelector('button.theme').addEventListener('click', () => {
  document.body.classList.toggle('dark');
  localStorage.setItem('alchemist-hub-theme', dark() ? 'dark' : 'light');
});
"""

# From pale to dark; the accent is c500 on light ground and c400 on dark ground.
GOLD = gr.themes.Color(
    name="gold", c50="#fbf7ea", c100="#f6ecc9", c200="#eed98f", c300="#e5c55c", c400="#dcb23a", c500="#c99a22",
    c600="#a87c1a", c700="#835f18", c800="#6c4e1b", c900="#5c431c", c950="#34240c",
)  # fmt: skip


def make_demo(services: Services) -> gr.Blocks:
    """Return the page over `services`. No model is loaded before someone asks for a picture."""
    with gr.Blocks(title="Alchemist Hub", analytics_enabled=False, delete_cache=(KEPT, KEPT)) as demo:
        gr.HTML(HEADER, js_on_load=THEME)
        with gr.Tabs(elem_classes="rooms"):
            with gr.Tab("Compare", id="compare"):
                build_compare(demo, services)
            _add_voting(demo, services)
            if services.funnel is not None:
                with gr.Tab("Funnel", id="funnel"):
                    build_judge(services.funnel, *build_funnel(services.funnel))
    return demo.queue(max_size=WAITING)


def _add_voting(demo: gr.Blocks, services: Services) -> None:
    voted = None
    if services.votes is not None:
        with gr.Tab("Vote", id="vote"):
            voted = build_vote(services.votes)
    reports = [read_report(folder) for folder in services.reports]
    if services.votes is not None or reports:
        with gr.Tab("Results", id="results") as tab:
            build_results(demo, tab, services.votes and services.votes.store, reports, voted)


def launch(services: Services, *, prevent_thread_lock: bool = False, **options: Any) -> gr.Blocks:
    """Serve the page (port: GRADIO_SERVER_PORT) and load the first pair meanwhile; `options` as of `Blocks.launch`.

    It ends with the process. With `prevent_thread_lock` it returns at once, and stopping `services.votes` is the
    caller's. Raises HubError when the port is taken.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    if options.get("server_port"):
        _refuse_taken(options["server_port"], options.get("server_name"))
    if prevent_thread_lock:
        return _open(services, options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a Space that goes to sleep ends in order
    try:
        _open(services, options).block_thread()  # until an interrupt
    except KeyboardInterrupt:  # while it was starting
        pass
    finally:
        if services.votes is not None:
            services.votes.stop()
    _end_process()


def _open(services: Services, options: dict[str, Any]) -> gr.Blocks:
    """Start everything and return; raises HubError when the port is taken."""
    demo = make_demo(services)
    paint_ahead(services)
    try:
        demo.launch(
            theme=theme(), css=style(), footer_links=["api", "settings"],
            run_history=False, ssr_mode=False, prevent_thread_lock=True,
            max_file_size=MOST_UPLOADED, **options,
        )  # fmt: skip
    except OSError as error:  # in Gradio's words, which port and why
        raise HubError(str(error).strip().splitlines()[0]) from error
    if services.votes is not None:
        services.votes.start()
    return demo


def _refuse_taken(port: int, host: str | None) -> None:
    """Raise HubError if nobody can listen there: said before anything is started that would have to be ended."""
    with socket.socket(socket.AF_INET6 if ":" in (host or "") else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host or "127.0.0.1", port))
        except OSError as error:
            raise HubError(f"nothing can listen on port {port}: {error.strerror}; choose another one") from error


def _end_process() -> NoReturn:
    """End the process here: threads that only served the page would hold DuckDB's objects, and it complains of each."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def style() -> str:
    """Return the style sheets of the page and its tabs as one."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(STYLES.glob("*.css")))


def theme() -> gr.themes.Base:
    """Return gold on slate, in the fonts of the visitor's own system: the page asks nobody else for anything."""
    return gr.themes.Base(
        primary_hue=GOLD,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        font=["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Consolas", "monospace"],
    ).set(
        body_background_fill="#f7f6f2",
        body_background_fill_dark="#0d1420",
        block_background_fill="white",
        block_background_fill_dark="#141d2c",
        block_border_color="#e4e1d8",
        block_border_color_dark="#243044",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_weight="600",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        input_background_fill="#f7f6f2",
        input_background_fill_dark="#0d1420",
        input_border_color="#d9d5c8",
        input_border_color_dark="#2d3b52",
        button_primary_background_fill="*primary_400",
        button_primary_background_fill_hover="*primary_300",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="#1a1508",
        button_primary_text_color_dark="#1a1508",
        button_secondary_background_fill="#e9e6dc",
        button_secondary_background_fill_dark="#243044",
        slider_color="*primary_500",
        slider_color_dark="*primary_400",
    )
