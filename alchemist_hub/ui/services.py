"""What the page needs from the rest of the project, handed in so that tests and other Spaces can hand in their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from alchemist_hub.models import ModelSpec, model
from alchemist_hub.sampling import Pair, load_pair
from alchemist_hub.voting.ballots import Booth


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
class Services:
    """Everything behind the page. The first pair is the one that is open at the start."""

    pairs: Mapping[str, PairLoader]
    votes: Booth | None = None  # None: no vote is held here
    reports: Sequence[Path] = ()  # folders of evaluations that the page shows

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("the page needs at least one pair")


MINIATURE_NOTICE = (
    "<b>This is the miniature</b>: a text-to-image model of 64 pixels that lives in a small drawn world and runs on "
    "any laptop. Its pictures are shown enlarged. It shows how the method works, not what the large models can do."
)

VOTED_PROMPTS, VOTED_SEED = 100, 6  # the fixed list that visitors vote on; not the evaluation's


def default_services() -> Services:
    """Return the services of the app as shipped: the miniature's pair, a vote on it, its evaluation. Loads no model.

    Raises VoteError where votes cannot be kept.
    """
    from alchemist_hub.miniature import weights
    from alchemist_hub.miniature.world import VOCABULARY, prompts
    from alchemist_hub.ui.booth import open_booth

    miniature = PairLoader(spec=model("mini"), notice=MINIATURE_NOTICE, vocabulary=frozenset(VOCABULARY))
    return Services(
        pairs={miniature.spec.key: miniature},
        votes=open_booth(miniature, [prompt.text for prompt in prompts(VOTED_PROMPTS, seed=VOTED_SEED)]),
        reports=[weights() / "report"],
    )
