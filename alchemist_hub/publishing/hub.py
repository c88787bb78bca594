"""To the Hub and into its repositories: the only place that writes there.

A repository changes by one commit, so that no reader ever meets half of it. Contents that are there already are not
sent again: the Hub is asked for its tree first. What fails for a reason that passes is tried again, with growing waits.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile

from alchemist_hub.errors import PublishError
from alchemist_hub.publishing.trees import Tree

MARK = "alchemist"  # the tag by which a card says that it comes from here
README = "README.md"
GIVEN = {".gitattributes", README}  # what the Hub itself puts into a new repository
PAPER = "2505.19297"
COLLECTION = "Alchemist: public text-to-image data, turned into gold"
DESCRIPTION = "The paper, the open implementation's data set, its fine-tuned models and the app that compares them."
TRIES = 6
PASSING = {408, 412, 429, 500, 502, 503, 504}  # 412: somebody else has committed since the tree was read
LONGEST_WAIT = 60.0  # seconds
Result = TypeVar("Result")
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Target:
    """How a repository is to be published. `revision`: a branch, made where it is missing."""

    private: bool = False
    revision: str | None = None
    create_pr: bool = False


@dataclass(frozen=True, kw_only=True)
class Published:
    """What is where. Counts are of files; a pull request has a page of its own."""

    kind: str
    url: str
    commit: str
    sent: int = 0
    removed: int = 0
    unchanged: int = 0


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a commit on `parent` has to change."""

    parent: str
    added: Mapping[str, Path]
    removed: Sequence[str]
    unchanged: int


