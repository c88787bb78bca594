"""The whole promise at small scale: pool, funnel, data set, fine-tune, comparison, card. Every part is the real one.

OUT/pool/             captioned pictures as the web has them; the truth about them is beside it, unseen by the funnel
OUT/run/              the ledger of the funnel; OUT/run/dataset: what it kept
OUT/tuned/            the fine-tune; OUT/tuned/pipeline: its checkpoint
OUT/report/           base against tuned, and the funnel against the truth
OUT/card/README.md    the checkpoint's card
"""

from pathlib import Path

from rich.console import Console

from alchemist_hub.errors import WorldError
from alchemist_hub.miniature import weights, world

# Seeds of their own, so that nothing here was seen by a builder of the shipped models, nor by a benchmark.
POOL_SEED, PROMPT_SEED = 100, 101
POOL = 4200  # files
PROMPTS = 120


def run_demo(
    out: Path, *, models: Path | None = None, pool: int = POOL, prompts: int = PROMPTS, steps: int | None = None
) -> Path:
    """Run the chain in `out` and return the report folder; what an earlier run finished is not done again.

    `models`: the folder of the miniature's models (the shipped one unless given); `pool` files, `prompts` for the
    comparison, `steps` of training (the miniature recipe's unless given). Raises
    HubError or CurationError if `out` cannot be written or holds another run.
    """
    from alchemist_hub.evaluation.funnel import funnel_report
    from alchemist_hub.evaluation.judges import JudgeNetwork
    from alchemist_hub.evaluation.measures import WorldJudge
    from alchemist_hub.evaluation.prompts import miniature as prompts_of_the_world
    from alchemist_hub.evaluation.report import Plan, evaluate
    from alchemist_hub.evaluation.sides import Contest, Side
    from alchemist_hub.publishing.cards import write_model_card
    from alchemist_hub.sampling import hide_loading_bars
    from alchemist_hub.training.loop import train
    from alchemist_hub.training.recipes import miniature as training_recipe
    from curation.cli import curate
    from curation.recipes import miniature as curation_recipe

    hide_loading_bars()
    models = models or weights()
    console = Console(highlight=False)
    console.rule("1 of 5: a pool like the web's", align="left")
    truth = make_pool(out / "pool", pool)
    console.print(f"{pool:,} files in {out / 'pool'}")
    console.rule("2 of 5: the funnel", align="left")
    data = curate(curation_recipe(models), str(out / "pool"), out / "run")
    if data is None:
        raise WorldError(f"nothing of {out / 'pool'} passed the funnel; see: alchemist curate funnel {out / 'run'}")
    funnel_report(out / "run", truth, out / "report", pool=out / "pool")
    console.rule("3 of 5: fine-tune on what it kept", align="left")
    recipe = training_recipe() if steps is None else training_recipe(steps=steps)
    tuned = train(recipe, base=models / "base", data=data, out=out / "tuned")
    console.rule("4 of 5: base and tuned, same prompts and seeds", align="left")
    plan = Plan(
        contest=Contest.between(Side.of("base", models / "base"), Side.of("tuned", tuned)),
        prompts=prompts_of_the_world(prompts, seed=PROMPT_SEED),
        seeds=(0,),
        measures=(WorldJudge(JudgeNetwork.load(models / "judge")),),
    )
    evaluate(plan, out / "report")
    console.rule("5 of 5: the card", align="left")
    card = write_model_card("mini", tuned, out / "card", report=out / "report")
    console.print(
        f"data set     {data}\ncheckpoint   {tuned}\nreport       {out / 'report' / 'report.html'}\ncard         {card}"
    )
    return out / "report"


def make_pool(folder: Path, count: int) -> Path:
    """Write the demo's pool unless it is there, and return its truth file. Raises WorldError for another pool."""
    truth = world.truth_file(folder)
    if not truth.exists():
        world.write_pool(folder, seed=POOL_SEED, count=count)
    found = sum(1 for _ in folder.glob("*.jpg"))
    if found != count:
        raise WorldError(f"{folder} holds {found} pictures where the pool has {count}; remove it or name another --out")
    return truth
