"""The page over a tiny random pair, served on a free port of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tiny_models import WORDS, tiny_pipeline

from alchemist_hub.models import model
from alchemist_hub.ui.demo import launch
from alchemist_hub.ui.services import PairLoader, Services

PROMPT = "a photo of mars over the sea"


def tiny_services(folder: Path) -> Services:
    """Services whose only pair is two random pipelines made in `folder`."""
    base, tuned = (tiny_pipeline(folder / name, seed=seed) for seed, name in enumerate(("base", "tuned")))
    spec = replace(model("mini"), base=str(base), tuned=str(tuned), steps=4)
    return Services(pairs={"mini": PairLoader(spec=spec, notice="<b>tiny</b>", vocabulary=frozenset(WORDS))})


@contextmanager
def served(services: Services) -> Iterator[str]:
    """Serve the page and yield its address."""
    demo = launch(services, prevent_thread_lock=True, quiet=True)
    try:
        yield demo.local_url
    finally:
        demo.close()
