"""Sets of pictures that are looked at one at a time: files, a frozen data set, freshly rendered ones."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from alchemist_hub.evaluation.pixels import open_picture
from alchemist_hub.miniature.world import draw_sample
from curation import dataset


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures by place: what they are called, and how to get one."""

    names: Sequence[str]
    picture: Callable[[int], Image.Image]

    def pictures(self, *, mirrored: bool = False) -> Iterator[Image.Image]:
        """Yield every picture, or its mirror image."""
        for place in range(len(self.names)):
            picture = self.picture(place)
            yield ImageOps.mirror(picture) if mirrored else picture


def of_files(paths: Sequence[Path]) -> Gallery:
    """Return picture files, called by their file names; looking at one that is none raises EvaluationError."""
    return Gallery(names=[path.name for path in paths], picture=lambda place: open_picture(paths[place]))


def of_data_set(folder: str | Path) -> Gallery:
    """Return the pictures of a frozen data set, called by their keys. Raises CurationError if there is none."""
    rows = dataset.read(folder)
    return Gallery(names=list(rows["img_key"]), picture=lambda place: rows[place]["image"].convert("RGB"))


def of_world(count: int, *, seed: int, tier: str | None = "excellent", size: int = 64) -> Gallery:
    """Return pictures of the miniature's world, rendered when looked at: what its models are compared with.

    A seed that no pool was drawn from gives pictures that nothing was trained on.
    """
    return Gallery(
        names=[f"{tier or 'pool'}-{seed}-{index}" for index in range(count)],
        picture=lambda place: Image.fromarray(draw_sample(seed, place, size=size, tier=tier).image),
    )
