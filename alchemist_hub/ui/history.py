"""What a visitor compared before: kept in their own browser, bounded, and believed in nothing when it comes back."""

import base64
import re
from dataclasses import asdict
from html import escape
from io import BytesIO
from typing import Any

import gradio as gr
from PIL import Image

from alchemist_hub.ui.asked import checked
from alchemist_hub.ui.live import SIDES, Settings, View

LENGTH = 12  # comparisons
THUMBNAIL = 96  # pixels
LARGEST_THUMBNAIL = 12_000  # characters of a data address
_ADDRESS = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/]+={0,2}")

Record = dict[str, Any]  # the settings, "model", and a small picture of each side as a data address, "" if hidden


def recorded(history: Any, view: View, settings: Settings, model: str) -> list[Record]:
    """Return `history` with a comparison in front, once, and its oldest left out where it is full."""
    pictures = {side: _thumbnail(getattr(view, side)) for side in SIDES}
    latest = {**asdict(settings), "model": model, **pictures}
    others = [record for record in read(history) if _asked(record) != _asked(latest)]
    return [latest, *others][:LENGTH]


def read(history: Any) -> list[Record]:
    """Return the records of what a browser sent that are whole, leaving out what is not."""
    if not isinstance(history, list):
        return []
    return [record for sent in history[:LENGTH] if (record := _record(sent)) is not None]


def chosen(history: Any, index: Any) -> tuple[Settings, str] | None:
    """Return settings and model key of one record; None if there is none."""
    records = read(history)
    if not isinstance(index, int) or not 0 <= index < len(records):
        return None
    record = records[index]
    return _settings(record), record["model"]


def shown(history: Any) -> str:
    """Return the history as HTML: one button a comparison, with both pictures."""
    records = read(history)
    if not records:
        return '<p class="none">What you compare appears here, and stays in this browser only.</p>'
    return f'<ol class="history">{"".join(_button(index, record) for index, record in enumerate(records))}</ol>'


def _button(index: int, record: Record) -> str:
    prompt = escape(record["prompt"], quote=True)
    pictures = "".join(
        f'<img src="{record[side]}" alt="" width="48" height="48">' if record[side] else '<span class="hid"></span>'
        for side in SIDES
    )
    told = f"{prompt}, seed {record['seed']}, {record['steps']} steps"
    return (
        f'<li><button type="button" data-index="{index}" title="{told}" aria-label="Show again: {told}">'
        f"{pictures}<span>{prompt}</span></button></li>"
    )


def _record(sent: Any) -> Record | None:
    if not isinstance(sent, dict) or not isinstance(sent.get("model"), str):
        return None
    try:
        settings = _settings(sent)
    except gr.Error:
        return None
    pictures = {side: sent.get(side) for side in SIDES}
    if not all(isinstance(picture, str) and _is_thumbnail(picture) for picture in pictures.values()):
        return None
    return {**asdict(settings), "model": sent["model"], **pictures}


def _settings(record: Record) -> Settings:
    return checked(*(record.get(name) for name in ("prompt", "negative", "seed", "steps", "guidance")))


def _asked(record: Record) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("prompt", "negative", "seed", "steps", "guidance", "model"))


def _is_thumbnail(address: str) -> bool:
    return not address or (len(address) <= LARGEST_THUMBNAIL and _ADDRESS.fullmatch(address) is not None)


def _thumbnail(picture: Image.Image | None) -> str:
    if picture is None:
        return ""
    stream = BytesIO()
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(stream, format="WEBP", quality=70)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
