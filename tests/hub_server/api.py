"""Routes on repositories: who am I, create, settings, refs, trees, commits, pull requests."""

from typing import Any

import yaml

from hub_server.answers import Answer, Refusal, Request, told
from hub_server.routes import HubState, admitted, owns, readable, route, writable
from hub_server.store import KINDS, Commit, File, Repository, git_oid, now

REPOSITORY = r"/api/(models|datasets|spaces)/([^/]+/[^/]+)"
# What a new repository sends through LFS; its first commit says so, as on the Hub.
LARGE = ("*.safetensors", "*.bin", "*.pt", "*.ckpt", "*.parquet", "*.arrow", "*.tar", "*.zip", "*.npy", "*.npz")
LARGE += ("*.png", "*.jpg", "*.jpeg", "*.webp", "*.mp4")
ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE).encode()
LARGE_BYTES = 10 * 1024 * 1024
PULL_REQUEST = "refs/pr/"


@route("GET", r"/api/whoami-v2")
def whoami(hub: HubState, request: Request) -> Answer:
    if request.user is None:
        raise Refusal(401, "Invalid username or password.")
    own = [{"name": name, "type": "org", "roleInOrg": "write"} for name in hub.organisations]
    token = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write", "createdAt": now()}}
    return told({"type": "user", "name": hub.user, "fullname": hub.user, "orgs": own, "auth": token})


@route("POST", r"/api/validate-yaml")
def validate_card(hub: HubState, request: Request) -> Answer:
    """Refuse a README whose front matter is no YAML; the Hub checks more."""
    parts = request.json()["content"].split("---\n")
    try:
        yaml.safe_load(parts[1] if len(parts) > 2 else "")
    except yaml.YAMLError as error:
        return told({"errors": [{"message": str(error)}], "warnings": []}, status=400)
    return told({"errors": [], "warnings": []})


def named(hub: HubState, request: Request, asked: dict[str, Any], act: str) -> Repository:
    """Return the repository that a body with type, organization and name means, there or not."""
    kind = f"{asked.get('type') or 'model'}s"
    if kind not in KINDS:
        raise Refusal(400, f"no repositories of type {asked['type']}")
    namespace = asked.get("organization") or hub.user
    owns(hub, request, namespace, f"{act} a {kind[:-1]}")
    return hub.store.repository(kind, f"{namespace}/{asked['name']}")


@route("POST", r"/api/repos/create")
def create(hub: HubState, request: Request) -> Answer:
    asked = request.json()
    repository = named(hub, request, asked, "create")
    url = f"{hub.url}/{repository.prefix}"
    if repository.exists():
        raise Refusal(409, f"You already created this {repository.kind[:-1]} repo", url=url)
    repository.add_commit("main", {".gitattributes": repository.file(ATTRIBUTES)}, "initial commit")
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    repository.set(private=private, gated=False, sdk=asked.get("sdk"))
    return told({"url": url, "name": repository.id})


@route("DELETE", r"/api/repos/delete")
def delete(hub: HubState, request: Request) -> Answer:
    repository = named(hub, request, request.json(), "delete")
    hub.store.delete(readable(hub, request, repository.kind, repository.id))
    return told({})


@route("PUT", REPOSITORY + "/settings")
def settings(hub: HubState, request: Request, kind: str, name: str) -> Answer:
    repository, asked = writable(hub, request, kind, name), request.json()
    if "visibility" in asked:
        repository.set(private=asked["visibility"] == "private")
    if "gated" in asked:
        repository.set(gated=asked["gated"])
    return told(repository.settings)


@route("GET", REPOSITORY + r"(?:/revision/([^/]+))?")
def info(hub: HubState, request: Request, kind: str, name: str, revision: str | None) -> Answer:
    repository = readable(hub, request, kind, name)
    commit, kept = repository.commit(revision or "main"), repository.settings
    siblings = [{"rfilename": path} for path in commit.files]
    if request.asked("blobs"):
        siblings = [told_file(path, file) | {"rfilename": path} for path, file in commit.files.items()]
        siblings = [{**sibling, "blobId": sibling["oid"]} for sibling in siblings]
    front = card_data(hub, commit)
    return told(
        {
            "_id": git_oid(name.encode())[:24],
            "id": name,
            "author": name.partition("/")[0],
            "sha": commit.oid,
            "createdAt": kept["created"],
            "lastModified": commit.date,
            "private": kept["private"],
            "gated": kept["gated"],
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": front.get("tags", []),
            "siblings": siblings,
        }
        | ({"cardData": front} if front else {})
        | ({"modelId": name, "library_name": front.get("library_name")} if kind == "models" else {})
        | ({"sdk": kept["sdk"]} if kind == "spaces" else {})
    )


