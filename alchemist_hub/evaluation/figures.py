"""The figures of a report folder, drawn from what the report and its pictures hold.

side_by_side.png           pairs under their prompts and a bar per aspect, as in the paper's Figure 3
win_rates.png              every comparison with the base or among the tuned, as in Figure 4
before_after_OPPONENT.png  base and tuned against a reference opponent, as in Figure 5
grid.png                   more prompts, every arm
"""

import re
from pathlib import Path

from PIL import Image

from alchemist_hub.evaluation import plots, plots_wins
from alchemist_hub.evaluation.generate import Settings, folder_name, picture_name
from alchemist_hub.evaluation.pixels import open_picture
from alchemist_hub.evaluation.plots_wins import Painted
from alchemist_hub.evaluation.results import BASE, TUNED, Comparison, Report

GRID_PROMPTS, PAIRS = 12, 4
SIDE_BY_SIDE, WIN_RATES, GRID = "side_by_side.png", "win_rates.png", "grid.png"
BEFORE_AFTER = "before_after_*.png"  # the opponent's name for the star


def draw(report: Report, pictures: Path, folder: Path) -> None:
    """Draw a report's figures into `folder`; `pictures` is where its pictures are. Those of an older run go."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(BEFORE_AFTER):
        old.unlink()
    main = report.comparisons[0]
    pairs = [_pair(report, pictures, main, text) for text in shown(report, PAIRS)]
    plots_wins.side_by_side(pairs, main, folder / SIDE_BY_SIDE)
    plots_wins.win_rates(own_comparisons(report), folder / WIN_RATES)
    for opponent in report.opponents:
        plots_wins.before_after(
            report.comparison(BASE, opponent), report.comparison(TUNED, opponent), folder / before_after_name(opponent)
        )
    prompts = shown(report, GRID_PROMPTS)
    rows = [[_picture(report, pictures, arm, text) for arm in report.checkpoints] for text in prompts]
    plots.picture_grid(rows, prompts, list(report.checkpoints), folder / GRID)


def shown(report: Report, count: int) -> list[str]:
    """Return `count` prompts evenly over all of the report's: which are shown is not chosen by how they came out."""
    count = min(count, len(report.prompts))
    return [report.prompts[place * len(report.prompts) // count] for place in range(count)]


def own_comparisons(report: Report) -> list[Comparison]:
    """Return the comparisons without a reference opponent; all, if there is no other."""
    own = [found for found in report.comparisons if found.opponent not in report.opponents]
    return own or list(report.comparisons)


def before_after_name(opponent: str) -> str:
    """Return the file name of the figure against an opponent."""
    return BEFORE_AFTER.replace("*", re.sub(r"[^A-Za-z0-9.-]+", "-", opponent))


def picture_path(report: Report, pictures: Path, arm: str, prompt: str, seed: int) -> Path:
    """Return where the picture of an arm lies below the folder of pictures."""
    sampling = report.sampling(arm)
    settings = Settings(seeds=report.seeds, steps=sampling.steps, guidance=sampling.guidance, dtype=sampling.dtype)
    return pictures / folder_name(report.checkpoints[arm], settings) / picture_name(prompt, seed)


def _pair(report: Report, pictures: Path, comparison: Comparison, prompt: str) -> Painted:
    opponent, ours = (_picture(report, pictures, arm, prompt) for arm in (comparison.opponent, comparison.arm))
    return Painted(prompt=prompt, opponent=opponent, ours=ours)


def _picture(report: Report, pictures: Path, arm: str, prompt: str) -> Image.Image:
    return open_picture(picture_path(report, pictures, arm, prompt, report.seeds[0]))
