"""The booth as shipped: the miniature is voted on, nothing is loaded, what a filter hides is void."""

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from tiny_services import PROMPTS, tiny_services

from alchemist_hub.errors import VoteError
from alchemist_hub.evaluation.generate import checkpoint_id
from alchemist_hub.evaluation.results import read_report
from alchemist_hub.sampling import Cancelled, Pair, generate
from alchemist_hub.ui.booth import open_booth, painter, weights_of
from alchemist_hub.ui.safety import Guard
from alchemist_hub.ui.services import PairLoader, default_services
from alchemist_hub.ui.turns import Turns
from alchemist_hub.voting.stock import Listed

LISTED = Listed(model="mini", prompts=PROMPTS, seeds=range(2), steps=2, guidance=2.0)


@dataclass
class Guarded:
    """A pair behind a filter that hides every picture after the first `shown`."""

    loader: PairLoader
    shown: int
    seen: list = field(default_factory=list)

    @property
    def spec(self):
        return self.loader.spec

    def pair(self) -> Pair:
        return self.loader.pair()

    def guard(self) -> Guard:
        return lambda picture: self.seen.append(picture) or len(self.seen) > self.shown


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> PairLoader:
    return tiny_services(tmp_path_factory.mktemp("pair")).pairs["mini"]


def test_both_sides_are_what_each_model_paints_alone(loader: PairLoader) -> None:
    base, tuned = painter(loader, LISTED)(PROMPTS[0], 1, lambda: False)
    for picture, pipe in ((base, loader.pair().base), (tuned, loader.pair().tuned)):
        (alone,) = generate(pipe, [PROMPTS[0]], [1], steps=2, guidance=2.0)
        assert np.array_equal(np.asarray(picture), np.asarray(alone))


@pytest.mark.parametrize(("shown", "dealt"), [(0, False), (1, False), (2, True)])
def test_a_pair_with_a_hidden_side_is_void(loader: PairLoader, shown: int, dealt: bool) -> None:
    pictures = painter(Guarded(loader, shown), LISTED)(PROMPTS[0], 1, lambda: False)
    assert (pictures is not None) == dealt


def test_weights_are_named_as_in_reports(loader: PairLoader) -> None:
    assert weights_of(loader)() == (checkpoint_id(loader.spec.base), checkpoint_id(loader.spec.tuned))


def test_the_app_as_shipped_votes_on_the_miniature_and_shows_its_evaluation() -> None:
    services = default_services()
    assert list(services.votes.stocks) == ["mini"]
    assert len(set(services.votes.stocks["mini"].listed.prompts)) == 100
    (report,) = map(read_report, services.reports)
    spec = services.pairs["mini"].spec
    assert list(report.checkpoints.values()) == [checkpoint_id(spec.base), checkpoint_id(spec.tuned)]


def test_votes_that_cannot_be_kept_are_one_line(
    loader: PairLoader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALCHEMIST_VOTES", str(tmp_path / "file" / "votes"))
    with pytest.raises(VoteError, match=r"^votes cannot be kept in [^\n]+$"):
        open_booth(replace(loader), PROMPTS)


def test_visitors_are_painted_first(loader: PairLoader) -> None:
    visitors, looks = Turns(), []

    def ended() -> bool:  # asked at every look at the line, and at every step
        looks.append(visitors.busy())
        if len(looks) == 2:
            leave.close()
        return False

    leave = ExitStack()
    leave.enter_context(visitors.join("mini", 4))
    assert painter(loader, LISTED, visitors)(PROMPTS[0], 1, ended) is not None
    assert looks[0] and not any(looks[2:])


def test_a_booth_that_ends_waits_for_no_visitor(loader: PairLoader) -> None:
    visitors = Turns()
    with visitors.join("mini", 4), pytest.raises(Cancelled):
        painter(loader, LISTED, visitors)(PROMPTS[0], 1, lambda: True)
