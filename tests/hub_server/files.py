"""Routes on contents: what a path resolves to, ranges of it, and uploads through Git LFS and Xet."""

import re
from collections.abc import Iterator
from pathlib import Path

from hub_server.answers import Answer, Refusal, Request, told
from hub_server.routes import HubState, admitted, readable, route, writable

PIECE = 1 << 16  # bytes
REPOSITORY = r"(?:(datasets|spaces)/)?([^/]+/[^/]+)"


def pieces(path: Path, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `end` (exclusive) of a file."""
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            piece = file.read(min(PIECE, end - start))
            start += len(piece)
            yield piece


def ranged(request: Request, path: Path, headers: dict[str, str]) -> Answer:
    """Answer with a file, or the part of it that the request asks for."""
    size = path.stat().st_size
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if not asked or not any(asked.groups()):
        return Answer(headers={**headers, "Content-Length": str(size)}, body=pieces(path, 0, size))
    if asked[1]:
        start, end = int(asked[1]), min(int(asked[2]) + 1, size) if asked[2] else size
    else:
        start, end = max(size - int(asked[2]), 0), size
    if start >= end:
        return Answer(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers |= {"Content-Range": f"bytes {start}-{end - 1}/{size}", "Content-Length": str(end - start)}
    return Answer(status=206, headers=headers, body=pieces(path, start, end))


@route("GET", rf"/{REPOSITORY}/resolve/([^/]+)/(.+)")
def resolve(hub: HubState, request: Request, kind: str | None, name: str, revision: str, path: str) -> Answer:
    """Give a small file; send the client elsewhere for a large one."""
    repository = admitted(hub, request, kind or "models", name)
    commit = repository.commit(revision)
    file = commit.files.get(path)
    headers = {"X-Repo-Commit": commit.oid}
    if file is None:
        refusal = Refusal(404, "Entry not found", code="EntryNotFound")
        refusal.answer.headers.update(headers)
        raise refusal
    if not file.lfs:
        return ranged(request, hub.store.blobs.path(file.sha256), {**headers, "ETag": f'"{file.git_oid}"'})
    # Another origin, as with the Hub: the client follows a redirect to the same one and loses X-Repo-Commit there.
    headers |= {"Location": f"{hub.other_url}/blobs/{file.sha256}", "X-Linked-Size": str(file.size)}
    return Answer(status=302, headers={**headers, "X-Linked-ETag": f'"{file.sha256}"', "ETag": f'"{file.sha256}"'})


@route("GET", r"/blobs/([0-9a-f]{64})")
def blob(hub: HubState, request: Request, sha256: str) -> Answer:
    """Give a large file to whoever knows its name, as a signed URL does."""
    if sha256 not in hub.store.blobs:
        raise Refusal(404, "no such content")
    return ranged(request, hub.store.blobs.path(sha256), {"ETag": f'"{sha256}"'})


@route("POST", rf"/{REPOSITORY}\.git/info/lfs/objects/batch")
def lfs_batch(hub: HubState, request: Request, kind: str | None, name: str) -> Answer:
    """Tell where each content goes, and nothing for those that are here."""
    writable(hub, request, kind or "models", name)
    objects = []
    for wanted in request.json()["objects"]:
        actions = {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}"}, "verify": {"href": f"{hub.url}/lfs-verify"}}
        known = wanted["oid"] in hub.store.blobs
        objects.append({"oid": wanted["oid"], "size": wanted["size"]} | ({} if known else {"actions": actions}))
    return told({"transfer": "basic", "objects": objects})


@route("PUT", r"/lfs/([0-9a-f]{64})")
def lfs_upload(hub: HubState, request: Request, sha256: str) -> Answer:
    """Take a content from whoever knows its name, as a signed URL does."""
    hub.store.blobs.add(hub.counted(request.pieces()), sha256=sha256)
    return Answer()


@route("POST", r"/lfs-verify")
def lfs_verify(hub: HubState, request: Request) -> Answer:
    asked = request.json()
    path = hub.store.blobs.path(asked["oid"])
    if not path.is_file() or path.stat().st_size != asked["size"]:
        raise Refusal(404, "Object not found")
    return told({"ok": True})


@route("GET", r"/api/(models|datasets|spaces)/([^/]+/[^/]+)/xet-(read|write)-token/[^/]+")
def xet_token(hub: HubState, request: Request, kind: str, name: str, access: str) -> Answer:
    (writable if access == "write" else readable)(hub, request, kind, name)
    return hub.xet.connection(hub.url, hub.xet_token)


def xet_user(request: Request) -> None:
    if request.user is None:
        raise Refusal(401, "no Xet token")


@route("POST", r"/v1/xorbs/default/([0-9a-f]{64})")
def xorb(hub: HubState, request: Request, name: str) -> Answer:
    xet_user(request)
    return hub.xet.take_xorb(name, hub.counted(request.pieces()))


@route("POST", r"/v1/shards")
def shard(hub: HubState, request: Request) -> Answer:
    xet_user(request)
    return hub.xet.take_shard(request.body())


@route("GET", r"/v1/chunks/default/([0-9a-f]{64})")
def known_chunk(hub: HubState, request: Request, name: str) -> Answer:
    xet_user(request)
    return hub.xet.known_chunk(name)
