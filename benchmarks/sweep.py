"""Which learning rate does the miniature's fine-tune want? The recipe at several rates, each against the base.

Every run trains on the data set of one funnel run, by the recipe but for its rate, and is judged on prompts that no
other figure uses. Writes sweep-DATE.json and .md beside itself; rerun, it goes on with what is missing.

    python benchmarks/sweep.py --data runs/demo/run/dataset [--prompts 100] [--work runs/sweep]
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import datetime
from typing import Any

from alchemist_hub import miniature, sampling
from alchemist_hub.evaluation.judges import JudgeNetwork
from alchemist_hub.evaluation.measures import WorldJudge
from alchemist_hub.evaluation.pages import percent
from alchemist_hub.evaluation.prompts import miniature as prompts
from alchemist_hub.evaluation.report import Plan, evaluate
from alchemist_hub.evaluation.results import Comparison, write_json
from alchemist_hub.evaluation.sides import Contest, Side
from alchemist_hub.training import recipes
from alchemist_hub.training.loop import train

RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)
PROMPT_SEED = 60


def main() -> None:
    """Train, paint, judge, write."""
    options = arguments()
    sampling.hide_loading_bars()
    base = miniature.weights() / "base"
    runs = {name(rate): trained(rate, base, options) for rate in RATES}
    plan = Plan(
        contest=Contest.between(Side.of("base", base), *(Side.of(rate, run) for rate, run in runs.items())),
        prompts=prompts(options.prompts, seed=PROMPT_SEED),
        seeds=(0,),
        measures=(WorldJudge(JudgeNetwork.load(miniature.weights() / "judge")),),
        title="Learning rates",
    )
    report = evaluate(plan, options.work / "report")
    write({comparison.arm: rates(comparison) for comparison in report.comparisons}, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="frozen data set of a run of the miniature's funnel")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--work", type=Path, default=Path("runs/sweep"), help="runs and pictures")
    return parser.parse_args()


def name(rate: float) -> str:
    return f"{rate:.0e}"


def trained(rate: float, base: Path, options: argparse.Namespace) -> Path:
    """Train at one rate, or find it trained."""
    print(f"learning rate {name(rate)}", flush=True)
    recipe = recipes.miniature(learning_rate=rate)
    return train(recipe, base=base, data=options.data, out=options.work / name(rate), cache=options.work / "cache")


def rates(comparison: Comparison) -> dict[str, Any]:
    """Return aspect -> win rate over the base and its interval."""
    return {
        result.aspect: {"win rate": result.win_rate.value, "low": result.win_rate.low, "high": result.win_rate.high}
        for result in comparison.aspects
    }


def write(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    """Write sweep-DATE.json and .md beside this file and print the markdown."""
    stem = Path(__file__).with_name(f"sweep-{datetime.date.today()}")
    shipped = recipes.miniature().learning_rate
    write_json({"prompts": options.prompts, "shipped": shipped, "rates": found}, stem.with_suffix(".json"))
    aspects = list(next(iter(found.values())))
    lines = [
        "# Learning rate of the miniature's fine-tune",
        "",
        f"Win rates over the base with 95% intervals, {options.prompts} prompts, one seed; everything else is the "
        f"recipe's, whose own rate is {name(shipped)}.",
        "",
        f"| rate | {' | '.join(aspects)} |",
        f"|---|{'---|' * len(aspects)}",
        *(
            f"| {rate} | "
            + " | ".join(
                f"{percent(row[aspect]['win rate'])} [{percent(row[aspect]['low'])}, {percent(row[aspect]['high'])}]"
                for aspect in aspects
            )
            + " |"
            for rate, row in found.items()
        ),
    ]
    text = "\n".join(lines) + "\n"
    stem.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
