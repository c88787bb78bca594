"""What is true before anything is measured: one facts file in model_cards/ per model and one for the data set.

Facts hold words, names and links only; what `ModelSpec` says of a model is not said again. The templates beside them
are rendered here, with what a caller measured.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import yaml

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.pages import number, p_value, percent

CARDS = Path(__file__).parents[2] / "model_cards"
ORGANISATION = "alchemist-hub"  # whose repositories the facts files name


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What one model's facts file says."""

    name: str
    repository: str
    base_model: str  # Hub repository
    authors_repository: str | None = None  # of the paper's own checkpoint
    language: str
    dtype: str  # of torch, for the example
    device: str
    prompt: str  # of the example
    guidance_rescale: float | None = None
    tags: list[str]
    datasets: list[str] = field(default_factory=list)
    prompts_dataset: str | None = None  # Hub name of the evaluation's prompts, where they have one
    judged_by: str | None = None
    summary: str
    intended_use: list[str]
    limits: list[str]
    licence_note: str | None = None

    def published_by(self, organisation: str) -> "ModelFacts":
        """Return these facts with this project's own repositories in another organisation."""
        prompts = self.prompts_dataset
        return replace(
            self,
            repository=_moved(self.repository, organisation),
            base_model=_moved(self.base_model, organisation),
            datasets=[_moved(name, organisation) for name in self.datasets],
            prompts_dataset=None if prompts is None else _moved(prompts, organisation),
        )


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """What the data set's facts file says."""

    name: str
    repository: str
    authors_repository: str | None = None
    language: str
    licence: str
    licence_name: str | None = None
    licence_link: str | None = None
    tags: list[str]
    summary: str
    intended_use: list[str]
    columns: dict[str, str]  # column -> what it holds
    limits: list[str]
    licence_note: str
    removal: str

    def published_by(self, organisation: str) -> "DatasetFacts":
        """Return these facts with the data set in another organisation."""
        return replace(self, repository=_moved(self.repository, organisation))


Facts = TypeVar("Facts", ModelFacts, DatasetFacts)


def read_model_facts(key: str, folder: Path = CARDS) -> ModelFacts:
    """Read the facts of a model key. Raises EvaluationError if a fact is missing or unknown, or there is no file."""
    return _read(folder / f"{key}.yaml", ModelFacts)


def read_dataset_facts(recipe: str = "alchemist", folder: Path = CARDS) -> DatasetFacts:
    """Read the facts of a curation recipe's data set: its own where it has some. Raises EvaluationError."""
    own = folder / f"alchemist-{recipe}.yaml"
    return _read(own if own.is_file() else folder / "alchemist.yaml", DatasetFacts)


def render(template: str, context: Mapping[str, Any], folder: Path = CARDS) -> str:
    """Render a template of model_cards/; a name that it misses in `context` is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "p_value": p_value,
        "duration": duration,
        "energy": energy,
        "cell": cell,
        "amount": amount,
    }
    return environment.get_template(template).render(context)


def duration(seconds: float) -> str:
    """Return seconds as people read them: "162 s", "42 minutes", "11.3 hours"."""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def energy(kwh: float) -> str:
    """Return kilowatt hours as people read them, small ones as watt hours; two digits, as an estimate has no more."""
    return f"{kwh * 1000:.2g} Wh" if kwh < 0.1 else f"{kwh:.2g} kWh" if kwh < 100 else f"{kwh:,.0f} kWh"


def amount(count: int) -> str:
    """Return a large number as people say it: "10 million", "8.1 billion"."""
    return f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.0f} million"


def cell(text: str) -> str:
    """Return a text of others as it can stand in a Markdown table: one line, none of its signs read as markup."""
    marked = "".join(f"\\{sign}" if sign in "\\`*_[]|!" else sign for sign in " ".join(text.split()))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _read(path: Path, kind: type[Facts]) -> Facts:
    if not path.is_file():
        raise EvaluationError(f"no facts at {path}: cards are made in a checkout of the project, from its model_cards/")
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {item.name: item for item in fields(kind)}
    needed = {name for name, item in known.items() if item.default is MISSING and item.default_factory is MISSING}
    if wrong := sorted((needed - set(found)) | (set(found) - set(known))):
        raise EvaluationError(f"{path}: wrong or missing are {', '.join(wrong)}; the facts are {', '.join(known)}")
    return kind(**found)


def _moved(repository: str, organisation: str) -> str:
    own = f"{ORGANISATION}/"
    return f"{organisation}/{repository.removeprefix(own)}" if repository.startswith(own) else repository
