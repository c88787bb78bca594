"""What the page needs from the rest of the project, handed in so that tests and other Spaces can hand in their own."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from alchemist_hub.errors import HubError
from alchemist_hub.miniature import weights
from alchemist_hub.models import MODELS, ModelSpec
from alchemist_hub.ui.machine import (
    GIB,
    Machine,
    downloaded_bytes,
    fits_whole,
    has_weights,
    host_bytes,
    local_pair,
    needs_card,
    obstacle,
    pair_bytes,
    this_machine,
)
from alchemist_hub.ui.painted import Painted
from alchemist_hub.ui.safety import CHECKER, Guard, has_guard, load_guard
from alchemist_hub.ui.shelf import Shelf
from alchemist_hub.ui.shown import ShownRun, shown_run
from alchemist_hub.ui.turns import Turns
from alchemist_hub.voting.ballots import Booth

if TYPE_CHECKING:  # seconds to import: the page is served before they are needed
    from alchemist_hub.sampling import Pair


@dataclass(frozen=True, kw_only=True)
class PairLoader:
    """One pair the page offers, loaded when it is first asked for."""

    spec: ModelSpec
    notice: str = ""  # shown above its pictures: what a visitor has to know to judge them fairly
    vocabulary: frozenset[str] = frozenset()  # the words it was trained on, lower case; empty = any
    blocked: str = ""  # why it cannot run here, in one sentence; "" if it can
    device: str = "cpu"
    offload: bool = False  # the card is too small for the whole pair
    safety: str = ""  # folder or repository of its safety filter; "" for none
    shelf: Shelf = field(default_factory=Shelf, repr=False, compare=False)
    filters: Shelf = field(default_factory=Shelf, repr=False, compare=False)  # few and small: all of them stay

    def pair(self) -> "Pair":
        """Return the pair, loading it once however many ask; raises `ModelError` when it cannot be loaded."""
        return self.shelf.take(self.spec.key, self._size, self._load)

    def guard(self) -> Guard | None:
        """Return the safety filter, None for a pair without one; raises `ModelError` when it cannot be loaded."""
        if not self.safety:
            return None
        return self.filters.take(self.safety, 0, lambda: load_guard(self.safety))

    @property
    def sources(self) -> tuple[str, ...]:
        """What decides how its pictures look, beside the settings."""
        return (self.spec.base, self.spec.tuned, *filter(None, [self.safety]))

    def loading(self) -> str:
        """Return what is going on while it is loaded, in one line."""
        missing = not all(has_weights(source) for source in (self.spec.base, self.spec.tuned))
        so_far = f", {downloaded_bytes(self.spec) / GIB:.1f} GB so far" if missing else ""
        return f"{'Downloading' if missing else 'Loading'} {self.spec.name}{so_far}"

    @property
    def _size(self) -> int:
        return pair_bytes(self.spec) if self.device != "cpu" and not self.offload else host_bytes(self.spec)

    def _load(self) -> "Pair":
        import torch

        from alchemist_hub.sampling import hide_loading_bars, load_pair

        if self.blocked:
            raise HubError(self.blocked)
        hide_loading_bars()
        if self.device == "cpu":
            return load_pair(self.spec.base, self.spec.tuned)
        modern = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = torch.bfloat16 if modern else torch.float16
        place = {"device": "cpu", "offload_to": self.device} if self.offload else {"device": self.device}
        return load_pair(self.spec.base, self.spec.tuned, dtype=dtype, **place)


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything behind the page. The first pair is the one that is open at the start."""

    pairs: Mapping[str, PairLoader]
    painted: Painted = field(default_factory=Painted)  # what was painted before
    turns: Turns = field(default_factory=Turns)  # who paints when
    votes: Booth | None = None  # None: no vote is held here
    reports: Sequence[Path] = ()  # folders of evaluations that the page shows
    funnel: ShownRun | None = None  # None: no run is shown

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("the page needs at least one pair")


MINIATURE_NOTICE = (
    "<b>This is the miniature</b>: a text-to-image model of 64 pixels that lives in a small drawn world and runs on "
    "any laptop. Its pictures are shown enlarged. It shows how the method works, not what the large models can do."
)

VOTED_PROMPTS, VOTED_SEED = 100, 6  # the fixed list that visitors vote on; not the evaluation's


def default_services(
    models: Path | None = None,
    machine: Machine | None = None,
    *,
    run: Path | None = None,
    judges: Path | None = None,
) -> Services:
    """Return the services of the app as shipped. Loads no model.

    The miniature and the five public pairs, a vote on the miniature, its evaluation and its curation run. `models`: a
    folder whose KEY/base and KEY/tuned stand in for the public repositories of a model key. `run`: another curation
    run for the Funnel tab; `judges`: the folder of the models it was made with. Raises VoteError where votes cannot be
    kept, LedgerError where `run` is no run.
    """
    from alchemist_hub.miniature.world import prompts
    from alchemist_hub.ui.booth import open_booth

    if models is not None and not models.is_dir():
        raise HubError(f"{models} is no folder; --models takes one that holds KEY/base and KEY/tuned")
    machine = machine or this_machine()
    on_card, in_memory, filters = Shelf(room=machine.card or 0), Shelf(room=machine.host / 2), Shelf()
    specs = [local_pair(spec, models) for spec in sorted(MODELS.values(), key=lambda spec: spec.key != "mini")]
    loaders = [_loader(spec, machine, on_card if needs_card(spec) else in_memory, filters) for spec in specs]
    turns, voted = Turns(), [prompt.text for prompt in prompts(VOTED_PROMPTS, seed=VOTED_SEED)]
    return Services(
        pairs={loader.spec.key: loader for loader in loaders},
        painted=Painted(folder=_cache()),
        turns=turns,
        votes=open_booth(loaders[0], voted, turns),
        reports=[weights() / "report"],
        funnel=shown_run(run, judges),
    )


def _loader(spec: ModelSpec, machine: Machine, shelf: Shelf, filters: Shelf) -> PairLoader:
    from alchemist_hub.miniature.world import VOCABULARY

    if spec.key == "mini":
        return PairLoader(
            spec=spec,
            notice=MINIATURE_NOTICE,
            vocabulary=frozenset(VOCABULARY),
            safety=str(weights() / "safety"),
            shelf=shelf,
            filters=filters,
        )
    whole = machine.card is not None and fits_whole(spec, machine.card)
    return PairLoader(
        spec=spec,
        blocked=obstacle(spec, machine) or _unguarded(machine),
        device="cuda" if needs_card(spec) else "cpu",
        offload=needs_card(spec) and not whole,
        safety=CHECKER,
        shelf=shelf,
        filters=filters,
    )


def _unguarded(machine: Machine) -> str:
    if machine.offline and not has_guard(CHECKER):
        return "The weights of the safety filter are not on this machine, and it is set to work offline."
    return ""


def _cache() -> Path:
    """Where painted examples are kept: ALCHEMIST_CACHE, or the user's cache folder."""
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ALCHEMIST_CACHE") or user / "alchemist-hub") / "painted"