@route("GET", REPOSITORY + r"/auth-check(/write)?")
def check_access(hub: HubState, request: Request, kind: str, name: str, write: str | None) -> Answer:
    (writable if write else admitted)(hub, request, kind, name)
    return told({})


def card_data(hub: HubState, commit: Commit) -> dict[str, Any]:
    """Return the front matter of a commit's README, {} without one."""
    readme = commit.files.get("README.md")
    text = hub.store.blobs.path(readme.sha256).read_text(encoding="utf-8") if readme else ""
    parts = text.split("---\n")
    return (yaml.safe_load(parts[1]) or {}) if text.startswith("---\n") and len(parts) > 2 else {}


def told_file(path: str, file: File) -> dict[str, Any]:
    lfs = {"lfs": {"oid": file.sha256, "sha256": file.sha256, "size": file.size, "pointerSize": 134}}
    return {"type": "file", "path": path, "size": file.size, "oid": file.git_oid} | (lfs if file.lfs else {})


def listing(commit: Commit, *, expand: bool) -> dict[str, dict[str, Any]]:
    """Return every file and folder of a commit, by path, as the Hub tells of them."""
    last = {"lastCommit": {"id": commit.oid, "title": commit.title, "date": commit.date}} if expand else {}
    entries: dict[str, dict[str, Any]] = {}
    for path, file in commit.files.items():
        for end in (at for at, letter in enumerate(path) if letter == "/"):
            oid = git_oid(f"{commit.oid}/{path[:end]}".encode())
            entries[path[:end]] = {"type": "directory", "path": path[:end], "size": 0, "oid": oid, **last}
        entries[path] = told_file(path, file) | last
    return entries


@route("GET", REPOSITORY + r"/tree/([^/]+)(?:/(.+))?")
def tree(hub: HubState, request: Request, kind: str, name: str, revision: str, folder: str | None) -> Answer:
    commit = readable(hub, request, kind, name).commit(revision)
    entries = listing(commit, expand=request.asked("expand"))
    if folder and entries.get(folder, {}).get("type") != "directory":
        raise Refusal(404, f"{folder} does not exist on {revision}", code="EntryNotFound")
    start = f"{folder}/" if folder else ""
    below = {path: entry for path, entry in entries.items() if path.startswith(start)}
    deep = request.asked("recursive")
    return told([entry for path, entry in below.items() if deep or "/" not in path[len(start) :]])


@route("POST", REPOSITORY + r"/paths-info/([^/]+)")
def paths_info(hub: HubState, request: Request, kind: str, name: str, revision: str) -> Answer:
    asked = request.form()
    commit = readable(hub, request, kind, name).commit(revision)
    entries = listing(commit, expand=asked.get("expand", ["false"])[0].lower() == "true")
    return told([entries[path] for path in asked["paths"] if path in entries])


@route("GET", REPOSITORY + "/refs")
def refs(hub: HubState, request: Request, kind: str, name: str) -> Answer:
    known = readable(hub, request, kind, name).refs()
    pulls = [{"name": ref, "ref": ref, "targetCommit": oid} for ref, oid in known.items() if is_pull(ref)]
    rows = [
        {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": oid} for ref, oid in known.items() if not is_pull(ref)
    ]
    return told({"branches": rows, "tags": [], "converts": [], "pullRequests": pulls})


def is_pull(ref: str) -> bool:
    return ref.startswith(PULL_REQUEST)


@route("POST", REPOSITORY + r"/branch/([^/]+)")
def create_branch(hub: HubState, request: Request, kind: str, name: str, branch: str) -> Answer:
    repository = writable(hub, request, kind, name)
    if branch in repository.refs():
        raise Refusal(409, f"Reference already exists: {branch}")
    repository.point(branch, repository.commit(request.json().get("startingPoint", "main")).oid)
    return told({})


@route("DELETE", REPOSITORY + r"/branch/([^/]+)")
def delete_branch(hub: HubState, request: Request, kind: str, name: str, branch: str) -> Answer:
    repository = writable(hub, request, kind, name)
    if branch not in repository.refs() or branch == "main":
        raise Refusal(404, f"Invalid rev id: {branch}", code="RevisionNotFound")
    repository.drop(branch)
    return told({})
