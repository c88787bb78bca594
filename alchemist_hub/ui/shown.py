"""The curation run that the Funnel tab shows, and the models that a visitor's picture is judged by."""

from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from alchemist_hub.miniature import shipped_run, weights
from curation.judge import Jury, jury_of
from curation.review import Review

JUDGES_NOTICE = (
    "<b>These judges grew up in the miniature's drawn world of 64 pixels.</b> They have never seen a photograph: what "
    "they say about one shows how the funnel works, not how good the photograph is."
)


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """A run and the models it was made with; both are read when first asked for."""

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


def shown_run(run: Path | None = None, models: Path | None = None) -> ShownRun:
    """Return the run of the folder `run`, judged by `models`: the shipped ones unless given.

    Raises LedgerError where `run` is no run that judged anything.
    """
    notice = JUDGES_NOTICE if models is None else ""
    shown = ShownRun(folder=run or shipped_run(), models=models or weights(), notice=notice)
    if run is not None:
        shown.review()
    return shown
