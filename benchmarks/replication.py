"""Which of the paper's claims hold on the miniature? The same fine-tune on pictures chosen in several ways.

From the candidates of one funnel run (what its estimator could choose from), as many as it kept are chosen at random,
by the best simple measure, by the estimator, and by the hidden truth (the ceiling); by the estimator also as many
times more as the paper's 7k and 19k variants have over its 3,350. All are recaptioned alike and trained alike, with
several training seeds. Prompts, sampling seeds and judge are the same for every arm. Writes replication-DATE.json,
.md and .png beside itself; rerun, it goes on with what is missing.

    python benchmarks/replication.py --run RUN --pool POOL [--seeds 3] [--prompts 200] [--work runs/replication]

Shape legend: N candidates, P prompts, S seeds.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import datetime
import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, Image, Value

from alchemist_hub import miniature, models, sampling
from alchemist_hub.evaluation import generate, plots_wins
from alchemist_hub.evaluation.aspects import ASPECTS, SHOWN
from alchemist_hub.evaluation.generate import Settings
from alchemist_hub.evaluation.judges import Judge, JudgeNetwork
from alchemist_hub.evaluation.measures import judge_pictures
from alchemist_hub.evaluation.pages import number, p_value, percent
from alchemist_hub.evaluation.progress import watched
from alchemist_hub.evaluation.results import BASE, AspectResult, Comparison, compare, write_json
from alchemist_hub.miniature.world import prompts, truth_file
from alchemist_hub.training import recipes
from alchemist_hub.training.loop import train
from benchmarks.simple_measures import best_simple_measure, simple_features
from curation import dataset
from curation.recipes import miniature as funnel_recipe

LARGER = {"estimator, 2.1 times": 7_000 / 3_350, "estimator, 5.7 times": 19_000 / 3_350}  # the paper's variants
ARMS = ("random", "simple", "estimator", *LARGER, "truth")
PAIRS = (
    *((arm, BASE) for arm in ("estimator", "random", "simple", *LARGER, "truth")),
    ("estimator", "random"),
    ("estimator", "simple"),
    *(("estimator", arm) for arm in LARGER),
    ("truth", "estimator"),
)
PROMPT_SEED = 50


def main() -> None:
    """Choose, train, paint, judge, compare, write."""
    options = arguments()
    sampling.hide_loading_bars()
    candidates = read_candidates(options.run, options.pool)
    count = int(candidates["kept"].sum())
    measure = best_simple_measure()
    candidates["simple"] = measure.score(candidates["features"].tolist())
    chosen = {(arm, seed): choose(candidates, arm, count, seed) for seed in range(options.seeds) for arm in ARMS}
    texts = recaptioned(candidates, sorted(set().union(*chosen.values())), options)
    checkpoints = {
        (arm, seed): trained(arm, seed, candidates, keys, texts, options) for (arm, seed), keys in chosen.items()
    }
    checkpoints |= {(BASE, seed): options.models / "base" for seed in range(options.seeds)}
    judge = JudgeNetwork.load(options.models / "judge")
    scores = {arm: scored(arm, checkpoints, judge, options) for arm in (BASE, *ARMS)}
    comparisons = compare(scores, PAIRS)
    write(
        {
            "prompts": options.prompts,
            "seeds": options.seeds,
            "candidates": len(candidates),
            "pictures_per_arm": count,
            "larger": [len(chosen[arm, 0]) for arm in LARGER],
            "training": recipes.miniature(**overrides(options)).to_dict(),
            "simple_measure": {"chosen": measure.name, "auc": measure.aucs},
            "arms": {arm: composition(candidates, [chosen[arm, s] for s in range(options.seeds)]) for arm in ARMS},
            "shown": {arm: {part: float(np.mean(scores[arm][f"shown_{part}"])) for part in SHOWN} for arm in scores},
            "comparisons": [asdict(comparison) for comparison in comparisons],
            "per_seed": {f"{arm} over {other}": per_seed(scores, arm, other, options.seeds) for arm, other in PAIRS},
        },
        comparisons,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="finished run of the miniature's funnel")
    parser.add_argument("--pool", type=Path, required=True, help="the folder it read, its truth beside it")
    parser.add_argument("--models", type=Path, default=miniature.weights(), help="folder with base, captioner, judge")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3, help="of training; each also paints with its own seed")
    parser.add_argument("--steps", type=int, help="of every arm's training; the recipe's own unless given")
    parser.add_argument("--work", type=Path, default=Path("runs/replication"), help="checkpoints and pictures")
    return parser.parse_args()


def overrides(options: argparse.Namespace) -> dict[str, int]:
    return {} if options.steps is None else {"steps": options.steps}


def read_candidates(run: Path, pool: Path) -> pd.DataFrame:
    """Return the samples that the estimator scored, by key, with truth, file bytes and simple features."""
    samples = dataset.scores(run).to_pandas()
    samples = samples[samples["impact"].notna()]
    truth = pq.read_table(truth_file(pool)).to_pandas().drop_duplicates("img_key")
    truth = truth[["img_key", "file", "tier", "complexity", "aesthetics"]]
    rows = samples[["img_key", "text", "impact", "kept"]].merge(truth, on="img_key", validate="one_to_one")
    rows["truth"] = (rows["complexity"] + rows["aesthetics"]) / 2
    rows["bytes"] = [(pool / file).read_bytes() for file in rows["file"]]
    rows["features"] = [simple_features(data) for data in rows["bytes"]]
    return rows.sort_values("img_key", ignore_index=True)


def choose(candidates: pd.DataFrame, arm: str, count: int, seed: int) -> tuple[str, ...]:
    """Return the keys an arm trains on, sorted; only the random choice depends on the seed."""
    if arm == "random":
        chosen = candidates.sample(count, random_state=seed)
    elif arm == "estimator":
        chosen = candidates[candidates["kept"]]
    elif arm in LARGER:
        chosen = candidates.nlargest(round(count * LARGER[arm]), "impact")
    else:
        chosen = candidates.nlargest(count, arm)
    return tuple(sorted(chosen["img_key"]))


def recaptioned(candidates: pd.DataFrame, keys: list[str], options: argparse.Namespace) -> dict[str, str]:
    """Return key -> prompt, by the funnel's own recaption stage; kept on disk, asked for what is missing."""
    path = options.work / "prompts.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    missing = candidates[candidates["img_key"].isin(set(keys) - set(known))]
    if len(missing):
        (stage,) = [step.judge for step in funnel_recipe(options.models).steps if step.judge.name == "recaption"]
        stage.open()
        with watched("prompts", len(missing)) as advance:
            for start in range(0, len(missing), stage.resources.batch):
                batch = missing[start : start + stage.resources.batch]
                told = stage(as_samples(batch))
                known |= dict(zip(batch["img_key"], told["prompt"].to_pylist(), strict=True))
                advance(len(batch))
        options.work.mkdir(parents=True, exist_ok=True)
        write_json(known, path)
    return known


