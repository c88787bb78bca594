"""The claim: the side-by-side statistics err as seldom as they say, where the usual ways do not.

    python benchmarks/error_rates.py [--repetitions 10000] [--boards 2000]

Casts votes whose truth is known: prompts differ, votes on one prompt are alike, a fifth are ties. Measures how often
intervals cover, tests find what is not there, and a board that is looked at after every vote is ever wrong; beside
each, what is commonly done instead. Also times the update of a board. Writes `error_rates-DATE.json` and `.md` beside
this file.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np

from alchemist_hub.evaluation import anytime, power, votes
from alchemist_hub.evaluation.simulation import ErrorRate, Population, evidence_along, rate_of, sign_test_along
from alchemist_hub.evaluation.standing import Ballots, standings

SEED = 20
TIES, CORRELATION = 0.2, 0.3
SIZES = ((50, 1), (50, 4), (100, 3), (200, 2))  # prompts, votes a prompt
RATES = (0.5, 0.7, 0.9)
LOOKS = 2000  # votes, after each of which a board is looked at
PROMPTS = 100  # in the list of a board
ROWS = 12  # of a board
IN_A_ROW = 20  # votes on one prompt, where a board is fed prompt by prompt
ENOUGH = np.log(20)
VOTES_OF_AN_UPDATE = 10_000
OURS, OVER_VOTES, PERCENTILE = "ours", "over votes", "percentile bootstrap"
OURS_MAJORITIES, OURS_INTERVAL = "sign test on majorities", "interval without one half"


def over_votes(cast_PS: np.ndarray) -> np.ndarray:
    """Return the votes as if each were on a prompt of its own."""
    return cast_PS.reshape(-1, 1)


def percentile_bootstrap(cast_PS: np.ndarray, rng: np.random.Generator) -> votes.Interval:
    """Return the plain percentile interval over prompts, the textbook's."""
    sums_P = cast_PS.sum(axis=1)
    drawn_RP = rng.multinomial(len(sums_P), np.full(len(sums_P), 1 / len(sums_P)), size=1000)
    return votes.interval(cast_PS.mean(), drawn_RP @ sums_P / cast_PS.size)


def covered(truth: float, cast_TPS: np.ndarray, method: Callable[[np.ndarray], votes.Interval]) -> ErrorRate:
    found = [method(cast_PS) for cast_PS in cast_TPS]
    return rate_of([interval.low <= truth <= interval.high for interval in found])


