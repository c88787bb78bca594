"""From what was asked for on the command line to a plan: defaults, what this machine has, what has to be left out."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import prompts as prompt_sets
from alchemist_hub.evaluation.distances import GROUPS, NEIGHBOURS
from alchemist_hub.evaluation.features import FEATURES, features
from alchemist_hub.evaluation.generate import ALL, DTYPES, EXACT, Share
from alchemist_hub.evaluation.judges import JudgeNetwork
from alchemist_hub.evaluation.measures import Measure, ScorerMeasure, WorldJudge
from alchemist_hub.evaluation.prompts import MINIATURE, PromptSet
from alchemist_hub.evaluation.report import Plan, evaluate
from alchemist_hub.evaluation.results import Report
from alchemist_hub.evaluation.scorers import SCORERS, scorer
from alchemist_hub.evaluation.sets import Reference, TrainingData, gallery
from alchemist_hub.evaluation.sides import Contest, contest
from alchemist_hub.miniature import weights as miniature_weights
from alchemist_hub.models import MODELS
from alchemist_hub.training.hardware import launched_processes
from alchemist_hub.training.sharding import new_accelerator

JUDGE, PROJECT, MINIATURE_KEY = "judge", "project", "mini"
WORLD_FEATURES, USUAL_FEATURES = "miniature-judge", "dinov2"  # sets are measured with
# Of real models unless others are named: relevance, preference, beauty, complexity. Those without weights are left out.
USUAL = ("clip-score", "pickscore", "hpsv2.1", "image-reward", "aesthetic", "complexity")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An evaluation as people ask for it; None is whatever is usual for these models on this machine."""

    base: str = "mini"
    tuned: str | None = None
    arms: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    prompts: str | None = None
    count: int | None = None
    seeds: int = 1
    metrics: tuple[str, ...] | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    training_data: str | None = None
    features: str | None = None
    steps: int | None = None
    guidance: float | None = None
    batch: int = 8
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class Taken:
    """The measures that can be taken, and why others cannot."""

    measures: tuple[Measure, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def run(asked: Asked, out: Path) -> Report | None:
    """Make the plan and carry it out in one process, or in all those that a launcher started.

    Returns the report in the first process, None in the others. Raises EvaluationError or ModelError.
    """
    accelerator = new_accelerator() if launched_processes() > 1 else None
    share = ALL if accelerator is None else _share(accelerator)
    device = _device(asked.device, accelerator)
    with _first_alone(accelerator):  # the others find in the cache what it downloads
        plan = make_plan(asked, device, judging=share.index == 0)
    report = evaluate(plan, out, share=share)
    if accelerator is not None:
        accelerator.end_training()
    return report


def make_plan(asked: Asked, device: str, *, judging: bool = True) -> Plan:
    """Return the plan of what was asked; without `judging` it is for painting only.

    Raises EvaluationError for names that are unknown and for a measure that was asked for and cannot be taken,
    ModelError for a checkpoint that cannot be read.
    """
    who = contest(
        asked.base,
        asked.tuned,
        arms=asked.arms,
        against=asked.against,
        steps=asked.steps,
        guidance=asked.guidance,
    )
    world = who.key == MINIATURE_KEY
    prompts = prompt_sets.load(asked.prompts or (MINIATURE if world else PROJECT), asked.count)
    taken = take(asked, prompts, device, world=world) if judging else Taken()
    plan = Plan(
        contest=who,
        prompts=prompts,
        seeds=tuple(range(asked.seeds)),
        measures=taken.measures,
        left_out=taken.left_out,
        title=_title(who),
        device=device,
        dtype=_dtype(asked.dtype, device),
        batch=asked.batch,
    )
    return _with_sets(plan, asked, world=world) if judging else plan


def _with_sets(plan: Plan, asked: Asked, *, world: bool) -> Plan:
    """Return the plan with what its pictures are to be held against as sets."""
    name = asked.features or (WORLD_FEATURES if world else USUAL_FEATURES)
    load = partial(features, name, device=plan.device, weights=asked.weights.get(name))
    if asked.reference is not None or asked.training_data is not None:
        load()  # seen at once whether it can be
    if asked.reference is not None:
        _enough(len(plan.prompts.prompts), asked.seeds)
        real = gallery(asked.reference, "--reference")
        called = f"{len(real.names)} pictures of {_name(asked.reference)}"
        plan = replace(plan, set_measure=Reference(load, real).measure, reference=called)
    if asked.training_data is not None:
        shown = TrainingData(load, gallery(asked.training_data, "--training-data"), _name(asked.training_data))
        plan = replace(plan, copy_check=shown.copies)
    return plan


def take(asked: Asked, prompts: PromptSet, device: str, *, world: bool) -> Taken:
    """Return the measures asked for, or the usual ones as far as they can be taken. Raises EvaluationError."""
    usual = (JUDGE,) if world and prompts.source.name == MINIATURE else USUAL
    names = usual if asked.metrics is None else asked.metrics
    known = (JUDGE, *SCORERS)
    weighed = [name for name in asked.weights if name not in FEATURES]
    if unknown := [name for name in (*names, *weighed) if name not in known]:
        raise EvaluationError(f"unknown measure {', '.join(unknown)}; there are {', '.join(known)}")
    measures, left_out = [], {}
    for name in dict.fromkeys(names):
        try:
            measures.append(_measure(name, device, asked.weights.get(name)))
        except ModelError as error:
            if asked.metrics is not None or name in asked.weights:
                raise
            left_out[name] = str(error)
    if not measures:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise EvaluationError(f"nothing to judge by: {reasons or '--metrics names none'}")
    return Taken(measures=tuple(measures), left_out=left_out)


def _measure(name: str, device: str, weights: str | None) -> Measure:
    if name == JUDGE:
        return WorldJudge(JudgeNetwork.load(weights or miniature_weights() / "judge"))
    return ScorerMeasure(lambda where: scorer(name, device=where, weights=weights), device, SCORERS[name].says)


def _enough(prompts: int, seeds: int) -> None:
    """Raise EvaluationError if the pictures are too few for neighbours, also where an interval leaves some out."""
    if (prompts - -(-prompts // GROUPS)) * seeds <= NEIGHBOURS:
        raise EvaluationError(
            f"--reference compares sets, and {prompts} x {seeds} pictures are none: ask for {2 * NEIGHBOURS} or more"
        )


def _name(source: str) -> str:
    """Return what to call a data set in a report: the end of its path, which tells nothing of this machine."""
    path = Path(source).resolve()
    return path.parent.name if path.name == "dataset" else path.name


def _title(who: Contest) -> str:
    name = MODELS[who.key].name if who.key else "Base and tuned"
    return f"{name}: {', '.join(side.name for side in who.sides)}, side by side"


def _device(asked: str | None, accelerator: Accelerator | None) -> str:
    """Return the device of this process. Raises EvaluationError for one that is not there."""
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator is not None and asked in (None, accelerator.device.type):
        return "cpu" if accelerator.device.type == "cpu" else str(accelerator.device)  # accelerate says cpu:0
    try:
        device = torch.device(asked or usual)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        reason = str(error).strip().splitlines()[0]
        raise EvaluationError(f"--device {asked} cannot be used: {reason}; here there is {usual}") from error
    return str(device)


def _dtype(asked: str | None, device: str) -> str:
    if asked is not None and asked not in DTYPES:
        raise EvaluationError(f"--dtype {asked} is unknown: expected {', '.join(DTYPES)}")
    return asked or (EXACT if device == "cpu" else "bfloat16")


def _share(accelerator: Accelerator) -> Share:
    return Share(index=accelerator.process_index, of=accelerator.num_processes, wait=accelerator.wait_for_everyone)


def _first_alone(accelerator: Accelerator | None) -> AbstractContextManager[None]:
    return nullcontext() if accelerator is None else accelerator.main_process_first()