def as_samples(rows: pd.DataFrame) -> pa.Table:
    """Return what a stage reads."""
    return pa.table(
        {
            "img_key": rows["img_key"].tolist(),
            "text": rows["text"].tolist(),
            "image": pa.array(rows["bytes"].tolist(), pa.binary()),
            "status": ["ok"] * len(rows),
        }
    )


def trained(
    arm: str,
    seed: int,
    candidates: pd.DataFrame,
    keys: tuple[str, ...],
    texts: Mapping[str, str],
    options: argparse.Namespace,
) -> Path:
    """Train one arm with one seed, or find it trained."""
    rows = candidates[candidates["img_key"].isin(keys)]
    slug = arm.replace(", ", "-").replace(" ", "-")
    data = options.work / "data" / (f"random-{seed}" if arm == "random" else slug)
    write_data(rows, texts, data)
    print(f"{arm}, seed {seed}: {len(rows)} pictures", flush=True)
    recipe = recipes.miniature(seed=seed, **overrides(options))
    run, cache = options.work / "runs" / f"{slug}-{seed}", options.work / "cache"
    return train(recipe, base=options.models / "base", data=data, out=run, cache=cache)


def write_data(rows: pd.DataFrame, texts: Mapping[str, str], folder: Path) -> None:
    """Write a data set that training reads, as `curation.dataset.freeze` would."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "img_key": rows["img_key"].tolist(),
        "prompt": [texts[key] for key in rows["img_key"]],
        "image": [{"bytes": data, "path": None} for data in rows["bytes"]],
    }
    features = Features({"img_key": Value("string"), "prompt": Value("string"), "image": Image()})
    part = folder / "train.part"
    Dataset.from_dict(columns, features=features).to_parquet(part)
    part.replace(folder / "train.parquet")


def scored(
    arm: str, checkpoints: Mapping[tuple[str, int], Path], judge: Judge, options: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Paint and judge an arm: seed s of the sampling with the checkpoint of training seed s. Columns are (P, S)."""
    spec, asked = models.model("mini"), prompts(options.prompts, seed=PROMPT_SEED)
    pictures = options.work / "pictures"
    columns: dict[str, list[np.ndarray]] = {}
    for seed in range(options.seeds):
        settings = Settings(seeds=(seed,), steps=spec.steps, guidance=spec.guidance)
        with watched(f"pictures of {arm}, seed {seed}", len(asked)) as advance:
            texts = [prompt.text for prompt in asked]
            index = generate.paint(checkpoints[arm, seed], texts, settings, pictures, on_done=advance)
        for name, values in judge_pictures(judge, [pictures / f for f in index["file"].to_pylist()], asked).items():
            columns.setdefault(name, []).append(values)
    return {name: np.stack(values, axis=1) for name, values in columns.items()}


