"""What the Hub is told: one commit a repository, nothing twice, patience where it helps and one line where not."""

from pathlib import Path

import hub_server
import pytest
from hub_server import Hub as Server
from huggingface_hub import HfApi

from alchemist_hub.errors import PublishError
from alchemist_hub.publishing.hub import COLLECTION, PAPER, Hub, Target
from alchemist_hub.publishing.trees import Tree

CARD = "---\ntags: [alchemist]\nlicense: mit\n---\n# Tiny\n"
NAME = "alchemists/tiny"


@pytest.fixture
def server(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server.serving(tmp_path / "hub") as running:
        yield running


def session(
    server: Server, *, token: str = "hf_tiny", organisation: str = "alchemists", waits: list[float] | None = None
) -> Hub:
    """A session that notes in `waits` the seconds it would wait."""
    api = HfApi(endpoint=server.url, token=token)
    return Hub(organisation, api=api, say=lambda line: None, sleep=(waits if waits is not None else []).append)


def tree(folder: Path, kind: str = "model", **texts: str) -> Tree:
    """A repository of text files; `README` is always there."""
    folder.mkdir(exist_ok=True)
    files = {}
    for name, text in ({"README": CARD} | texts).items():
        path = folder / name
        path.write_text(text)
        files["README.md" if name == "README" else name] = path
    return Tree(kind=kind, repository=NAME, files=files)


def held(server: Server, kind: str = "models", revision: str = "main") -> dict[str, bytes]:
    files = server.files(NAME, kind=kind, revision=revision)
    return {path: content for path, content in files.items() if path != ".gitattributes"}


def commits(server: Server) -> int:
    return len(HfApi(endpoint=server.url, token="hf_tiny").list_repo_commits(NAME))


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_repository_holds_exactly_the_tree(server, tmp_path, kind):
    told = session(server).publish(tree(tmp_path / "tree", kind, one="1", two="2"), Target())
    assert held(server, f"{kind}s") == {"README.md": CARD.encode(), "one": b"1", "two": b"2"}
    assert (told.sent, told.removed, told.unchanged) == (3, 0, 0)
    assert told.url.endswith({"model": "", "dataset": "datasets/", "space": "spaces/"}[kind] + NAME)


def test_a_second_time_changes_what_changed_and_takes_away_what_is_gone(server, tmp_path):
    session(server).publish(tree(tmp_path / "first", one="1", two="2", three="3"), Target())
    told = session(server).publish(tree(tmp_path / "second", one="1", two="II"), Target())
    assert held(server) == {"README.md": CARD.encode(), "one": b"1", "two": b"II"}
    assert (told.sent, told.removed, told.unchanged) == (1, 1, 2)


def test_a_second_time_without_a_change_sends_nothing_and_commits_nothing(server, tmp_path):
    first = session(server).publish(tree(tmp_path / "tree", one="1"), Target())
    before, made = server.received_bytes, commits(server)
    again = session(server).publish(tree(tmp_path / "tree", one="1"), Target())
    assert (server.received_bytes, commits(server)) == (before, made) == (before, 2)
    assert (again.commit, again.sent, again.unchanged) == (first.commit, 0, 2)


def test_a_branch_is_made_and_main_stays(server, tmp_path):
    session(server).publish(tree(tmp_path / "tree", one="1"), Target())
    told = session(server).publish(tree(tmp_path / "next", one="2"), Target(revision="next"))
    assert held(server)["one"] == b"1" and held(server, revision="next")["one"] == b"2"
    assert told.url.endswith("/tree/next")


def test_a_pull_request_leaves_main_as_it_is(server, tmp_path):
    session(server).publish(tree(tmp_path / "tree", one="1"), Target())
    told = session(server).publish(tree(tmp_path / "next", one="2"), Target(create_pr=True))
    assert held(server)["one"] == b"1" and held(server, revision="refs/pr/1")["one"] == b"2"
    assert "/discussions/1" in told.url


def test_new_repositories_can_be_private(server, tmp_path):
    session(server).publish(tree(tmp_path / "tree"), Target(private=True))
    assert HfApi(endpoint=server.url, token="hf_tiny").repo_info(NAME).private


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("on", [r"POST /api/repos/create", hub_server.faults.COMMIT])
def test_what_passes_is_waited_for(server, tmp_path, status, on):
    server.fail(hub_server.refused(status, on=on, times=2))
    session(server, waits=(waits := [])).publish(tree(tmp_path / "tree", one="1"), Target())
    assert held(server)["one"] == b"1" and commits(server) == 2
    assert waits == [1, 2]


def test_the_hub_says_how_long_to_wait(server, tmp_path):
    server.fail(hub_server.refused(429, on=hub_server.faults.COMMIT, retry_after=7))
    session(server, waits=(waits := [])).publish(tree(tmp_path / "tree"), Target())
    assert waits == [7]


def test_who_came_in_between_is_noticed(server, tmp_path):
    server.fail(hub_server.stale_parent())
    session(server, waits=(waits := [])).publish(tree(tmp_path / "tree", one="1"), Target())
    assert held(server)["one"] == b"1" and waits == [1]


def test_a_commit_whose_answer_was_lost_is_made_once(server, tmp_path):
    server.fail(hub_server.dropped(after=1, on=hub_server.faults.COMMIT))
    session(server).publish(tree(tmp_path / "tree", one="1"), Target())
    assert held(server)["one"] == b"1" and commits(server) == 2


def test_patience_ends(server, tmp_path):
    server.fail(hub_server.refused(500, on=hub_server.faults.COMMIT, times=100))
    with pytest.raises(PublishError, match=r"^publishing alchemists/tiny: the Hub answers 500: [^\n]+$"):
        session(server, waits=(waits := [])).publish(tree(tmp_path / "tree"), Target())
    assert waits == [1, 2, 4, 8, 16]


def test_offline_is_one_line():
    with pytest.raises(PublishError, match="^asking who this is: HF_HUB_OFFLINE is set; unset it to publish$"):
        Hub("alchemists", api=HfApi(token="hf_tiny")).enter()


def test_a_hub_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    api = HfApi(endpoint="http://127.0.0.1:9", token="hf_tiny")
    with pytest.raises(PublishError, match=r"^asking who this is: the Hub cannot be reached \([^\n]+\)$"):
        Hub("alchemists", api=api, say=lambda line: None, sleep=lambda seconds: None).enter()


def test_the_token_is_asked_for_its_names(server):
    session(server).enter()
    with pytest.raises(PublishError, match="tester cannot publish as others; .* names are tester, alchemists"):
        session(server, organisation="others").enter()
    with pytest.raises(PublishError, match="the Hub does not accept the token: run `hf auth login`") as refusal:
        session(server, token="hf_wrong").enter()
    assert "hf_wrong" not in str(refusal.value)


def test_a_token_that_expires_in_between_is_one_line(server, tmp_path):
    hub = session(server)
    hub.enter()
    server.fail(hub_server.expired_token(on=hub_server.faults.COMMIT))
    with pytest.raises(PublishError, match=r"^publishing alchemists/tiny: the Hub does not accept the token[^\n]+$"):
        hub.publish(tree(tmp_path / "tree"), Target())
    assert set(held(server)) <= {"README.md"} and commits(server) == 1


def test_without_any_token_it_says_how_to_get_one(server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    with pytest.raises(PublishError, match="no token for the Hub: run `hf auth login`"):
        Hub("alchemists", api=HfApi(endpoint=server.url), say=lambda line: None).enter()


def test_somebody_elses_repository_is_left_alone(server, tmp_path):
    api = HfApi(endpoint=server.url, token="hf_tiny")
    api.create_repo(NAME)
    api.upload_file(path_or_fileobj=b"theirs", path_in_repo="notes.txt", repo_id=NAME)
    with pytest.raises(PublishError, match="alchemists/tiny exists and was not published from here"):
        session(server).publish(tree(tmp_path / "tree"), Target())
    assert held(server) == {"notes.txt": b"theirs"}


def test_the_collection_holds_the_paper_and_what_is_there_once(server, tmp_path):
    hub = session(server)
    hub.publish(tree(tmp_path / "tree"), Target())
    items = hub.existing([("model", NAME), ("model", "alchemists/none"), ("space", NAME)])
    assert items == [("model", NAME)]
    assert (hub.collect(items).sent, hub.collect(items).sent) == (2, 0)
    api = HfApi(endpoint=server.url, token="hf_tiny")
    found = api.get_collection(hub.collect(items).url.partition("/collections/")[2])
    assert found.title == COLLECTION and [item.item_id for item in found.items] == [PAPER, NAME]
