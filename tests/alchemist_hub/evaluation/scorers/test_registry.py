"""What scorers there are, what each costs, and what is said when one cannot be had."""

from pathlib import Path

import pytest

from alchemist_hub.errors import EvaluationError, HubError
from alchemist_hub.evaluation.scorers import SCORERS, scorer


def test_an_unknown_name_is_one_line_that_lists_the_names():
    with pytest.raises(EvaluationError) as refused:
        scorer("fid")
    assert all(name in str(refused.value) for name in SCORERS) and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", [name for name, entry in SCORERS.items() if entry.gigabytes])
def test_every_scorer_with_weights_says_in_one_line_what_is_missing(name, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError) as refused:
        scorer(name)
    said = str(refused.value)
    assert "\n" not in said and ("hf download" in said or SCORERS[name].brings and "convert it once" in said)


def test_every_entry_loads_as_its_own_name_and_says_what_it_costs():
    for name, entry in SCORERS.items():
        assert entry.says and entry.licence
        assert all(len(published.revision) == 40 and published.gigabytes > 0 for published in entry.needs)
        if not entry.needs:
            found = scorer(name)
            assert (found.name, found.source, found.revision) == (name, "computed", "1") and entry.gigabytes == 0