def composition(candidates: pd.DataFrame, choices: list[tuple[str, ...]]) -> dict[str, float]:
    """Return what an arm's pictures truly are, over its seeds."""
    rows = pd.concat([candidates[candidates["img_key"].isin(keys)] for keys in choices])
    shares = {tier: float((rows["tier"] == tier).mean()) for tier in ("excellent", "good", "plain", "degraded")}
    return shares | {"complexity": float(rows["complexity"].mean()), "aesthetics": float(rows["aesthetics"].mean())}


def per_seed(scores: Mapping[str, dict[str, np.ndarray]], arm: str, other: str, seeds: int) -> dict[str, list[float]]:
    """Return aspect -> win rate of each training seed, for how much the seed matters."""
    rates: dict[str, list[float]] = {aspect.name: [] for aspect in ASPECTS}
    for seed in range(seeds):
        one = {name: {a.name: scores[name][a.name][:, [seed]] for a in ASPECTS} for name in (arm, other)}
        for result in compare(one, [(arm, other)])[0].aspects:
            rates[result.aspect].append(result.win_rate.value)
    return rates


def claims(comparisons: tuple[Comparison, ...]) -> dict[str, str]:
    """Return each claim of the paper, and ours about chance, with what the intervals allow to say of it here."""
    found = {(comparison.arm, comparison.opponent): comparison for comparison in comparisons}
    told = {}
    for name in ("aesthetics", "complexity"):
        told[f"fine-tuning on the chosen pictures raises {name}"] = rises(found["estimator", BASE].aspect(name))
    told["relevance does not move meaningfully"] = stays(found["estimator", BASE].aspect("relevance"))
    told["fidelity may drop a little (here: defects)"] = stays(found["estimator", BASE].aspect("defects"))
    for other, words in (("simple", "chosen by the best simple measure"), ("random", "chosen at random")):
        for name in ("aesthetics", "complexity"):
            told[f"{name}: more than from as many pictures {words}"] = rises(found["estimator", other].aspect(name))
    for arm in LARGER:
        for name in ("aesthetics", "complexity"):
            times = arm.removeprefix("estimator, ")
            told[f"{name}: more than from {times} as many, chosen alike"] = rises(found["estimator", arm].aspect(name))
    return told


