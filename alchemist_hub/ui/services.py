"""What the page needs from the rest of the project, handed in so that tests and other Spaces can hand in their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from alchemist_hub.models import ModelSpec, model
from alchemist_hub.sampling import Pair, load_pair
from curation.judge import Jury, jury_of
from curation.review import Review


@dataclass(frozen=True, kw_only=True)
class PairLoader:
    """One pair the page offers, loaded when it is first asked for."""

    spec: ModelSpec
    notice: str = ""  # shown above its pictures: what a visitor has to know to judge them fairly
    vocabulary: frozenset[str] = frozenset()  # the words it was trained on, lower case; empty = any
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)
    _loaded: list[Pair] = field(default_factory=list, init=False, repr=False, compare=False)

    def pair(self) -> Pair:
        """Return the pair, loading it once however many ask; raises `ModelError` when it cannot be loaded."""
        with self._lock:
            if not self._loaded:
                self._loaded.append(load_pair(self.spec.base, self.spec.tuned))
            return self._loaded[0]


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """The curation run of the Funnel tab, and the models it was made with; both are read when first asked for."""

    folder: Path
    models: Path
    notice: str = ""  # shown beside a visitor's own picture: what its judges have seen of the world
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)
    _opened: dict[str, Review | Jury] = field(default_factory=dict, init=False, repr=False, compare=False)

    def review(self) -> Review:
        """Return the run, read once; raises `LedgerError` where the folder is none."""
        with self._lock:
            if "review" not in self._opened:
                self._opened["review"] = Review(self.folder)
            return self._opened["review"]

    def jury(self) -> Jury:
        """Return its judges; raises `RecipeError` where the models are not those it was made with."""
        review = self.review()
        with self._lock:
            if "jury" not in self._opened:
                self._opened["jury"] = jury_of(review, self.models)
            return self._opened["jury"]


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything behind the page. The first pair is the one that is open at the start."""

    pairs: Mapping[str, PairLoader]
    funnel: ShownRun | None = None

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("the page needs at least one pair")


MINIATURE_NOTICE = (
    "<b>This is the miniature</b>: a text-to-image model of 64 pixels that lives in a small drawn world and runs on "
    "any laptop. Its pictures are shown enlarged. It shows how the method works, not what the large models can do."
)
JUDGES_NOTICE = (
    "<b>These judges grew up in the miniature's drawn world of 64 pixels.</b> They have never seen a photograph: what "
    "they say about one shows how the funnel works, not how good the photograph is."
)


def default_services(*, run: Path | None = None, models: Path | None = None) -> Services:
    """Return the services of the app as shipped: the miniature's pair and its run. Loads no model.

    `run`: another curation run for the Funnel tab; `models`: the folder of those it was made with.
    """
    from alchemist_hub.miniature import shipped_run, weights
    from alchemist_hub.miniature.world import VOCABULARY

    miniature = PairLoader(spec=model("mini"), notice=MINIATURE_NOTICE, vocabulary=frozenset(VOCABULARY))
    notice = JUDGES_NOTICE if models is None else ""
    shown = ShownRun(folder=run or shipped_run(), models=models or weights(), notice=notice)
    return Services(pairs={miniature.spec.key: miniature}, funnel=shown)
