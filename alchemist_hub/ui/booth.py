"""The booth of the app as shipped: which pairs visitors vote on, painted by which pipelines, kept where."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from alchemist_hub.models import ModelSpec
from alchemist_hub.ui.safety import Guard
from alchemist_hub.ui.turns import Turns
from alchemist_hub.voting.ballots import Booth
from alchemist_hub.voting.stock import Listed, Painter, Pictures, Stock
from alchemist_hub.voting.store import VoteStore, votes_folder
from alchemist_hub.voting.sync import configured_sync

if TYPE_CHECKING:  # seconds to import: the page is served before they are needed
    from alchemist_hub.sampling import Pair

SEEDS = range(4)  # of each prompt
REST = 0.25  # seconds between two looks at whether visitors wait


class Loader(Protocol):
    """A pair that can be loaded: `services.PairLoader`."""

    @property
    def spec(self) -> ModelSpec: ...
    def pair(self) -> "Pair": ...
    def guard(self) -> Guard | None: ...


def open_booth(loader: Loader, prompts: Sequence[str], visitors: Turns | None = None) -> Booth:
    """Open the store and a stock of `loader`'s pair, painted while no `visitors` wait for theirs.

    Loads no model and paints nothing. Raises VoteError.
    """
    store, spec = VoteStore(votes_folder()), loader.spec
    listed = Listed(model=spec.key, prompts=prompts, seeds=SEEDS, steps=spec.steps, guidance=spec.guidance)
    stock = Stock(listed, painter(loader, listed, visitors), weights_of(loader), store.path.parent / "pictures")
    return Booth(store, {spec.key: stock}, sync=configured_sync(store))


def painter(loader: Loader, listed: Listed, visitors: Turns | None = None) -> Painter:
    """Return what paints both sides of one prompt and seed; None where the safety filter hides one."""

    def paint(prompt: str, seed: int, should_stop: Callable[[], bool]) -> Pictures | None:
        from alchemist_hub.sampling import generate

        while visitors is not None and visitors.busy() and not should_stop():
            time.sleep(REST)
        pair, how = loader.pair(), {"steps": listed.steps, "guidance": listed.guidance, "should_stop": should_stop}
        (base,), (tuned,) = (generate(pipe, [prompt], [seed], **how) for pipe in (pair.base, pair.tuned))
        guard = loader.guard()
        return None if guard is not None and (guard(base) or guard(tuned)) else (base, tuned)

    return paint


def weights_of(loader: Loader) -> Callable[[], tuple[str, str]]:
    """Return what names the weights of both sides, as reports do."""

    def weights() -> tuple[str, str]:
        from alchemist_hub.evaluation.generate import checkpoint_id

        return checkpoint_id(loader.spec.base), checkpoint_id(loader.spec.tuned)

    return weights
