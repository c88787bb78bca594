"""Repositories on disk: contents by their SHA-256, commits as lists of files, and refs that say which commit is seen.

    blobs/SHA256                          the bytes of every file, once
    models/NAMESPACE/NAME/settings.json   visibility, gate
    models/NAMESPACE/NAME/commits/OID     a commit, whole
    models/NAMESPACE/NAME/refs/NAME       the commit a branch is at

Everything is written under another name and renamed, and a ref last: a commit is seen whole or not at all.
"""

import hashlib
import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote, unquote

from hub_server.answers import Refusal

KINDS = ("models", "datasets", "spaces")
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a commit: its content, and what git calls it."""

    sha256: str
    size: int
    git_oid: str  # SHA-1 of git's blob: of the content, or of the pointer to it
    lfs: bool


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A whole tree, and where it came from."""

    oid: str
    parent: str | None
    title: str
    date: str
    files: dict[str, File]  # by path


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Write `path` under another name and rename it; if `pieces` raises, nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as file:
            file.writelines(pieces)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


class Blobs:
    """Contents by SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def __contains__(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def add(self, pieces: Iterable[bytes], *, sha256: str | None = None) -> str:
        """Keep these bytes and return their SHA-256; refuse bytes that are not those that `sha256` promised."""
        digest, arriving = hashlib.sha256(), self.folder / f"arriving-{uuid.uuid4().hex}"

        def hashed() -> Iterable[bytes]:
            for piece in pieces:
                digest.update(piece)
                yield piece

        write_whole(arriving, hashed())
        if sha256 not in (None, digest.hexdigest()):
            arriving.unlink()
            raise Refusal(400, f"these bytes are {digest.hexdigest()}, not {sha256}")
        os.replace(arriving, self.path(digest.hexdigest()))
        return digest.hexdigest()


class Repository:
    """One repository: settings, commits, refs."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self.folder, self.blobs = folder, blobs
        self.kind, self.id = folder.parts[-3], "/".join(folder.parts[-2:])
        self._lock = threading.Lock()

    @property
    def prefix(self) -> str:
        """The repository's path on the web: models live at the root."""
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    @property
    def settings(self) -> dict:
        return json.loads((self.folder / "settings.json").read_bytes())

    def set(self, **changes: object) -> None:
        settings = (self.settings if self.exists() else {"created": now()}) | changes
        write_whole(self.folder / "settings.json", [json.dumps(settings).encode()])

    def exists(self) -> bool:
        return (self.folder / "settings.json").is_file()

    def refs(self) -> dict[str, str]:
        """Return ref -> commit: `main`, another branch, `refs/pr/1`."""
        found = [path for path in (self.folder / "refs").glob("*") if not path.name.startswith(".")]
        return {unquote(path.name): path.read_text() for path in sorted(found)}

    def point(self, ref: str, oid: str) -> None:
        write_whole(self.folder / "refs" / quote(ref, safe=""), [oid.encode()])

    def drop(self, ref: str) -> None:
        (self.folder / "refs" / quote(ref, safe="")).unlink()

    def commit(self, revision: str) -> Commit:
        """Return the commit that a branch, a pull request or a commit's own name stands for."""
        oid = self.refs().get(revision, revision)
        path = self.folder / "commits" / oid
        if not re.fullmatch("[0-9a-f]{40}", oid) or not path.is_file():
            raise Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        told = json.loads(path.read_bytes())
        return Commit(**{**told, "files": {name: File(**file) for name, file in told["files"].items()}})

    def file(self, content: bytes) -> File:
        """Keep a content that travels in the commit itself."""
        return File(sha256=self.blobs.add([content]), size=len(content), git_oid=git_oid(content), lfs=False)

    def large_file(self, sha256: str) -> File:
        """Point to a content that was uploaded before the commit."""
        if sha256 not in self.blobs:
            raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        size = self.blobs.path(sha256).stat().st_size
        pointer = POINTER.format(sha256=sha256, size=size).encode()
        return File(sha256=sha256, size=size, git_oid=git_oid(pointer), lfs=True)

    def add_commit(
        self, ref: str, changes: dict[str, File | None], title: str, *, on: str | None = None, parent: str | None = None
    ) -> Commit:
        """Move `ref` from where it is (or from `on`) to a new commit; None as a file deletes a path, "a/" a folder.

        Refuses with 412 where `parent` is given and is not where the ref is.
        """
        with self._lock:
            before = self.commit(on or ref) if self.refs() else None
            if parent not in (None, before and before.oid):
                raise Refusal(412, "A commit has happened since. Please refresh and try again.")
            files = dict(before.files) if before else {}
            for path, file in changes.items():
                gone = [name for name in files if name == path or (path.endswith("/") and name.startswith(path))]
                for name in gone:
                    del files[name]
                if file is not None:
                    files[path] = file
            told = {"parent": before and before.oid, "title": title, "date": now()}
            told["files"] = {name: asdict(files[name]) for name in sorted(files)}
            oid = hashlib.sha1(json.dumps(told).encode()).hexdigest()
            write_whole(self.folder / "commits" / oid, [json.dumps({"oid": oid, **told}).encode()])
            self.point(ref, oid)
            return self.commit(oid)

    def history(self, revision: str) -> list[Commit]:
        """Return the commits that led to `revision`, newest first."""
        commits = [self.commit(revision)]
        while commits[-1].parent:
            commits.append(self.commit(commits[-1].parent))
        return commits


class Store:
    """All repositories below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = Blobs(folder / "blobs")
        self._open: dict[tuple[str, str], Repository] = {}
        self._lock = threading.Lock()

    def repository(self, kind: str, name: str) -> Repository:
        """Return a repository, there or not."""
        namespace, _, own = name.partition("/")
        if kind not in KINDS or not NAME.fullmatch(namespace) or not NAME.fullmatch(own):
            raise Refusal(400, f"Invalid repository name: {kind}/{name}")
        with self._lock:  # one object each, as it holds the lock of its commits
            return self._open.setdefault((kind, name), Repository(self.folder / kind / namespace / own, self.blobs))

    def delete(self, repository: Repository) -> None:
        gone = self.folder / f"deleted-{uuid.uuid4().hex}"
        repository.folder.replace(gone)
        shutil.rmtree(gone)
