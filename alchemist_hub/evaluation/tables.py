"""The numbers of a report as CSV, one row a fact, for spreadsheets and other programs.

comparisons.csv   one row per comparison and aspect
means.csv         one row per arm and aspect
sets.csv          one row per arm and measure of its pictures as a set, where any was taken
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from alchemist_hub.evaluation.results import Comparison, Report
from alchemist_hub.evaluation.votes import Interval, Tally


def write(report: Report, folder: Path) -> None:
    """Write the tables of a report into `folder`; a table without rows is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "comparisons.csv": [row for comparison in report.comparisons for row in _compared(comparison)],
        "means.csv": list(_means(report.comparisons)),
        "sets.csv": [
            {"arm": arm, "measure": name, **_interval("value", value)}
            for arm, measures in report.sets.items()
            for name, value in measures.items()
        ],
    }
    for name, rows in found.items():
        _write_table(rows, folder / name)


def _compared(comparison: Comparison) -> Iterator[dict[str, Any]]:
    for result in comparison.aspects:
        yield {
            "arm": comparison.arm,
            "opponent": comparison.opponent,
            "aspect": result.aspect,
            "higher_is_better": result.higher_is_better,
            **_interval("win_rate", result.win_rate),
            **_interval("difference", result.difference),
            **_tally("pictures", result.votes),
            **_tally("prompts", result.prompts),
            "p": result.p,
            "p_holm": result.p_holm,
            "verdict": result.verdict,
        }


def _means(comparisons: Sequence[Comparison]) -> Iterator[dict[str, Any]]:
    seen = set()
    for comparison in comparisons:
        for result in comparison.aspects:
            for arm, mean in ((comparison.arm, result.mean), (comparison.opponent, result.opponent_mean)):
                if (arm, result.aspect) not in seen:
                    seen.add((arm, result.aspect))
                    yield {"arm": arm, "aspect": result.aspect, "unit": result.unit, **_interval("mean", mean)}


def _interval(name: str, found: Interval) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def _tally(name: str, found: Tally) -> dict[str, int]:
    return {f"{name}_won": found.wins, f"{name}_tied": found.ties, f"{name}_lost": found.losses}


def _write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    if not rows:
        path.unlink(missing_ok=True)
        return
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)
