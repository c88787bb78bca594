"""The pages of a report folder, report.md and report.html, rendered from what the folder holds.

Either half may be missing: the comparison (report.json) or the funnel (funnel.json). The HTML page carries its
pictures inside, so that it can be sent as one file.
"""

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from alchemist_hub.evaluation.figures import before_after_name
from alchemist_hub.evaluation.results import REPORT, p_value, read_report

TEMPLATES = Path(__file__).parent / "templates"
FUNNEL = "funnel.json"


def write(folder: Path) -> None:
    """Render report.md and report.html from report.json and funnel.json, whichever of them `folder` holds."""
    context = _context(folder)
    for name in ("report.md", "report.html"):
        part = folder / f"{name}.part"
        part.write_text(_environment(folder).get_template(f"{name}.j2").render(context) + "\n", encoding="utf-8")
        os.replace(part, folder / name)


def percent(value: float | None, digits: int = 0) -> str:
    """Return 0.5 as "50%"; what is not known as a dash."""
    return "–" if value is None or value != value else f"{value:.{digits}%}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals; what is not known as a dash."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _context(folder: Path) -> dict[str, Any]:
    funnel = folder / FUNNEL
    report = read_report(folder) if (folder / REPORT).is_file() else None
    return {
        "report": report,
        "before_after": [(before_after_name(name), name) for name in report.opponents] if report else [],
        "set_names": _names(report.sets) if report else [],
        "shown_parts": _names(report.shown) if report else [],
        "funnel": json.loads(funnel.read_text()) if funnel.is_file() else None,
        "dropped_sheets": [path.name for path in sorted((folder / "figures").glob("dropped_*.png"))],
    }


def _names(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is known of each arm: all know the same."""
    return list(next(iter(found.values()), ()))


def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": percent, "number": number, "p_value": p_value, "reason": _sheet_reason}
    environment.globals["embedded"] = lambda name: _data_uri(folder / "figures" / name)
    return environment


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _sheet_reason(name: str) -> str:
    """Return the reason behind a contact sheet's file name."""
    return name.removeprefix("dropped_").removesuffix(".png").replace("_", " ")
