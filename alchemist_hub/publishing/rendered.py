"""The cards as they are published, kept for readers of the project: `python -m alchemist_hub.publishing.rendered`.

model_cards/measured/       what the cards tell that templates and facts do not
    mini/                   a report of the shipped miniature, with no more pictures than its card shows
    miniature-dataset.json  a run of the miniature's funnel and what it froze
model_cards/rendered/       a folder per card: the six models, the miniature's data set

With --report or --run, what was measured is taken anew from a report or run folder first.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from datasets import Features

from alchemist_hub.evaluation.generate import Settings, folder_name, picture_name
from alchemist_hub.evaluation.report import PICTURES
from alchemist_hub.evaluation.results import REPORT, read_report
from alchemist_hub.models import MODELS, model
from alchemist_hub.publishing.cards import CARD, FIGURE, write_model_card
from alchemist_hub.publishing.dataset_card import Configuration, Evidence, Passage, dataset_card, evidence_of
from alchemist_hub.publishing.facts import CARDS, read_dataset_facts
from alchemist_hub.publishing.measured import PAIRS
from curation import dataset

MEASURED, RENDERED = CARDS / "measured", CARDS / "rendered"
DATASET = "miniature-dataset"


def render_all(out: Path, measured: Path) -> None:
    """Write every card to a folder of its own below `out`, replacing what an earlier rendering left."""
    for key in MODELS:
        shipped = model(key).tuned if key == "mini" else None
        write_model_card(key, shipped, out / key, measured / key if (measured / key).is_dir() else None)
    evidence = read_evidence(measured / f"{DATASET}.json")
    facts = read_dataset_facts(evidence.described["recipe"]["name"])
    (out / DATASET).mkdir(parents=True, exist_ok=True)
    (out / DATASET / CARD).write_text(str(dataset_card(facts, evidence)), encoding="utf-8")


def keep_report(report: Path, out: Path) -> None:
    """Copy of a report folder what a card shows of it. Raises EvaluationError where it is none."""
    found = read_report(report)
    settings = Settings(seeds=found.seeds, steps=found.steps, guidance=found.guidance)
    shown = [
        Path(PICTURES) / folder_name(weights, settings) / picture_name(prompt, found.seeds[0])
        for weights in found.checkpoints.values()
        for prompt in found.prompts[:PAIRS]
    ]
    shutil.rmtree(out, ignore_errors=True)
    for path in (Path(REPORT), FIGURE, *shown):
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(report / path, out / path)


def keep_run(run: Path, out: Path) -> None:
    """Write to the file `out` what the card of a run's frozen data set tells. Raises LedgerError, EvaluationError."""
    with tempfile.TemporaryDirectory() as folder:
        urls = Path(folder) / "urls.parquet"
        dataset.write_urls(run, urls)
        evidence = evidence_of(run / "dataset", run, urls=urls)
    configurations = [asdict(replace(each, features=each.features.to_dict())) for each in evidence.configurations]
    told = {"described": evidence.described, "passages": [asdict(each) for each in evidence.passages]}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(told | {"configurations": configurations}, indent=1) + "\n", encoding="utf-8")


def read_evidence(path: Path) -> Evidence:
    """Read what `keep_run` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return Evidence(
        described=found["described"],
        passages=[Passage(**each) for each in found["passages"]],
        configurations=[
            Configuration(**each | {"features": Features.from_dict(each["features"])})
            for each in found["configurations"]
        ],
    )


def main() -> None:
    """Read the command line, keep what is measured, render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="of the shipped miniature: `alchemist evaluate --out REPORT`")
    parser.add_argument("--run", type=Path, help="of the miniature's funnel: OUT/run of `alchemist demo`")
    asked = parser.parse_args()
    if asked.report:
        keep_report(asked.report, MEASURED / "mini")
    if asked.run:
        keep_run(asked.run, MEASURED / f"{DATASET}.json")
    render_all(RENDERED, MEASURED)


if __name__ == "__main__":
    main()
