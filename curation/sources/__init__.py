"""Where samples come from: a folder, a table of URLs, WebDataset tars, a data set. `open_source` finds out which."""

from pathlib import Path
from typing import Any

from curation.errors import SourceError
from curation.fetch import Limits
from curation.sources import files
from curation.sources.base import EXTENSIONS, Slice, Source
from curation.sources.folder import Folder
from curation.sources.saved import Saved
from curation.sources.stored import Stored
from curation.sources.tables import open_tables
from curation.sources.tars import Tars

__all__ = ["EXTENSIONS", "Slice", "Source", "Stored", "open_source", "reopen"]

KINDS = (
    "a folder of images, a table of URLs (.parquet, .csv, .tsv, .jsonl), WebDataset .tar files, a data set in parquet "
    "or saved by `datasets`, or hf://ORG/NAME"
)


def open_source(location: str | Path, *, allowed: tuple[str, ...] = ()) -> Source:
    """Open a pool. `allowed`: hosts a table's URLs may lead to although they are not public ("127.0.0.1:8000").

    Raises SourceError where there is none, or it holds no sample.
    """
    source = _opened(str(location), Limits(allowed=allowed))
    if not len(source):
        raise SourceError(f"{location} holds no sample: expected {KINDS}")
    return source


def reopen(identity: dict[str, Any], run: Path) -> Source:
    """Open the pool that a run was bound to. Raises SourceError."""
    return stored(open_source(identity["location"], allowed=tuple(identity["options"].get("allowed", ()))), run)


def stored(source: Source, run: Path) -> Source:
    """Return `source`, with a store below `run` where reading it costs a download."""
    return Stored(source=source, folder=run / "images") if source.is_remote else source


def _opened(text: str, limits: Limits) -> Source:
    if text.startswith(files.HUB):
        return open_tables(text, _on_the_hub(text), limits)
    if "://" in text:
        raise SourceError(f"cannot read {text}: expected {KINDS}")
    path = Path(text).expanduser()
    if any(mark in text for mark in "*?[") and not path.exists():
        return _files(text, sorted(map(str, path.parent.resolve().glob(path.name))), limits)
    if not path.exists():
        raise SourceError(f"no such file or folder: {text}")
    path = path.resolve()
    if path.is_file():
        return _files(text, [str(path)], limits)
    return _in_folder(path, limits)


def _in_folder(path: Path, limits: Limits) -> Source:
    if (path / "state.json").is_file():
        return Saved(location=str(path))
    for pattern in ("*.tar", "*.parquet", "data/*.parquet"):
        if found := sorted(map(str, path.glob(pattern))):
            return _files(str(path), found, limits)
    folder = Folder(root=path)
    if not len(folder):
        raise SourceError(f"{path} holds no image ({', '.join(EXTENSIONS)}), archive or table; expected {KINDS}")
    return folder


def _files(location: str, paths: list[str], limits: Limits) -> Source:
    if not paths:
        raise SourceError(f"no file matches {location}")
    location = location if len(paths) > 1 else paths[0]
    if all(path.endswith(".tar") for path in paths):
        return Tars(location=location, paths=tuple(paths))
    if all(path.endswith(files.SUFFIXES) for path in paths):
        return open_tables(location, paths, limits)
    raise SourceError(f"cannot read {location}: expected {KINDS}")


def _on_the_hub(text: str) -> list[str]:
    """The parquet files of a data set on the Hub: its own, or those that the Hub converted it to."""
    name, _, within = text.removeprefix(files.HUB).removeprefix("datasets/").partition("//")
    revision = name.partition("@")[2]
    patterns = [f"datasets/{name}/{within or '**/*.parquet'}"]
    if not within and not revision:
        patterns.append(f"datasets/{name}@~parquet/**/*.parquet")
    for pattern in patterns:
        try:
            found = files.hub_files(pattern)
        except OSError as error:
            raise SourceError(f"cannot read {text}: {str(error).strip().splitlines()[0]}") from error
        train = [path for path in found if "train" in path]
        if found:
            return train or found
    raise SourceError(f"{text}: no parquet file there; expected hf://ORG/NAME of a data set, or hf://ORG/NAME//PATTERN")
