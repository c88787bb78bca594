"""The models this project knows as a table: what they are, their licences, and the memory a fine-tune takes."""

from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from alchemist_hub.models import MODELS, ModelSpec
from alchemist_hub.training.fitting import ladder, settings_of
from alchemist_hub.training.memory import gib, standing_of
from alchemist_hub.training.recipes import RECIPES


def facts(spec: ModelSpec) -> dict[str, Any]:
    """Return what `alchemist models` tells of one model, as JSON values; bytes of memory are without activations."""
    asked = settings_of(RECIPES[spec.key], spec, processes=1)
    *_, leanest = ladder(asked)
    return {
        "key": spec.key,
        "name": spec.name,
        "base": spec.base,
        "tuned": spec.tuned,
        "pipeline": spec.pipeline,
        "objective": spec.objective,
        "size": spec.size,
        "parameters": spec.parameters,
        "licence": spec.licence_name or spec.licence,
        "licence_link": spec.licence_link,
        "gated": spec.gated,
        "memory": {"recipe": standing_of(spec, asked).peak, "leanest": standing_of(spec, leanest).peak},
    }


def table() -> Table:
    """Return every model as a table that fits 80 columns: four lines a model, repositories whole."""
    shown = Table(
        box=SIMPLE,
        caption="Memory of weights, gradients, moments and average: by the recipe, and at least. Activations come on "
        "top: alchemist train KEY --plan --gpu-memory 80GiB",
        pad_edge=False,
    )
    for name in ("key", "name, base, tuned, licence", "size, memory"):
        shown.add_column(name, overflow="fold")
    for told in map(facts, MODELS.values()):
        recipe, least = (gib(told["memory"][name]) for name in ("recipe", "leanest"))
        licence = f"{told['licence']}{', gated' if told['gated'] else ''}"
        shown.add_row(
            told["key"],
            f"{told['name']}\n{_short(told['base'])}\n{_short(told['tuned'])}\n{licence}",
            f"{told['size']} px, {told['parameters'] / 1e6:,.0f} M\n{told['objective']}\n{recipe}\n{least}",
            end_section=True,
        )
    return shown


def _short(source: str) -> str:
    """A repository as it is, a folder without the way to it."""
    return source if source.count("/") == 1 else source.rsplit("/", 1)[-1]