class Hub:
    """One session with the Hub of HF_ENDPOINT, as whoever the token belongs to."""

    def __init__(
        self,
        organisation: str,
        *,
        api: HfApi | None = None,
        say: Callable[[str], None] = print,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.organisation = organisation
        self._api = api or HfApi(library_name="alchemist-hub")
        self._say, self._sleep = say, sleep

    def enter(self) -> None:
        """Raise PublishError, in one line, unless the token may write to the organisation's name."""
        try:
            account = self._patiently(self._api.whoami, "asking who this is")
        except LocalTokenNotFoundError as error:
            raise PublishError("no token for the Hub: run `hf auth login`, or set HF_TOKEN") from error
        names = [account["name"], *(each["name"] for each in account.get("orgs", []))]
        if self.organisation not in names:
            raise PublishError(
                f"{account['name']} cannot publish as {self.organisation}; this token's names are {', '.join(names)}: "
                "choose one with --org, or ask to be let into the organisation"
            )

    def publish(self, tree: Tree, target: Target) -> Published:
        """Make the repository hold exactly the tree, in one commit; return where it is. Raises PublishError."""
        kind, name = tree.kind, tree.repository
        space = {"space_sdk": "gradio"} if kind == "space" else {}
        self._patiently(
            lambda: self._api.create_repo(name, repo_type=kind, private=target.private, exist_ok=True, **space),
            f"making {name}",
        )
        self._refuse_foreign(tree)
        if target.revision and not target.create_pr:
            self._patiently(
                lambda: self._api.create_branch(name, branch=target.revision, repo_type=kind, exist_ok=True),
                f"making the branch {target.revision} of {name}",
            )
        return self._patiently(lambda: self._send(tree, target), f"publishing {name}")

    def collect(self, items: Sequence[tuple[str, str]], *, private: bool = False) -> Published:
        """Put the paper and `items`, (kind, repository), into the collection; return where it is."""
        collection = self._patiently(
            lambda: self._api.create_collection(
                COLLECTION,
                namespace=self.organisation,
                description=DESCRIPTION,
                private=private,
                exists_ok=True,
            ),
            "making the collection",
        )
        wanted = [("paper", PAPER), *items]
        there = {(item.item_type, item.item_id) for item in self._api.get_collection(collection.slug).items}
        missing = [item for item in wanted if item not in there]
        for kind, name in missing:
            self._patiently(
                lambda kind=kind, name=name: self._api.add_collection_item(
                    collection.slug, item_id=name, item_type=kind, exists_ok=True
                ),
                f"collecting {name}",
            )
        return Published(
            kind="collection",
            url=collection.url,
            commit="",
            sent=len(missing),
            unchanged=len(wanted) - len(missing),
        )

    def existing(self, items: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of (kind, repository) that are on the Hub."""
        return [
            (kind, name)
            for kind, name in items
            if self._patiently(
                lambda kind=kind, name=name: self._api.repo_exists(name, repo_type=kind), f"looking for {name}"
            )
        ]

    def append(self, name: str, files: Mapping[str, bytes], card: str) -> str:
        """Add `files` (path -> content) to the data set `name`, made where there is none; return the commit.

        Nothing that is there is changed or taken away, and a file that is there with this content is not sent again.
        `card` is for a data set without one. Raises PublishError, also where a path is taken by another content.
        """
        self._patiently(
            lambda: self._api.create_repo(name, repo_type="dataset", private=True, exist_ok=True), f"making {name}"
        )
        return self._patiently(lambda: self._append(name, files, card), f"adding to {name}")

    def _append(self, name: str, files: Mapping[str, bytes], card: str) -> str:
        """One attempt: see what is there, add the rest in one commit."""
        parent = self._api.repo_info(name, repo_type="dataset").sha
        wanted = {**files, README: card.encode()}
        found = self._api.get_paths_info(name, list(wanted), repo_type="dataset", revision=parent)
        there = {entry.path: entry for entry in found if isinstance(entry, RepoFile)}
        if taken := [path for path in files if path in there and not _holds(files[path], there[path])]:
            raise PublishError(f"{name} holds another {taken[0]}: votes are only ever added")
        missing = {path: content for path, content in wanted.items() if path not in there}
        if set(missing) <= {README}:
            return parent
        made = self._api.create_commit(
            name,
            [CommitOperationAdd(path, content) for path, content in missing.items()],
            commit_message="Add votes",
            repo_type="dataset",
            parent_commit=parent,
        )
        return made.oid

    def _refuse_foreign(self, tree: Tree) -> None:
        """Raise PublishError where a repository of that name holds something that was not published from here."""
        info = self._patiently(
            lambda: self._api.repo_info(tree.repository, repo_type=tree.kind), f"reading {tree.repository}"
        )
        tags = (info.card_data or {}).get("tags") or []
        if {file.rfilename for file in info.siblings or []} - GIVEN and MARK not in tags:
            raise PublishError(
                f"{tree.repository} exists and was not published from here (its card has no tag {MARK}): rename or "
                "delete it there, or choose another --org"
            )

    def _send(self, tree: Tree, target: Target) -> Published:
        """One attempt: compare, send what is missing, commit."""
        kind, name = tree.kind, tree.repository
        revision = None if target.create_pr else target.revision
        change = self._difference(tree, revision)
        counts = {"removed": len(change.removed), "unchanged": change.unchanged}
        if not (change.added or change.removed):
            return Published(kind=kind, url=self._url(tree, revision), commit=change.parent, **counts)
        size = sum(file.stat().st_size for file in change.added.values())
        self._say(f"{name}: {len(change.added)} files to send, {size / 1e6:,.1f} MB; {change.unchanged} are there")
        additions = [CommitOperationAdd(path, str(file)) for path, file in change.added.items()]
        where: dict[str, Any] = {"repo_type": kind, "revision": revision, "create_pr": target.create_pr}
        self._api.preupload_lfs_files(name, additions, free_memory=False, **where)
        made = self._api.create_commit(
            name,
            [*additions, *(CommitOperationDelete(path) for path in change.removed)],
            commit_message="Publish from alchemist-hub",
            parent_commit=change.parent,
            **where,
        )
        url = made.pr_url or self._url(tree, revision)
        return Published(kind=kind, url=url, commit=made.oid, sent=len(additions), **counts)

    def _difference(self, tree: Tree, revision: str | None) -> Difference:
        """Hold the tree against the repository's, by the hashes that the Hub itself names files by."""
        where = {"repo_type": tree.kind, "revision": revision}
        parent = self._api.repo_info(tree.repository, **where).sha
        listed = self._api.list_repo_tree(tree.repository, recursive=True, repo_type=tree.kind, revision=parent)
        there = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
        added = {
            path: file for path, file in tree.files.items() if path not in there or not _is_same(file, there[path])
        }
        return Difference(
            parent=parent,
            added=added,
            removed=sorted(set(there) - set(tree.files) - {".gitattributes"}),
            unchanged=len(tree.files) - len(added),
        )

    def _url(self, tree: Tree, revision: str | None) -> str:
        folder = {"model": "", "dataset": "datasets/", "space": "spaces/"}[tree.kind]
        return f"{self._api.endpoint}/{folder}{tree.repository}" + (f"/tree/{revision}" if revision else "")

    def _patiently(self, attempt: Callable[[], Result], doing: str) -> Result:
        """Return what `attempt` returns, tried again where it failed for a reason that passes. Raises PublishError."""
        for tried in range(1, TRIES + 1):
            try:
                return attempt()
            except HfHubHTTPError as error:
                status = error.response.status_code if error.response is not None else None
                if status not in PASSING or tried == TRIES:
                    raise PublishError(f"{doing}: {_told(error, status)}") from error
                reason, asked = f"the Hub answers {status}", _seconds(error.response.headers.get("Retry-After"))
            except OfflineModeIsEnabled as error:
                raise PublishError(f"{doing}: HF_HUB_OFFLINE is set; unset it to publish") from error
            except (httpx2.TransportError, ConnectionError, RuntimeError) as error:  # RuntimeError: hf_xet's own
                if tried == TRIES:
                    raise PublishError(f"{doing}: the Hub cannot be reached ({_line(error)})") from error
                reason, asked = "the connection broke", None
            wait = min(asked if asked is not None else 2.0 ** (tried - 1), LONGEST_WAIT)
            self._say(f"{doing}: {reason}; again in {wait:g} s ({tried} of {TRIES - 1})")
            self._sleep(wait)
        raise AssertionError("unreachable")


def _is_same(file: Path, there: RepoFile) -> bool:
    """Whether a local file is the one in the repository."""
    if file.stat().st_size != there.size:
        return False
    digest = _digest_of(there)
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest() == _id(there)


def _digest_of(there: RepoFile) -> Any:
    """Return the hash, still empty, that the Hub names this file by."""
    return hashlib.sha256() if there.lfs else hashlib.sha1(b"blob %d\0" % there.size)


def _id(there: RepoFile) -> str:
    return there.lfs.sha256 if there.lfs else there.blob_id


def _holds(content: bytes, there: RepoFile) -> bool:
    """Whether the file in the repository has this content."""
    digest = _digest_of(there)
    digest.update(content)
    return len(content) == there.size and digest.hexdigest() == _id(there)


def append_to_dataset(repository: str, files: Mapping[str, bytes], card: str) -> str:
    """Add files to a data set on the Hub of HF_ENDPOINT; as `Hub.append`, with a session of its own."""
    return Hub(repository.partition("/")[0], say=log.info).append(repository, files, card)


def _told(error: HfHubHTTPError, status: int | None) -> str:
    """Return in one line what the Hub refused, and what to do."""
    if status == 401:
        return "the Hub does not accept the token: run `hf auth login`, or set another HF_TOKEN"
    if status == 403:
        return "this token may not write there: it needs write access, and membership in the organisation"
    return f"the Hub answers {status}: {error.server_message or _line(error)}"


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), repr(error))


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdecimal() else None
