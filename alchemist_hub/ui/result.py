"""What the page shows of a comparison: pictures, slider, a plain line of facts, downloads."""

import hashlib
import os
import re
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from alchemist_hub.ui.live import SIDES, Settings, View
from alchemist_hub.ui.services import PairLoader

HIDDEN = "Hidden by the safety filter"
SHOWN_SIDE = 512  # pixels; smaller pictures are enlarged for the page, downloads stay as they were painted


def unfinished(view: View, before: View, settings: Settings) -> list[Any]:
    """Values of pictures, slider, status and downloads while a side is at work; what did not change is not sent."""
    pictures = [
        gr.skip() if (picture := getattr(view, side)) is getattr(before, side) else picture_file(picture)
        for side in SIDES
    ]
    return [*pictures, gr.skip(), progress(view, settings.steps), *(gr.skip() for _ in SIDES)]


def finished(view: View, settings: Settings, loader: PairLoader, *, earlier: bool = False) -> list[Any]:
    """Values of pictures, slider, status and downloads once both sides are there; `earlier`: painted before."""
    pictures = [picture_file(getattr(view, side) or notice_picture()) for side in SIDES]
    downloads = [
        gr.DownloadButton(visible=False)
        if side in view.hidden
        else gr.DownloadButton(value=download_file(side, view, settings, loader.spec.key), visible=True)
        for side in SIDES
    ]
    slider = tuple(pictures) if view.complete else None
    return [*pictures, slider, summary(view, settings, loader, earlier=earlier), *downloads]


def notice_picture() -> Image.Image:
    """Return what stands in the place of a hidden picture: words on plain ground, which no model painted."""
    ground = Image.new("RGB", (SHOWN_SIDE, SHOWN_SIDE), "#3a4353")
    draw, centre = ImageDraw.Draw(ground), SHOWN_SIDE / 2
    draw.text((centre, centre), HIDDEN, fill="#eeece5", anchor="mm", font=ImageFont.load_default(size=26))
    return ground


def enlarged(picture: Image.Image, side: int = SHOWN_SIDE) -> Image.Image:
    """Return a picture whose longer side is at least `side` pixels, resampled without blocks."""
    scale = side / max(picture.size)
    if scale <= 1:
        return picture
    return picture.resize([round(length * scale) for length in picture.size], Image.Resampling.LANCZOS)


def picture_file(picture: Image.Image) -> str:
    """Return the path of `picture` as shown: enlarged, WebP."""
    return _cached(_encoded(enlarged(picture), format="WEBP", quality=90), "picture.webp")


def download_file(side: str, view: View, settings: Settings, model: str) -> str:
    """Return the path of one side's picture as painted, a PNG that carries its settings."""
    facts = PngInfo()
    for name, value in {**vars(settings), "model": model, "side": side}.items():
        facts.add_text(name, str(value))
    words = re.sub(r"[^a-z0-9]+", "-", settings.prompt.lower()).strip("-")[:48]
    png = _encoded(getattr(view, side), format="PNG", pnginfo=facts)
    return _cached(png, f"{words or 'picture'}_seed-{settings.seed}_{side}.png")


def line(content: str) -> str:
    """Return one line of status from safe HTML; screen readers read it out when it changes."""
    return f'<div class="line" role="status">{content}</div>'


def progress(view: View, steps: int) -> str:
    """Return the status while a side is at work."""
    done = SIDES.index(view.painting) * steps + view.step
    bar = f'<progress max="{len(SIDES) * steps}" value="{done}"></progress>'
    return line(f"{bar}<span>{view.painting.capitalize()}, step {view.step} of {steps}</span>")


def summary(view: View, settings: Settings, loader: PairLoader, *, earlier: bool = False) -> str:
    """Return what was painted with what, how long it took, and what was hidden."""
    times = ", ".join(f"{side} {seconds:.1f} s" for side, seconds in zip(SIDES, view.seconds, strict=True))
    seen = view.base or view.tuned
    facts = (
        f"<b>{escape(loader.spec.name)}</b>",
        f"painted earlier in {times}" if earlier else times,
        f"seed {settings.seed}",
        f"{settings.steps} steps",
        f"guidance {settings.guidance:g}",
        *([f"{seen.width} × {seen.height} pixels"] if seen else []),
        *([] if view.guarded else ["no safety filter"]),
    )
    return line(f"<span>{' · '.join(facts)}</span>{_notes(view, settings, loader)}")


def _notes(view: View, settings: Settings, loader: PairLoader) -> str:
    notes = []
    if view.hidden:
        notes.append(f"{HIDDEN}: {' and '.join(view.hidden)}. Another seed or prompt gives another picture.")
    if strangers := unknown_words(settings.prompt, loader.vocabulary):
        notes.append(f"Words it never learned: {escape(', '.join(strangers))}.")
    return "".join(f'<div class="note">{note}</div>' for note in notes)


def unknown_words(text: str, vocabulary: frozenset[str]) -> list[str]:
    """Return the words of `text` that are not in `vocabulary`, in order, each once; none if it is empty."""
    words = dict.fromkeys(re.findall(r"[^\W_]+", text.lower()))
    return [word for word in words if word not in vocabulary] if vocabulary else []


def _encoded(picture: Image.Image, **how: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, **how)
    return stream.getvalue()


def _cached(data: bytes, name: str) -> str:
    """Put a file into the page's cache, where old files are deleted, and return its path.

    Written whole and only once: Gradio's own way writes it again each time, which a browser that is reading it sees
    as a broken picture.
    """
    path = Path(get_upload_folder()) / hashlib.sha256(data).hexdigest() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{name}.{os.getpid()}.part")
        part.write_bytes(data)
        os.replace(part, path)
    return str(path)
