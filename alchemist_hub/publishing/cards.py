"""Model cards: typed facts and measured results in, a card that the Hub reads out. The prose lives in model_cards/.

OUT/README.md                         the card, with `model-index` in its metadata
OUT/.eval_results/side-by-side.yaml   the same results in the Hub's newer form
OUT/assets/                           the pictures that the card shows

Numbers come from the evaluation's report and from training.json; a card without an evaluation says so.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.figures import BEFORE_AFTER, before_after_name
from alchemist_hub.evaluation.generate import checkpoint_id
from alchemist_hub.evaluation.pages import FUNNEL
from alchemist_hub.evaluation.results import BASE, REPORT, Comparison, Report, read_report
from alchemist_hub.models import ModelSpec, local_folder, model
from alchemist_hub.publishing.facts import ORGANISATION, ModelFacts, read_model_facts, render
from alchemist_hub.publishing.measured import (
    PAIR_FILES,
    RESULTS,
    TUNED,
    Pair,
    Training,
    copy_pairs,
    copy_picture,
    eval_results,
    model_index,
    read_training,
)

CARD = "README.md"
SHEET = "assets/samples.png"
WIN_RATES = "assets/win_rates.png"
FIGURE = Path("figures") / "win_rates.png"  # in a report folder


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured and painted; paths relative to the card."""

    training: Training | None = None
    report: Report | None = None
    funnel: dict[str, Any] | None = None  # funnel.json: a run held against known truth
    pairs: tuple[Pair, ...] = ()
    sheet: str | None = None  # one picture of base and tuned side by side
    win_rates: str | None = None
    before_after: tuple[str, ...] = ()  # base and tuned against a reference opponent, a figure each


def write_model_card(
    key: str,
    checkpoint_folder: str | Path | None,
    out_folder: str | Path,
    report: str | Path | None = None,
    samples: str | Path | None = None,
    *,
    organisation: str = ORGANISATION,
    prompts_dataset: str | None = None,
) -> Path:
    """Write the card of a model key's checkpoint, with everything it shows, to `out_folder`; return the README.md.

    `report` is a report folder with an arm called "tuned"; with None, or where it holds the funnel only, the card says
    that nothing is claimed. `samples` is a sheet as `alchemist sample --beside` paints it. Without a
    `checkpoint_folder` (a pipeline or run folder) the training facts are those that the report recorded.
    `prompts_dataset` is the Hub data set of the report's prompts; without one, here or in the facts, there is no
    `.eval_results`, whose entries belong to a data set. What an earlier card left is replaced. Raises EvaluationError
    if the report is missing, of another checkpoint or of another comparison, and ModelError for an unknown key or a
    folder that holds no pipeline.
    """
    spec, facts = model(key), read_model_facts(key).published_by(organisation)
    facts = replace(facts, prompts_dataset=prompts_dataset or facts.prompts_dataset)
    out = Path(out_folder)
    checkpoint = None if checkpoint_folder is None else local_folder(checkpoint_folder)
    measured, funnel = (None, None) if report is None else _measured(Path(report), checkpoint)
    training = read_training(checkpoint) if checkpoint else _recorded(measured)
    sheet = None if samples is None else Path(samples)
    out.mkdir(parents=True, exist_ok=True)
    evidence = Evidence(
        training=training,
        report=measured,
        funnel=funnel,
        pairs=copy_pairs(measured, Path(report), out) if measured else (),
        sheet=_shown(sheet, out, SHEET),
        win_rates=_shown(Path(report) / FIGURE if measured else None, out, WIN_RATES),
        before_after=_before_after(measured, Path(report), out) if measured else (),
    )
    text = str(model_card(spec, facts, evidence))
    (out / CARD).write_text(text, encoding="utf-8")
    _write_results(out / RESULTS, measured, facts.prompts_dataset)
    _remove_stale(out, text)
    return out / CARD


def model_card(spec: ModelSpec, facts: ModelFacts, evidence: Evidence) -> ModelCard:
    """Return a card that holds only what `evidence` and `facts` hold."""
    report = evidence.report
    context = {
        "card_data": card_data(spec, facts, report).to_yaml(),
        "spec": spec,
        "facts": facts,
        "comparison": report and report.comparison(TUNED),
        "others": _others(report),
    }
    shown = {name: getattr(evidence, name) for name in Evidence.__dataclass_fields__}
    return ModelCard(render("model.md.j2", context | shown))


def card_data(spec: ModelSpec, facts: ModelFacts, report: Report | None) -> ModelCardData:
    """Return the card's metadata, with `model-index` results where there is a report."""
    results = {} if report is None else {"eval_results": model_index(report, facts.prompts_dataset)}
    return ModelCardData(
        license=spec.licence,
        license_name=spec.licence_name,
        license_link=spec.licence_link,
        language=facts.language,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        base_model=facts.base_model,
        base_model_relation="finetune",
        datasets=facts.datasets or None,
        tags=facts.tags,
        model_name=facts.name if results else None,
        **results,
    )


def _measured(folder: Path, checkpoint: Path | None) -> tuple[Report | None, dict[str, Any] | None]:
    """Return what report.json and funnel.json of a report folder say; either may be missing, not both."""
    funnel = json.loads((folder / FUNNEL).read_text(encoding="utf-8")) if (folder / FUNNEL).is_file() else None
    if funnel is not None and not (folder / REPORT).is_file():
        return None, funnel
    report = read_report(folder)
    if not any(_is_main(comparison) for comparison in report.comparisons):
        arms = ", ".join(report.checkpoints)
        raise EvaluationError(f'{folder} does not compare "{TUNED}" with "{BASE}"; it holds {arms}')
    if checkpoint is not None and (found := checkpoint_id(checkpoint)) != report.checkpoints[TUNED]:
        raise EvaluationError(
            f"{folder} is about the checkpoint {report.checkpoints[TUNED]}, {checkpoint} is {found}: evaluate it first"
        )
    return report, funnel


def _recorded(report: Report | None) -> Training | None:
    record = report.training.get(TUNED) if report else None
    return None if record is None else Training.of(record)


def _others(report: Report | None) -> list[Comparison]:
    return [] if report is None else [found for found in report.comparisons if not _is_main(found)]


def _is_main(comparison: Comparison) -> bool:
    return (comparison.arm, comparison.opponent) == (TUNED, BASE)


def _shown(source: Path | None, out: Path, place: str) -> str | None:
    """Copy a picture to its place beside the card; a figure that a report lacks is not shown."""
    if source is None or (place == WIN_RATES and not source.is_file()):
        return None
    copy_picture(source, out / place)
    return place


def _before_after(report: Report, folder: Path, out: Path) -> tuple[str, ...]:
    figures = [folder / "figures" / before_after_name(opponent) for opponent in report.opponents]
    for path in (found := [path for path in figures if path.is_file()]):
        copy_picture(path, out / "assets" / path.name)
    return tuple(f"assets/{path.name}" for path in found)


def _write_results(path: Path, report: Report | None, prompts_dataset: str | None) -> None:
    if report and prompts_dataset:
        path.parent.mkdir(exist_ok=True)
        path.write_text(eval_results(report, prompts_dataset), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def _remove_stale(out: Path, text: str) -> None:
    """Remove the pictures of an earlier card that this one no longer shows; whatever else lies there is not ours."""
    for pattern in (*PAIR_FILES, SHEET, WIN_RATES, f"assets/{BEFORE_AFTER}"):
        for path in out.glob(pattern):
            if f"]({path.relative_to(out).as_posix()})" not in text:
                path.unlink()
