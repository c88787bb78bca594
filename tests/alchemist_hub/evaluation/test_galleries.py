"""Sets of pictures by place, and what the measures of sets say of the miniature's."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import distances, galleries
from alchemist_hub.evaluation.features import embed_all, features


def test_files_are_opened_when_looked_at_upright_and_in_rgb(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("L", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    found = galleries.of_files([tmp_path / "a.jpg", tmp_path / "missing.png"])
    picture = found.picture(0)
    assert (picture.size, picture.mode, found.names[0]) == ((20, 30), "RGB", "a.jpg")
    with pytest.raises(EvaluationError, match="missing.png is no picture"):
        list(found.pictures())


def test_the_world_renders_the_same_pictures_again_and_mirrors_them():
    found = galleries.of_world(3, seed=5)
    once, again, mirrored = list(found.pictures()), list(found.pictures()), list(found.pictures(mirrored=True))
    for one, two, turned in zip(once, again, mirrored, strict=True):
        assert np.array_equal(one, two) and np.array_equal(np.asarray(one)[:, ::-1], turned)
    assert not np.array_equal(once[0], once[1])


def test_fresh_excellent_pictures_are_nearer_to_excellent_ones_than_the_raw_pool_is():
    judge = features("miniature-judge")

    def embedded(seed: int, count: int, tier: str | None = "excellent") -> np.ndarray:
        return embed_all(judge, galleries.of_world(count, seed=seed, tier=tier).pictures())

    real, fresh, pool = embedded(1, 300), embedded(2, 100), embedded(3, 100, tier=None)
    further = distances.frechet_difference(real, pool, fresh, np.arange(100))
    assert further.above(0)
    told = [distances.precision_recall_density_coverage(real, fake) for fake in (fresh, pool)]
    assert told[0].precision > told[1].precision + 0.2 and told[0].coverage > told[1].coverage + 0.2
