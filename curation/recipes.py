"""Complete recipes: the miniature's, and the paper's at full scale. Each number says whose it is: (paper) or (ours).

Both score quality before they look for near-duplicates, so that the best of each cluster is known, and apply its
threshold at once: a cluster whose best fails it would be lost either way, and there is less to compare.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from curation.errors import RecipeError
from curation.plan import Outline, Recipe, Segment, Step
from curation.stages.base import Rule

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
TOP = 3350  # best impact first (paper); its variants are 7,000 and 19,000

SAFETY_MODEL = "Falconsai/nsfw_image_detection"  # (ours), like the models below
ESTIMATOR_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
CAPTION_MODEL = "Qwen/Qwen2.5-VL-3B-Instruct"


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
    return _funnel(
        "miniature",
        {name: str(folder / name) for name in names},
        folder / "estimator.json",
        area=area,
        unsafe=unsafe,
        defect=defect,
        own_limits=MINIATURE_DEFECTS,
        iqa_rule=Rule(column="iqa", op=">=", threshold=iqa, reason="quality too low"),
        top_rule=_top_rule(share, of_pool=True) if top is None else _top_rule(top),
    )


def alchemist(models: str | Path, *, top: int = TOP) -> Recipe:
    """Return the paper's funnel. `models` holds what has no public default: defects/, iqa/ and estimator.json.

    safety/, base/ and captioner/ below it, where present, take the place of the public models named above; base/ may be
    any pipeline that the estimator reads, and estimator.json is the calibration of it. Raises RecipeError if one is
    missing.
    """
    folder = Path(models)
    public = {"safety": SAFETY_MODEL, "base": ESTIMATOR_MODEL, "captioner": CAPTION_MODEL}
    missing = [name for name in ("defects", "iqa", "estimator.json") if not (folder / name).exists()]
    if missing:
        raise RecipeError(f"the recipe alchemist needs {', '.join(missing)} in its folder of models, {folder}")
    local = {name: str(folder / name) for name in ("defects", "iqa", *public) if (folder / name).is_dir()}
    return _funnel(
        "alchemist",
        public | local,
        folder / "estimator.json",
        area=AREA,
        unsafe=UNSAFE,
        defect=DEFECT,
        own_limits={},
        iqa_rule=Rule(column="iqa", op=">", threshold=IQA, reason="quality too low"),
        top_rule=_top_rule(top),
    )


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


def _funnel(
    name: str,
    models: dict[str, str],
    calibration: Path,
    *,
    area: int,
    unsafe: float,
    defect: float,
    own_limits: dict[str, float],
    iqa_rule: Rule,
    top_rule: Rule,
) -> Recipe:
    from curation.stages.defects import Defects
    from curation.stages.duplicates import Duplicates
    from curation.stages.fingerprint import Fingerprint
    from curation.stages.impact import Impact
    from curation.stages.iqa import Iqa
    from curation.stages.recaption import Recaption
    from curation.stages.resolution import Resolution
    from curation.stages.safety import Safety
    from curation.stages.top import Top

    defects = Defects(models["defects"])
    limits = dict.fromkeys(_each_defect(defects), defect) | own_limits
    too_small = Rule(column="area", op=">=", threshold=area, reason="too small")
    not_safe = Rule(column="unsafe", op="<", threshold=unsafe, reason="unsafe content")
    keeper = Rule(column="is_keeper", op="==", threshold=True, reason="near-duplicate of a better picture")
    return Recipe(
        name=name,
        steps=(
            Step(judge=Resolution(), rules=(too_small,)),
            Step(judge=Safety(models["safety"]), rules=(not_safe,)),
            Step(judge=defects, rules=tuple(_defect_rule(column, limit) for column, limit in limits.items())),
            Step(judge=Iqa(models["iqa"]), rules=(iqa_rule,)),
            Step(judge=Fingerprint()),
            Step(judge=Duplicates(), rules=(keeper,)),
            Step(judge=Impact(models["base"], calibration)),
            Step(judge=Top(), rules=(top_rule,)),
            Step(judge=Recaption(models["captioner"])),
        ),
    )


def _each_defect(defects: "Stage") -> list[str]:
    return [column for column in defects.writes.names if column != "defect_max"]


def _defect_rule(column: str, limit: float) -> Rule:
    return Rule(column=column, op="<", threshold=limit, reason=column.removeprefix("defect_").replace("_", " "))


def _top_rule(count: float, *, of_pool: bool = False) -> Rule:
    return Rule(column="impact_rank", op="<=", threshold=count, of_pool=of_pool, reason="not among the best")
