"""Model cards: typed facts and measured results in, a card that the Hub reads out. The prose lives in model_cards/.

Numbers come from the evaluation's report and from training.json; a card without an evaluation says so.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.pages import FUNNEL, number, p_value, percent
from alchemist_hub.evaluation.results import BASE, REPORT, AspectResult, Comparison, Report, read_report

CARDS = Path(__file__).parents[2] / "model_cards"
TUNED = "tuned"
FIGURES = ("grid.png", "win_rates.png")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is true of a model before anything is measured: one file in model_cards/ per model."""

    name: str
    repository: str
    base_model: str
    license: str
    language: str
    pipeline: str  # class in diffusers
    size: int  # native side, pixels
    steps: int
    guidance: float
    guidance_rescale: float
    tags: list[str]
    prompts_dataset: str  # what the evaluation's prompts are called in the results
    summary: str
    limits: list[str]


def read_facts(path: Path = CARDS / "miniature.yaml") -> Facts:
    """Read a facts file. Raises EvaluationError if a fact is missing or unknown."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    expected = {field.name for field in fields(Facts)}
    if wrong := sorted(expected ^ set(found)):
        raise EvaluationError(f"{path}: expected the facts {', '.join(sorted(expected))}; wrong are {', '.join(wrong)}")
    return Facts(**found)


def card_data(facts: Facts, report: Report | None) -> ModelCardData:
    """Return the card's metadata, with `model-index` results where there is a report."""
    measured = {}
    if report is not None:
        comparison = report.comparison(TUNED)
        measured = {
            "model_name": facts.name,
            "eval_results": [_result(facts, report, aspect) for aspect in comparison.aspects],
        }
    return ModelCardData(
        license=facts.license,
        language=facts.language,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        base_model=facts.base_model,
        base_model_relation="finetune",
        tags=facts.tags,
        **measured,
    )


def render(
    facts: Facts,
    *,
    report: Report | None = None,
    training: Mapping[str, Any] | None = None,
    funnel: Mapping[str, Any] | None = None,
    figures: tuple[str, ...] = (),
    template: Path = CARDS / "miniature.md.j2",
) -> ModelCard:
    """Render a card. `training` is training.json, `funnel` funnel.json, `figures` the names below assets/."""
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"percent": percent, "number": number, "p_value": p_value}
    text = environment.from_string(template.read_text(encoding="utf-8")).render(
        card_data=card_data(facts, report).to_yaml(),
        facts=facts,
        report=report,
        comparison=report and report.comparison(TUNED),
        others=_others(report),
        training=training,
        funnel=funnel,
        grid="grid.png" in figures,
        win_rates="win_rates.png" in figures,
    )
    return ModelCard(text)


def write_card(
    evaluation: str | Path | None, out: str | Path, *, checkpoint: str | Path | None = None, facts: Facts | None = None
) -> Path:
    """Write the card `out` (a README.md) and, in assets/ beside it, the figures it shows; return its path.

    `evaluation` is a report folder; with None, or where it holds the funnel only, the card says that nothing is
    claimed. The training facts are those of the report's tuned arm, or of `checkpoint` if given. Raises
    EvaluationError if the folder holds no report, or none about an arm called "tuned".
    """
    out = Path(out)
    report, funnel = (None, None) if evaluation is None else _measured(Path(evaluation))
    training = report.training.get(TUNED) if report else None
    out.parent.mkdir(parents=True, exist_ok=True)
    card = render(
        facts or read_facts(),
        report=report,
        training=training if checkpoint is None else _json(Path(checkpoint) / "training.json"),
        funnel=funnel,
        figures=_copy_figures(Path(evaluation), out.parent / "assets") if report else (),
    )
    out.write_text(str(card), encoding="utf-8")
    return out


def _measured(folder: Path) -> tuple[Report | None, dict[str, Any] | None]:
    """Return what report.json and funnel.json of a report folder say; either may be missing, not both."""
    funnel = _json(folder / FUNNEL)
    report = None if funnel is not None and not (folder / REPORT).is_file() else read_report(folder)
    if report is not None and not any(_is_main(comparison) for comparison in report.comparisons):
        arms = ", ".join(report.checkpoints)
        raise EvaluationError(f'{folder} does not compare "{TUNED}" with "{BASE}"; it holds {arms}')
    return report, funnel


def _result(facts: Facts, report: Report, aspect: AspectResult) -> EvalResult:
    return EvalResult(
        task_type="text-to-image",
        dataset_type=facts.prompts_dataset,
        dataset_name=f"{len(report.prompts)} prompts of the miniature world, {len(report.seeds)} seeds",
        metric_type="win_rate",
        metric_name=f"{aspect.aspect}: win rate over the base, ties half, "
        f"95% [{aspect.win_rate.low:.3f}, {aspect.win_rate.high:.3f}]",
        metric_value=round(aspect.win_rate.value, 4),
    )


def _others(report: Report | None) -> list[Comparison]:
    return [] if report is None else [found for found in report.comparisons if not _is_main(found)]


def _is_main(comparison: Comparison) -> bool:
    return (comparison.arm, comparison.opponent) == (TUNED, BASE)


def _copy_figures(evaluation: Path, assets: Path) -> tuple[str, ...]:
    found = tuple(name for name in FIGURES if (evaluation / "figures" / name).is_file())
    assets.mkdir(parents=True, exist_ok=True)
    for name in found:
        shutil.copyfile(evaluation / "figures" / name, assets / name)
    return found


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