def coverage(repetitions: int) -> list[dict[str, Any]]:
    """Return how often 95% intervals of a win rate hold the truth."""
    rng, rows = np.random.default_rng(SEED), []
    for prompts, per_prompt in SIZES:
        for rate in RATES:
            population = Population(rate=rate, correlation=CORRELATION, ties=TIES)
            cast, truth = population.votes(rng, repetitions, prompts, per_prompt), population.mean
            found = {
                OURS: covered(truth, cast, votes.share),
                PERCENTILE: covered(truth, cast[: repetitions // 10], lambda one: percentile_bootstrap(one, rng)),
                OVER_VOTES: covered(truth, cast, lambda one: votes.share(over_votes(one))),
            }
            rows.append({"prompts": prompts, "votes a prompt": per_prompt, "rate": rate, **told(found)})
    return rows


def false_positives(repetitions: int) -> list[dict[str, Any]]:
    """Return how often an even race is called decided at 5%."""
    rng, rows = np.random.default_rng(SEED), []
    for prompts, per_prompt in SIZES:
        cast = Population(rate=0.5, correlation=CORRELATION, ties=TIES).votes(rng, repetitions, prompts, per_prompt)
        inside = covered(0.5, cast, votes.share)
        found = {
            OURS_MAJORITIES: rate_of([votes.sign_test(one) < 0.05 for one in cast]),
            OURS_INTERVAL: ErrorRate(hits=inside.trials - inside.hits, trials=inside.trials),
            OVER_VOTES: rate_of([votes.sign_test(over_votes(one)) < 0.05 for one in cast]),
        }
        rows.append({"prompts": prompts, "votes a prompt": per_prompt, **told(found)})
    return rows


def ever(evidence_TN: np.ndarray, threshold: float = ENOUGH) -> ErrorRate:
    return rate_of(evidence_TN.max(axis=1) >= threshold)


def peeking(boards: int) -> dict[str, Any]:
    """Return how often a board is wrong at some moment of its first `LOOKS` votes."""
    rng, found = np.random.default_rng(SEED), {}
    for rate, ties in ((0.5, 0.0), (0.65, TIES), (0.9, 0.0)):
        population = Population(rate=rate, correlation=CORRELATION, ties=ties)
        rates_P = population.prompts(rng, (PROMPTS,))
        truth = rates_P.mean() * (1 - ties) + ties / 2
        cast = population.stream(rng, rates_P, boards, LOOKS)
        found[f"anytime-valid interval, win rate {rate}, ties {ties:.0%}"] = ever(evidence_along(cast, truth))
    even = Population(rate=0.5, correlation=CORRELATION).stream(rng, np.full(PROMPTS, 0.5), boards, LOOKS)
    p_values = sign_test_along(even)
    found["exact test, looked at once, at the end"] = rate_of(p_values[:, -1] < 0.05)
    found["exact test, looked at after every vote"] = rate_of(p_values.min(axis=1) < 0.05)
    cast = Population(rate=0.5, correlation=CORRELATION).stream(rng, np.full(PROMPTS, 0.5), 500 * ROWS, LOOKS // 2)
    peaks = evidence_along(cast, 0.5).max(axis=1).reshape(-1, ROWS).max(axis=1)
    found[f"any of {ROWS} rows, {LOOKS // 2:,} votes each, error divided among them"] = rate_of(
        peaks >= np.log(ROWS / 0.05)
    )
    found[f"any of {ROWS} rows, {LOOKS // 2:,} votes each, each at 5%"] = rate_of(peaks >= ENOUGH)
    cast = Population(rate=0.6, correlation=CORRELATION).votes(rng, boards, LOOKS // IN_A_ROW, IN_A_ROW)
    means = evidence_along(cast.mean(axis=2), 0.6, anytime.cluster_values(IN_A_ROW))
    found[f"prompts asked {IN_A_ROW} times in a row, votes"] = ever(evidence_along(cast.reshape(boards, -1), 0.6))
    found[f"prompts asked {IN_A_ROW} times in a row, means of prompts"] = ever(means)
    return told(found)


def price(boards: int) -> list[dict[str, Any]]:
    """Return how many decisive votes verdicts take, for true win rates."""
    rng, rows = np.random.default_rng(SEED), []
    for rate, length in ((0.55, 4000), (0.6, 1200), (0.7, 400)):
        cast = Population(rate=rate, correlation=CORRELATION).stream(rng, np.full(PROMPTS, rate), boards // 4, length)
        decided_TN = np.maximum.accumulate(evidence_along(cast, 0.5), axis=1) >= ENOUGH
        moments_T = np.where(decided_TN[:, -1], decided_TN.argmax(axis=1) + 1, length)
        half, most = np.quantile(moments_T, [0.5, power.POWER], method="higher")
        planned = power.decisive_needed(rate)
        rows.append({"rate": rate, "once": planned, "anytime half": int(half), "anytime 80%": int(most)})
    return rows


def told(found: dict[str, ErrorRate]) -> dict[str, dict[str, int]]:
    return {name: asdict(rate) for name, rate in found.items()}


def seconds(work: Callable[[], object]) -> float:
    """Return the fastest of ten: what the work takes when nothing else runs."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def update_times() -> dict[str, float]:
    """Return the seconds of a board's update over 10,000 votes: one row from its votes, 24 rows from their counts."""
    rng = np.random.default_rng(SEED)
    cast = rng.choice(anytime.BALLOT, VOTES_OF_AN_UPDATE)
    board = {("model", str(row)): Ballots(ours=int(w), theirs=400, tie=80) for row, w in enumerate(range(380, 500, 5))}
    return {
        "one row": seconds(lambda: anytime.intervals([anytime.count_votes(cast)])),
        f"{len(board)} rows": seconds(lambda: standings(board)),
    }


def shown(cell: dict[str, int]) -> str:
    rate = ErrorRate(**cell)
    return f"{rate.value:.1%} ± {rate.margin(rate.value) / 3:.1%}"


def table(rows: list[dict[str, Any]], head: tuple[str, ...], rates: tuple[str, ...]) -> list[str]:
    cells = [[*(str(row[name]) for name in head), *(shown(row[name]) for name in rates)] for row in rows]
    return [
        f"| {' | '.join((*head, *rates))} |",
        "|---" * (len(head) + len(rates)) + "|",
        *(f"| {' | '.join(row)} |" for row in cells),
        "",
    ]


def markdown(figures: dict[str, Any]) -> str:
    """Return the tables that people read."""
    lines = [
        f"# Error rates of the side-by-side statistics, {figures['date']}",
        "",
        f"{figures['repetitions']:,} repetitions a cell (a tenth for the percentile bootstrap), {figures['boards']:,} "
        "boards; ± is the Monte Carlo standard error. Prompts differ: two decisive votes on one prompt correlate by "
        f"{CORRELATION}; {TIES:.0%} ties.",
        "",
        "## Coverage of 95% intervals of a win rate",
        "",
        *table(figures["coverage"], ("prompts", "votes a prompt", "rate"), (OURS, PERCENTILE, OVER_VOTES)),
        "## False positives at 5%, even race",
        "",
        *table(
            figures["false positives"],
            ("prompts", "votes a prompt"),
            (OURS_MAJORITIES, OURS_INTERVAL, OVER_VOTES),
        ),
        f"## Ever wrong in {LOOKS:,} votes, looked at after every one, at 5%",
        "",
        "| board | ever wrong |",
        "|---|---|",
        *(f"| {name} | {shown(cell)} |" for name, cell in figures["peeking"].items()),
        "",
        "## Decisive votes until a verdict",
        "",
        "| true win rate | planned, looked at once, 80% power | live board, half are decided by | 80% by |",
        "|---|---|---|---|",
        *(
            f"| {row['rate']:.0%} | {row['once']} | {row['anytime half']} | {row['anytime 80%']} |"
            for row in figures["price"]
        ),
        "",
        f"Updating one row from {VOTES_OF_AN_UPDATE:,} votes takes {figures['seconds']['one row'] * 1000:.1f} ms, a "
        f"board of 24 rows from its counts {figures['seconds']['24 rows'] * 1000:.0f} ms (fastest of ten, "
        f"{os.cpu_count()} cores shared with other work).",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=10_000)
    parser.add_argument("--boards", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the results")
    arguments = parser.parse_args()
    figures = {
        "date": date.today().isoformat(),
        "repetitions": arguments.repetitions,
        "boards": arguments.boards,
        "coverage": coverage(arguments.repetitions),
        "false positives": false_positives(arguments.repetitions),
        "peeking": peeking(arguments.boards),
        "price": price(arguments.boards),
        "seconds": update_times(),
    }
    stem = arguments.out / f"error_rates-{figures['date']}"
    stem.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    stem.with_suffix(".md").write_text(markdown(figures))
    print(markdown(figures))


if __name__ == "__main__":
    main()
