"""What goes wrong on the test Hub, as an unmodified client meets it; and that nothing half done is ever seen."""

from pathlib import Path

import hub_server
import pytest
from hub_client import LARGE, PUBLISH, TREE, client, start, write_tree
from hub_server import Hub
from run_process import wait_for

TINY = "alchemists/tiny"
BOTH = pytest.mark.parametrize("xet", [True, False], ids=["xet", "lfs"])


@pytest.fixture
def hub(tmp_path: Path):
    with hub_server.serving(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "tree")


def published(hub: Hub) -> dict[str, bytes]:
    """What is seen of the repository, without what the Hub put there itself."""
    return {path: content for path, content in hub.files(TINY).items() if path != ".gitattributes"}


def unfinished(hub: Hub) -> list[Path]:
    """Files that are on their way to another name."""
    return [path for path in hub.state.folder.rglob("*") if path.name.startswith((".", "arriving-"))]


@BOTH
def test_a_client_retries_an_upload_that_was_cut(hub: Hub, folder: Path, xet: bool) -> None:
    hub.fail(hub_server.dropped(after=100_000))
    assert isinstance(client(hub, PUBLISH, folder, xet=xet), str)
    assert published(hub) == TREE
    assert hub.received_bytes > len(LARGE) + 100_000


@BOTH
def test_a_client_killed_in_mid_upload_leaves_nothing_to_be_seen(hub: Hub, folder: Path, xet: bool) -> None:
    hub.fail(hub_server.slow_disk(0.5, on=hub_server.faults.UPLOAD))
    with start(hub, PUBLISH, folder, xet=xet) as process:
        wait_for(lambda: hub.received_bytes)
        process.kill()
    wait_for(lambda: not unfinished(hub))
    assert published(hub) == {}
    hub.recover()
    client(hub, PUBLISH, folder, xet=xet)
    assert published(hub) == TREE


def test_a_commit_cut_in_mid_body_is_no_commit(hub: Hub, folder: Path) -> None:
    hub.fail(hub_server.dropped(after=100, on=hub_server.faults.COMMIT, times=20))
    told = client(hub, PUBLISH, folder, xet=False)  # this way a commit is tried once
    assert isinstance(told, list)
    assert published(hub) == {}
    hub.recover()
    client(hub, PUBLISH, folder, xet=False)
    assert published(hub) == TREE


@pytest.mark.slow
@BOTH
def test_killed_at_ten_points_it_ends_as_if_undisturbed(hub: Hub, folder: Path, xet: bool) -> None:
    client(hub, "api.create_repo(name); say(None)")
    for part in range(1, 11):
        hub.fail(hub_server.slow_disk(0.05))
        goal = hub.received_bytes + part * len(LARGE) // 10
        with start(hub, PUBLISH, folder, xet=xet) as process:
            wait_for(lambda goal=goal, process=process: hub.received_bytes >= goal or process.poll() is not None)
            process.kill()
        wait_for(lambda: not unfinished(hub))
        assert published(hub) in ({}, TREE)
        hub.recover()
    client(hub, PUBLISH, folder, xet=xet)
    assert published(hub) == TREE


@pytest.mark.parametrize("status", [429, 500])
def test_a_client_comes_back_after_a_refusal(hub: Hub, folder: Path, status: int) -> None:
    commit = hub_server.refused(status, on=hub_server.faults.COMMIT, times=2, retry_after=1)
    hub.fail(commit)
    assert isinstance(client(hub, PUBLISH, folder), str)
    assert published(hub) == TREE
    assert hub.requests[f"POST /api/models/{TINY}/commit/main"] == 3


@BOTH
def test_a_stale_parent_is_told_once_and_changes_nothing(hub: Hub, folder: Path, xet: bool) -> None:
    hub.fail(hub_server.stale_parent())
    assert client(hub, PUBLISH, folder, xet=xet) == ["HfHubHTTPError", 412]
    assert published(hub) == {}
    before = hub.received_bytes
    client(hub, PUBLISH, folder, xet=xet)
    assert published(hub) == TREE
    assert hub.received_bytes - before < len(LARGE)  # the contents were there


def test_a_token_that_expires_is_refused_until_it_is_renewed(hub: Hub, folder: Path) -> None:
    hub.fail(hub_server.expired_token(on=hub_server.faults.COMMIT))
    assert client(hub, PUBLISH, folder) == ["HfHubHTTPError", 401]
    assert published(hub) == {}
    hub.recover()
    client(hub, PUBLISH, folder)
    assert published(hub) == TREE


def test_bytes_that_are_not_those_promised_are_refused(hub: Hub) -> None:
    refusal = client(
        hub,
        """
from huggingface_hub.utils import get_session
import os
say(get_session().put(os.environ["HF_ENDPOINT"] + "/lfs/" + "0" * 64, content=b"others").status_code)
""",
    )
    assert refusal == 400
    assert list((hub.state.folder / "blobs").iterdir()) == []


def test_a_refusal_says_when_to_come_back_and_only_as_often_as_it_should(hub: Hub) -> None:
    hub.fail(hub_server.refused(429, on="GET /api/whoami", times=2, retry_after=7))
    told = client(
        hub,
        """
from huggingface_hub.utils import get_session
import os
answers = [get_session().get(os.environ["HF_ENDPOINT"] + "/api/whoami-v2", headers=api._build_hf_headers())
           for _ in range(3)]
say([[answer.status_code, answer.headers.get("Retry-After")] for answer in answers])
""",
    )
    assert told == [[429, "7"], [429, "7"], [200, None]]