def rises(result: AspectResult) -> str:
    """Return whether the interval of a win rate lies above one half, below, or on both sides."""
    if result.win_rate.above(0.5):
        return "holds" if result.verdict == "better" else "holds by its interval, not significant among all tests"
    return "does not hold: the contrary" if result.win_rate.high < 0.5 else "not shown: the interval includes 50%"


def stays(result: AspectResult) -> str:
    """Return how an aspect moved that was to stay where it is."""
    return {"not significant": "holds: no significant change", "better": "it improves", "worse": "it drops"}[
        result.verdict
    ]


def write(found: dict, comparisons: tuple[Comparison, ...]) -> None:
    """Write replication-DATE.json, .md and .png beside this file and print the markdown."""
    stem = Path(__file__).with_name(f"replication-{datetime.date.today()}")
    write_json(found | {"claims": claims(comparisons)}, stem.with_suffix(".json"))
    plots_wins.win_rates(comparisons, stem.with_suffix(".png"))
    text = markdown(found, comparisons, stem.with_suffix(".png").name)
    stem.with_suffix(".md").write_text(text)
    print(text)


def markdown(found: dict, comparisons: tuple[Comparison, ...], figure: str) -> str:
    """Return the results as a page."""
    lines = [
        "# The paper's experiment on the miniature",
        "",
        f"{found['pictures_per_arm']} pictures per arm (the two larger: {', '.join(map(str, found['larger']))}) of "
        f"{found['candidates']} candidates of the funnel's estimator; {found['training']['steps']} steps each, "
        f"{found['seeds']} training seeds, {found['prompts']} prompts.",
        f"Simple measure: {found['simple_measure']['chosen']}, the best by AUC on labelled pictures outside the pool.",
        "Truth (mean of true complexity and aesthetics) is the ceiling. Win rates count ties half; intervals are 95%",
        f"over prompts; p by majorities of prompts, Holm over all {len(comparisons) * len(ASPECTS)} tests.",
        "",
        "| claim | on the miniature |",
        "|---|---|",
        *(f"| {claim} | {verdict} |" for claim, verdict in claims(comparisons).items()),
        "",
        "| comparison | aspect | win rate | means | p (Holm) | verdict | by training seed |",
        "|---|---|---|---|---|---|---|",
        *(_row(found, comparison, result) for comparison in comparisons for result in comparison.aspects),
        "",
        f"![Win rates]({figure})",
        "",
        "What each arm's pictures truly are:",
        "",
        "| arm | excellent | good | plain | degraded | complexity | aesthetics |",
        "|---|---|---|---|---|---|---|",
        *(_composition_row(arm, parts) for arm, parts in found["arms"].items()),
        "",
        "What the generated pictures show, share right by the judge's first choice:",
        "",
        f"| arm | {' | '.join(SHOWN)} |",
        "|---|---|---|---|---|",
        *(f"| {arm} | {' | '.join(percent(parts[p]) for p in SHOWN)} |" for arm, parts in found["shown"].items()),
        "",
        "Simple measures, AUC of excellent or good against plain: "
        + ", ".join(f"{name} {number(value)}" for name, value in found["simple_measure"]["auc"].items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _row(found: dict, comparison: Comparison, result: AspectResult) -> str:
    win, name = result.win_rate, f"{comparison.arm} over {comparison.opponent}"
    seeds = ", ".join(percent(rate) for rate in found["per_seed"][name][result.aspect])
    return (
        f"| {name} | {result.aspect} | {percent(win.value)} [{percent(win.low)}, {percent(win.high)}] "
        f"| {number(result.mean.value, 3)} / {number(result.opponent_mean.value, 3)} | {p_value(result.p_holm)} "
        f"| {result.verdict} | {seeds} |"
    )


def _composition_row(arm: str, parts: dict[str, float]) -> str:
    shares = " | ".join(percent(parts[tier]) for tier in ("excellent", "good", "plain", "degraded"))
    return f"| {arm} | {shares} | {number(parts['complexity'])} | {number(parts['aesthetics'])} |"


if __name__ == "__main__":
    main()
