"""Routes that change a repository's files: preupload, commit, pull requests; and the history."""

import base64
import fnmatch
import json

from hub_server.answers import Answer, Refusal, Request, told
from hub_server.api import LARGE, LARGE_BYTES, PULL_REQUEST, REPOSITORY, is_pull
from hub_server.routes import HubState, readable, route, writable
from hub_server.store import File, Repository


@route("POST", REPOSITORY + r"/preupload/([^/]+)")
def preupload(hub: HubState, request: Request, kind: str, name: str, revision: str) -> Answer:
    """Tell per file how it travels, and what is there under its path."""
    there = writable(hub, request, kind, name).commit(revision).files
    rows = []
    for asked in request.json()["files"]:
        mode = "lfs" if is_large(asked["path"], asked["size"], base64.b64decode(asked["sample"])) else "regular"
        row = {"path": asked["path"], "uploadMode": mode, "shouldIgnore": False}
        known = there.get(asked["path"])
        rows.append(row | ({"oid": known.sha256 if known.lfs else known.git_oid} if known else {}))
    return told({"files": rows})


def is_large(path: str, size: int, sample: bytes) -> bool:
    """Whether a file goes beside the commit: by name, by size, or because it is no text."""
    by_name = any(fnmatch.fnmatch(path.rpartition("/")[2], pattern) for pattern in LARGE)
    return by_name or size > LARGE_BYTES or b"\0" in sample


@route("POST", REPOSITORY + r"/commit/([^/]+)")
def commit(hub: HubState, request: Request, kind: str, name: str, revision: str) -> Answer:
    """Apply a commit's lines, all or none."""
    repository = writable(hub, request, kind, name)
    lines = [json.loads(line) for line in request.body().splitlines() if line.strip()]
    header = lines[0]["value"]
    changes = {}
    for line in lines[1:]:
        path, file = change(hub, repository, line["key"], line["value"])
        changes[path] = file
    pull = next_pull_request(repository) if request.asked("create_pr") else None
    if pull is None and revision not in repository.refs():
        raise Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
    parent = header.get("parentCommit")
    made = repository.add_commit(
        f"{PULL_REQUEST}{pull}" if pull else revision, changes, header["summary"], on=pull and revision, parent=parent
    )
    where = f"{hub.url}/{repository.prefix}"
    more = {"pullRequestUrl": f"{where}/discussions/{pull}"} if pull else {}
    return told({"success": True, "commitOid": made.oid, "commitUrl": f"{where}/commit/{made.oid}", **more})


def change(hub: HubState, repository: Repository, key: str, value: dict) -> tuple[str, File | None]:
    """Return a path and what becomes of it, as one line of a commit says."""
    if key == "file":
        content = base64.b64decode(value["content"])
        return value["path"], repository.file(b"".join(hub.counted([content])))
    if key == "lfsFile":
        return value["path"], repository.large_file(value["oid"])
    if key == "deletedFile":
        return value["path"], None
    if key == "deletedFolder":
        return value["path"].rstrip("/") + "/", None
    raise Refusal(400, f"unknown line in a commit: {key}")


@route("GET", REPOSITORY + r"/commits/([^/]+)")
def commits(hub: HubState, request: Request, kind: str, name: str, revision: str) -> Answer:
    history = readable(hub, request, kind, name).history(revision)
    rows = [{"id": made.oid, "title": made.title, "message": "", "date": made.date, "authors": []} for made in history]
    return told(rows)


def next_pull_request(repository: Repository) -> int:
    return 1 + sum(map(is_pull, repository.refs()))


@route("POST", REPOSITORY + "/discussions")
def open_pull_request(hub: HubState, request: Request, kind: str, name: str) -> Answer:
    """Open a draft pull request; there are no other discussions here."""
    repository, asked = writable(hub, request, kind, name), request.json()
    if not asked.get("pullRequest"):
        raise Refusal(400, "this Hub knows pull requests only")
    number = next_pull_request(repository)
    repository.point(f"{PULL_REQUEST}{number}", repository.commit("main").oid)
    repository.set(titles={**repository.settings.get("titles", {}), str(number): asked["title"]})
    return told({"num": number, "url": f"{hub.url}/{repository.prefix}/discussions/{number}"})


@route("GET", REPOSITORY + r"/discussions/(\d+)")
def pull_request(hub: HubState, request: Request, kind: str, name: str, number: str) -> Answer:
    repository = readable(hub, request, kind, name)
    oid = repository.refs().get(f"{PULL_REQUEST}{number}")
    if oid is None:
        raise Refusal(404, f"no pull request {number}")
    return told(
        {
            "title": repository.settings.get("titles", {}).get(number, repository.commit(oid).title),
            "num": int(number),
            "author": {"name": hub.user},
            "createdAt": repository.commit(oid).date,
            "status": "draft",
            "repo": {"name": name, "type": kind[:-1]},
            "isPullRequest": True,
            "changes": {"base": "refs/heads/main"},
            "filesWithConflicts": [],
            "events": [],
        }
    )
