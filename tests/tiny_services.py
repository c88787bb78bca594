"""The page over a tiny random pair, served on a free port of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tiny_models import WORDS, tiny_pipeline

from alchemist_hub.models import model
from alchemist_hub.ui.booth import painter, weights_of
from alchemist_hub.ui.demo import launch
from alchemist_hub.ui.services import PairLoader, Services
from alchemist_hub.voting.ballots import Booth
from alchemist_hub.voting.stock import Listed, Stock
from alchemist_hub.voting.store import VoteStore

PROMPT = "a photo of mars over the sea"
PROMPTS = (PROMPT, "a sketch of mars", "a photo of the sea at night")


def tiny_services(folder: Path, *, votes: bool = False) -> Services:
    """Services whose only pair is two random pipelines made in `folder`, with a vote on it if asked for."""
    base, tuned = (tiny_pipeline(folder / name, seed=seed) for seed, name in enumerate(("base", "tuned")))
    spec = replace(model("mini"), base=str(base), tuned=str(tuned), steps=4)
    loader = PairLoader(spec=spec, notice="<b>tiny</b>", vocabulary=frozenset(WORDS))
    return Services(pairs={"mini": loader}, votes=tiny_booth(folder / "votes", loader) if votes else None)


def tiny_booth(folder: Path, loader: PairLoader) -> Booth:
    """A booth over `loader`'s pair, with few prompts and seeds."""
    listed = Listed(model="mini", prompts=PROMPTS, seeds=range(3), steps=2, guidance=2.0)
    stock = Stock(listed, painter(loader, listed), weights_of(loader), folder / "pictures")
    return Booth(VoteStore(folder), {"mini": stock})


@contextmanager
def served(services: Services) -> Iterator[str]:
    """Serve the page and yield its address."""
    demo = launch(services, prevent_thread_lock=True, quiet=True)
    try:
        yield demo.local_url
    finally:
        demo.close()
        if services.votes is not None:
            services.votes.stop()
