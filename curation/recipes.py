"""Complete recipes: the miniature's, and the paper's at full scale. Each number says whose it is: (paper) or (ours).

Both score quality before they look for near-duplicates, so that the best of each cluster is known, and apply its
threshold at once: a cluster whose best fails it would be lost either way, and there is less to compare.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from curation.errors import RecipeError
from curation.plan import Outline, Recipe, Segment, Step
from curation.stages.base import Resources, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from curation.stages.base import Stage

    LabelledPictures = tuple[Sequence[np.ndarray], np.ndarray]

__all__ = ["Outline", "Recipe", "Segment", "Step", "alchemist", "calibrate_miniature", "miniature"]

# The miniature, (ours): chosen on pools that no reported figure is taken from.
MINIATURE_AREA = 32 * 32  # pixels: half the side of a picture of the pool
MINIATURE_UNSAFE = 0.05  # probability, kept below
MINIATURE_DEFECT = 0.2  # probability of any one defect, kept below
MINIATURE_DEFECTS: dict[str, float] = {"defect_watermark": 0.03}  # column -> limit of its own
MINIATURE_IQA = 0.7  # kept from
MINIATURE_SHARE = 0.04  # of the pool, best impact first

# The paper's.
AREA = 1024 * 1024  # pixels, kept from (paper)
UNSAFE = 0.5  # (ours)
DEFECT = 0.5  # (ours)
IQA = 0.71  # TOPIQ, no reference, kept above (paper)
TOP = 3350  # best impact first (paper)
VARIANTS = {"alchemist": TOP, "alchemist-7k": 7_000, "alchemist-19k": 19_000}  # the sizes it compares (paper)

# What turns a file away before any network sees it, (ours): beyond what a photograph that is worth keeping may be.
HOPELESS = (
    # Blocks show at any size; the web's photographs are saved at 75 and more.
    Rule(column="jpeg_quality", op=">=", threshold=30, reason="compressed beyond repair"),
    # Bits. Eight gray levels, equally used, are 3: icons and blank pages have less, a picture of fog has 5.
    Rule(column="entropy", op=">=", threshold=3.0, reason="almost nothing to see"),
    # A subject cut out on white may clip three quarters of its picture, and snow or a night a third.
    Rule(column="clipped", op="<=", threshold=0.9, reason="almost all black or white"),
    # More than the bars around a wide picture in a narrow frame; a cloudless sky may look like a border for a third.
    Rule(column="border", op="<=", threshold=0.4, reason="mostly border"),
)
NETWORKS = Resources(batch=32)  # other than the default, so that what needs no network is a segment of its own

SAFETY_MODEL = "Falconsai/nsfw_image_detection"  # (ours), like the models below
ESTIMATOR_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CAPTION_MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"
TOPIQ = "topiq.safetensors"  # in the folder of models


def miniature(
    models: str | Path,
    *,
    area: int = MINIATURE_AREA,
    unsafe: float = MINIATURE_UNSAFE,
    defect: float = MINIATURE_DEFECT,
    iqa: float = MINIATURE_IQA,
    share: float = MINIATURE_SHARE,
    top: int | None = None,
) -> Recipe:
    """Return the funnel of the miniature, with the models of the folder `models`; everything runs on a laptop.

    `top`: how many samples to keep; unless given, the best `share` of the pool. Raises RecipeError if a model or the
    estimator's calibration is missing.
    """
    folder = Path(models)
    names = ("safety", "defects", "iqa", "base", "captioner")
    found = {name: str(folder / name) for name in names}
    from curation.stages.fingerprint import Fingerprint
    from curation.stages.iqa import Iqa
    from curation.stages.safety import Safety

    networks = (
        Step(judge=Safety(found["safety"]), rules=(_safe_rule(unsafe),)),
        _defects_step(found["defects"], defect, MINIATURE_DEFECTS),
        Step(
            judge=Iqa(found["iqa"]), rules=(Rule(column="iqa", op=">=", threshold=iqa, reason="quality too low"),)
        ),
    )
    top_rule = _top_rule(share, of_pool=True) if top is None else _top_rule(top)
    steps = (_resolution_step(area), *networks, Step(judge=Fingerprint()), *_ranking(found, folder, top_rule))
    return Recipe(name="miniature", steps=steps)


def alchemist(models: str | Path, *, top: int = TOP) -> Recipe:
    """Return the paper's funnel. `models` holds what has no public default.

    These are defects/, the judge of quality (topiq.safetensors, see `curation.stages.topiq`, or iqa/, a regressor of
    transformers) and estimator.json, the calibration of base/. safety/, base/ and captioner/ below it, where present,
    take the place of the public models named above; base/ may be any pipeline that the estimator reads. What needs no
    network is the first segment. Raises RecipeError if a model is missing.
    """
    folder = Path(models)
    public = {"safety": SAFETY_MODEL, "base": ESTIMATOR_MODEL, "captioner": CAPTION_MODEL}
    _demand_models(folder)
    found = public | {name: str(folder / name) for name in ("defects", *public) if (folder / name).is_dir()}
    from curation.stages.fingerprint import Fingerprint
    from curation.stages.safety import WEB_LABELS, Safety
    from curation.stages.signals import Signals

    networks = (
        Step(judge=Safety(found["safety"], labels=WEB_LABELS, resources=NETWORKS), rules=(_safe_rule(UNSAFE),)),
        _defects_step(found["defects"], DEFECT, {}, resources=NETWORKS),
        Step(judge=_quality(folder), rules=(Rule(column="iqa", op=">", threshold=IQA, reason="quality too low"),)),
    )
    light = (_resolution_step(AREA), Step(judge=Signals(), rules=HOPELESS), Step(judge=Fingerprint()))
    return Recipe(name="alchemist", steps=(*light, *networks, *_ranking(found, folder, _top_rule(top))))


def calibrate_miniature(
    base: str | Path, out: Path, *, calibration: "LabelledPictures", held_out: "LabelledPictures"
) -> None:
    """Calibrate the miniature's estimator on one set of labelled pictures, measure it on another, save it to `out`.

    A set is uint8 pictures (H,W,3) and whether each is good (B,). Raises CalibrationError for labels of one kind.
    """
    import torch
    from diffusers import StableDiffusionPipeline
    from rich.progress import Progress

    from curation.estimator.controls import Labelled, build_estimator
    from curation.estimator.keywords import MINIATURE

    pipe = StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32, safety_checker=None)
    with Progress() as bars:
        bar = bars.add_task("calibrating the estimator", total=None)
        build_estimator(
            pipe,
            out,
            calibration=Labelled(images=calibration[0], labels_B=calibration[1]),
            held_out=Labelled(images=held_out[0], labels_B=held_out[1]),
            family=MINIATURE,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )


def _demand_models(folder: Path) -> None:
    missing = [name for name in ("defects", "estimator.json") if not (folder / name).exists()]
    judges = [name for name in (TOPIQ, "iqa") if (folder / name).exists()]
    if not judges:
        missing.insert(1, f"{TOPIQ} or iqa")
    if missing:
        raise RecipeError(f"the recipe alchemist needs {', '.join(missing)} in its folder of models, {folder}")
    if len(judges) > 1:
        raise RecipeError(f"{folder} holds {TOPIQ} and iqa: two judges of quality; keep the one that is to be used")


def _quality(folder: Path) -> "Stage":
    from curation.stages.iqa import Iqa
    from curation.stages.topiq import Topiq

    if (folder / TOPIQ).exists():
        return Topiq(folder / TOPIQ, resources=NETWORKS)
    return Iqa(folder / "iqa", resources=NETWORKS)


def _resolution_step(area: int) -> Step:
    from curation.stages.resolution import Resolution

    return Step(judge=Resolution(), rules=(Rule(column="area", op=">=", threshold=area, reason="too small"),))


def _safe_rule(unsafe: float) -> Rule:
    return Rule(column="unsafe", op="<", threshold=unsafe, reason="unsafe content")


def _defects_step(
    model: str, limit: float, own_limits: dict[str, float], *, resources: Resources | None = None
) -> Step:
    from curation.stages.defects import Defects

    defects = Defects(model, resources=resources)
    limits = dict.fromkeys(_each_defect(defects), limit) | own_limits
    return Step(judge=defects, rules=tuple(_defect_rule(column, value) for column, value in limits.items()))


def _ranking(models: dict[str, str], folder: Path, top_rule: Rule) -> tuple[Step, ...]:
    """What follows the judges of single pictures in both funnels."""
    from curation.stages.duplicates import Duplicates
    from curation.stages.impact import Impact
    from curation.stages.landmarks import Landmarks
    from curation.stages.recaption import Recaption
    from curation.stages.top import Top

    keeper = Rule(column="is_keeper", op="==", threshold=True, reason="near-duplicate of a better picture")
    return (
        Step(judge=Landmarks()),
        Step(judge=Duplicates(), rules=(keeper,)),
        Step(judge=Impact(models["base"], folder / "estimator.json")),
        Step(judge=Top(), rules=(top_rule,)),
        Step(judge=Recaption(models["captioner"])),
    )


def _each_defect(defects: "Stage") -> list[str]:
    return [column for column in defects.writes.names if column != "defect_max"]


def _defect_rule(column: str, limit: float) -> Rule:
    return Rule(column=column, op="<", threshold=limit, reason=column.removeprefix("defect_").replace("_", " "))


def _top_rule(count: float, *, of_pool: bool = False) -> Rule:
    return Rule(column="impact_rank", op="<=", threshold=count, of_pool=of_pool, reason="not among the best")
