"""A side's pictures as a set: held against real pictures, and against those that the tuned one was trained on.

Real pictures are a folder of picture files, a frozen data set, or fresh excellent ones of the miniature's world.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import galleries, memorisation
from alchemist_hub.evaluation.distances import NEIGHBOURS, frechet_interval, manifold_intervals
from alchemist_hub.evaluation.features import Features, embed_all
from alchemist_hub.evaluation.galleries import Gallery
from alchemist_hub.evaluation.pixels import open_picture
from alchemist_hub.evaluation.progress import watched
from alchemist_hub.evaluation.results import Copies
from alchemist_hub.evaluation.votes import Interval
from curation.errors import CurationError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FOLDER = "memorisation"
WORLD, WORLD_SEED, WORLD_COUNT = "miniature", 102, 1000  # a seed that no pool, builder or benchmark draws from

Load = Callable[[], Features]


class Reference:
    """Real pictures that every side is held against; they are looked at once, when the first side is."""

    def __init__(self, load: Load, gallery: Gallery) -> None:
        self._load = load
        self._gallery = gallery

    def measure(self, paths: Sequence[Path], prompts: Sequence[str]) -> dict[str, Interval]:
        """Return Frechet distance, precision, recall, density and coverage with intervals over prompts."""
        fake_MD = embed_all(self._features, galleries.of_files(paths).pictures())
        units_M = np.asarray(prompts)
        return {
            f"FD-{self._features.name}": frechet_interval(self._real_ND, fake_MD, units_M),
            **manifold_intervals(self._real_ND, fake_MD, units_M),
        }

    @cached_property
    def _features(self) -> Features:
        return self._load()

    @cached_property
    def _real_ND(self) -> np.ndarray:
        return embed_all(self._features, self._gallery.pictures())


class TrainingData:
    """The pictures that the tuned one was trained on."""

    def __init__(self, load: Load, gallery: Gallery, name: str) -> None:
        self._load = load
        self._gallery = gallery
        self._name = name

    def copies(self, arm: str, paths: Sequence[Path], out: Path) -> Copies:
        """Look for an arm's pictures that are copies; every pair is written to out/memorisation."""
        features = self._load()
        found = memorisation.check(features, galleries.of_files(paths), self._gallery, out / FOLDER)
        return Copies(
            arm=arm,
            training_data=self._name,
            features=features.name,
            generated=found.generated,
            training=found.training,
            threshold=found.threshold,
            flagged=found.flagged,
            expected=found.expected,
        )


def gallery(source: str, option: str) -> Gallery:
    """Return the pictures of a folder, a frozen data set or the `miniature`; a broken file costs itself only.

    Raises EvaluationError, naming the option, if there is no such folder or it holds too few.
    """
    if source == WORLD:
        return galleries.of_world(WORLD_COUNT, seed=WORLD_SEED)
    folder = Path(source)
    if not folder.is_dir():
        raise EvaluationError(f"{option} {source} does not exist; expected a folder of pictures or a frozen data set")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    try:
        found = galleries.of_files(_readable(paths, option)) if paths else galleries.of_data_set(folder)
    except CurationError as error:
        raise EvaluationError(f"{option} {source} holds neither pictures nor a frozen data set") from error
    if len(found.names) <= NEIGHBOURS:
        raise EvaluationError(f"{option} {source} holds {len(found.names)} pictures; {NEIGHBOURS + 1} are the least")
    return found


def _readable(paths: Sequence[Path], option: str) -> list[Path]:
    """Return the files that are pictures to their end; better now than after hours of painting."""
    found = []
    with watched(f"pictures of {option}", len(paths)) as advance:
        for path in paths:
            with suppress(EvaluationError):
                open_picture(path)
                found.append(path)
            advance(1)
    return found
