"""Weights of public networks: a folder or a Hub repository, safetensors only, and the revision that was read.

Nothing here opens a pickle. Where authors publish one only (HPSv2.1, ImageReward, the aesthetic predictor), convert
it once, in a throw-away environment without network and without your data, and pass the result:

    import torch
    from safetensors.torch import save_file
    state = torch.load("HPS_v2.1_compressed.pt", map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    save_file({name: value.clone().contiguous() for name, value in state.items()}, "hps_v2.1.safetensors")
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file

from alchemist_hub.errors import ModelError

State = dict[str, torch.Tensor]

MODEL = ("config.json", "model.safetensors")
TOKENIZER = ("tokenizer.json",)
BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "vocab.txt")  # where there


@dataclass(frozen=True, kw_only=True)
class Published:
    """Where files are published: a repository at one commit, so that scores of different days can be compared."""

    repository: str
    revision: str
    files: tuple[str, ...]
    gigabytes: float


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Files on this machine, and what to call them in a report."""

    path: Path
    source: str
    revision: str  # a commit of the Hub, or "sha256:" and 12 hex digits over the files' bytes


def fetch(published: Published, instead: str | Path | None = None) -> Fetched:
    """Return the folder of `published`, downloaded unless it is in the Hub's cache.

    `instead` is a folder with the same files, or another repository, of which the newest commit is read. Raises
    ModelError, in one line that says what to download, if a file is missing.
    """
    if instead is None:
        return _from_hub(published, published.repository, published.revision)
    if Path(instead).is_dir():
        return _from_folder(published, Path(instead))
    if str(instead).count("/") == 1 and not Path(instead).is_absolute() and not str(instead).startswith("."):
        return _from_hub(published, str(instead), None)
    raise ModelError(f"{instead} does not exist; expected a folder with {', '.join(published.files)}, or a repository")


def fetch_file(path: str | Path | None, *, what: str, published_as: str) -> Fetched:
    """Return one safetensors file that the user has to bring. Raises ModelError, saying where it comes from."""
    if path is None:
        raise ModelError(
            f"{what} needs weights: its authors publish a pickle only ({published_as}), which is never opened here; "
            "convert it once as the page of alchemist_hub.evaluation.pretrained says, and pass the .safetensors file"
        )
    path = Path(path)
    if path.suffix != ".safetensors" or not path.is_file():
        raise ModelError(f"{what}: expected a .safetensors file, got {path}; {published_as} has to be converted first")
    return Fetched(path=path, source=path.name, revision=content_hash([path]))


def content_hash(paths: list[Path]) -> str:
    """Return "sha256:" and 12 hex digits over names and bytes."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()[:12]}"


def read_network(network_class: type, folder: Path) -> Any:
    """Read a network in float32 from a folder's safetensors, complete. Raises ModelError if any weight is missing."""
    try:
        network, found = network_class.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder.name} cannot be read as a {network_class.__name__}: {_first_line(error)}") from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder.name} is no whole {network_class.__name__}: {len(missing)} weights miss, {missing[0]}"
        )
    return network


def read_tokenizer(tokenizer_class: type, folder: Path) -> Any:
    """Read a tokenizer. Raises ModelError."""
    try:
        return tokenizer_class.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder.name} holds no {tokenizer_class.__name__}: {_first_line(error)}") from error


def read_state(path: Path) -> State:
    """Return every tensor of a safetensors file. Raises ModelError."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path.name} is no safetensors file: {_first_line(error)}") from error


def depth(state: State, prefix: str) -> int:
    """Return how many numbered layers there are below `prefix`."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _from_folder(published: Published, folder: Path) -> Fetched:
    if missing := _missing(published, folder):
        raise ModelError(f"{folder} lacks {missing}; only safetensors are read, never a pickle")
    paths = [folder / name for name in published.files]
    return Fetched(path=folder, source=folder.name, revision=content_hash(paths))


def _from_hub(published: Published, repository: str, revision: str | None) -> Fetched:
    folder = _cached(published, repository, revision) or _downloaded(published, repository, revision)
    if missing := _missing(published, folder):  # cut off, or a repository with a pickle only
        raise ModelError(f"{repository} lacks {missing}: {_advice(published, repository, revision)}")
    return Fetched(path=folder, source=repository, revision=folder.name)


def _cached(published: Published, repository: str, revision: str | None) -> Path | None:
    """Return the cache's folder of one commit if it is complete; asked first, so that no network is needed."""
    if revision is None:
        return None
    try:
        found = snapshot_download(
            repository, revision=revision, allow_patterns=list(published.files), local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    folder = Path(found)
    return None if _missing(published, folder) else folder


def _downloaded(published: Published, repository: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[*published.files, *BESIDE]))
    except (OSError, ValueError) as error:  # the Hub's own errors are OSErrors; a malformed name is a ValueError
        reason = _advice(published, repository, revision)
        raise ModelError(f"{repository} is not on this machine and cannot be downloaded: {reason}") from error


def _missing(published: Published, folder: Path) -> str:
    return ", ".join(name for name in published.files if not (folder / name).is_file())


def _advice(published: Published, repository: str, revision: str | None) -> str:
    at = f" --revision {revision}" if revision else ""
    return (
        f"get {published.gigabytes:g} GB, safetensors only, where there is a network: "
        f"hf download {repository} {' '.join(published.files)}{at}"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
