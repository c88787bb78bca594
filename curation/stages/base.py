"""What a judge is: a `Stage` scores samples batch by batch, a `Reduction` judges the whole set at once.

Neither deletes a row. Both get an arrow table and return the same rows, in the same order, with their own columns
added. A sample's verdict is derived later, from the score columns and the recipe's rules.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one worker of a stage needs. Neighbouring stages with equal resources run fused in one worker."""

    cpu: float = 1.0
    gpu: float = 0.0  # share of one, where there is one; where there is none, the stage runs without
    batch: int = 64  # rows per call


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Keep a sample while `column` `op` `threshold` holds; a null score drops it as "not scored"."""

    column: str
    op: str  # one of OPS
    threshold: float | bool
    reason: str  # shown to people: "unsafe content", "near-duplicate of a better picture"
    of_pool: bool = False  # threshold is a share of the pool, (0,1]; the engine turns it into a count when a run starts


OPS: dict[str, str] = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq"}


class Judge(ABC):
    """The part stages and reductions share: a name, a version, what they read and what they add."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[pa.Schema]

    def config(self) -> dict[str, Any]:
        """Everything that changes the scores, as JSON values: part of the shard id and of the saved recipe.

        A model named by a local folder is given by a hash of its files, so that new weights mean new shards.
        """
        return {}

    @abstractmethod
    def __call__(self, table: pa.Table) -> pa.Table:
        """Return `table`, same rows and order, with the columns of `writes` added."""


class Stage(Judge):
    """Judges samples one at a time, in batches of at most `resources.batch` rows.

    Its input holds the columns of `curation.records.SAMPLE` (image bytes among them) and whatever earlier stages of
    the same segment added. `reads` names "image" where a stage needs pixels in colour, "gray" where reduced gray will
    do (`curation.images.decode_gray_table`), at a fraction of the cost. Rows whose `status` is not "ok" get null
    scores. An instance is pickled to its worker before `open`, so models are loaded in `open`, never in `__init__`.
    """

    resources: ClassVar[Resources] = Resources()

    def open(self) -> None:
        """Load what is needed, once per worker."""


class Reduction(Judge):
    """Judges the whole set at once: a barrier in a recipe.

    Its input holds one row for every sample that the verdicts so far kept, ordered by `img_key`, with the columns of
    `reads` (scores from the ledger, never image bytes).
    """

    def open(self, read_image: Callable[[str], bytes]) -> None:
        """Receive `read_image(img_key) -> image bytes`: the way back to the pixels of the few that need them."""
