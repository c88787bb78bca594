"""Prompts by name or from a file: the project's own, the miniature's, public sets on the Hub, yours.

A part of a set is spread evenly over it, so that a set sorted by category keeps all of them; the same count is always
the same prompts. Prompts that repeat are asked once: an evaluation counts prompts as independent.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.results import PromptSource
from alchemist_hub.models import revision

PROJECT = Path(__file__).parent / "prompt_sets" / "project.csv"
MINIATURE = "miniature"
COUNT = 200  # of a set by name: MJHQ has 30,000, and the miniature's world makes any number
MINIATURE_SEED = 0
LONGEST = 2000  # characters: more is no prompt but another file


@dataclass(frozen=True)
class Prompt:
    """What a model is asked for."""

    text: str
    category: str | None = None


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Prompts and where they are from. Those of the miniature also know what a picture of them has to show."""

    source: PromptSource
    prompts: tuple[Any, ...]  # each with a `text`


@dataclass(frozen=True)
class HubSet:
    """A public set: the repository, its one file or pattern of files."""

    repository: str
    files: str


HUB = {
    "parti": HubSet("nateraw/parti-prompts", "*.tsv"),
    "mjhq": HubSet("playgroundai/MJHQ-30K", "meta_data.json"),
    "drawbench": HubSet("sayakpaul/drawbench", "*.parquet"),
}
NAMES = ("project", MINIATURE, *HUB)


def load(name: str, count: int | None = None) -> PromptSet:
    """Return the prompts of a set's name or of a file: `count` of them; else 200 of a set, and all of a file.

    A file is .txt with a prompt a line, or .csv, .tsv, .parquet, .jsonl or .json with a column prompt and perhaps
    category. Raises EvaluationError for an unknown name, a file that cannot be read or holds none, a count below 1.
    """
    if count is not None and count < 1:
        raise EvaluationError(f"{count} prompts are too few: --count is 1 or more")
    if name == MINIATURE:
        return miniature(count or COUNT)
    if name == "project":
        found, source = read_file(PROJECT), PromptSource(name=name)
    elif name in HUB:
        found, source = _from_hub(name)
    elif Path(name).is_file():
        found, source = read_file(Path(name)), PromptSource(name=Path(name).stem)
    else:
        raise EvaluationError(f"no prompts called {name}: expected {', '.join(NAMES)} or a file that exists")
    usual = COUNT if name in NAMES else None
    return PromptSet(source=source, prompts=tuple(spread(found, count or usual)))


def read_file(path: Path) -> list[Prompt]:
    """Return the prompts of a file, each once, in its order. Raises EvaluationError."""
    prompts = list(_cleaned(_rows(path), path))
    if not prompts:
        raise EvaluationError(f"{path} holds no prompts")
    return prompts


def spread(items: Sequence[Prompt], count: int | None) -> list[Prompt]:
    """Return `count` items evenly over all, the first among them; all if there are fewer or no count is given."""
    if count is None or count >= len(items):
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]


def miniature(count: int = COUNT, *, seed: int = MINIATURE_SEED) -> PromptSet:
    """Return prompts of the miniature's world, which know what a picture of them has to show."""
    from alchemist_hub.miniature.world import prompts  # draws with cv2: only for those who need it

    source = PromptSource(name=MINIATURE, source=f"made from seed {seed}")
    return PromptSet(source=source, prompts=tuple(prompts(count, seed=seed)))


def _from_hub(name: str) -> tuple[list[Prompt], PromptSource]:
    from huggingface_hub import snapshot_download

    known = HUB[name]
    try:
        folder = Path(snapshot_download(known.repository, repo_type="dataset", allow_patterns=[known.files]))
    except (OSError, ValueError) as error:  # the Hub's own errors are OSErrors
        reason = str(error.__cause__ or error).strip().splitlines()[0].rstrip(".")
        raise EvaluationError(
            f"the prompts {name} are {known.repository} on the Hub, which cannot be downloaded: {reason}; "
            "prompts that need no network: project, miniature or a file"
        ) from error
    files = sorted(path for path in folder.rglob(known.files) if path.is_file())
    if not files:
        raise EvaluationError(f"{known.repository} holds no {known.files}: its layout has changed; give a file instead")
    prompts = [prompt for path in files for prompt in read_file(path)]
    return prompts, PromptSource(name=name, source=known.repository, revision=revision(folder))


def _rows(path: Path) -> list[tuple[Any, Any]]:
    """Return (prompt, category) of every row."""
    try:
        if path.suffix == ".txt":
            return [(line, None) for line in path.read_text(encoding="utf-8-sig").splitlines()]
        return _columns(_table(path), path)
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except (OSError, ValueError, pa.ArrowException) as error:  # ValueError: what pandas and json raise for bad tables
        raise EvaluationError(f"{path} cannot be read as {path.suffix}: {str(error).splitlines()[0]}") from error


def _table(path: Path) -> pd.DataFrame:
    if path.suffix in (".csv", ".tsv"):
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str, encoding="utf-8-sig")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        return pd.DataFrame([json.loads(line) for line in lines if line.strip()])
    if path.suffix == ".json":
        found = json.loads(path.read_text(encoding="utf-8"))
        return pd.DataFrame(list(found.values()) if isinstance(found, dict) else found)
    raise EvaluationError(f"{path} is no prompt file: expected .txt, .csv, .tsv, .parquet, .jsonl or .json")


def _columns(table: pd.DataFrame, path: Path) -> list[tuple[Any, Any]]:
    named = {str(column).lower(): column for column in table.columns}
    column = named.get("prompt", named.get("prompts"))
    if column is None:
        held = ", ".join(map(str, table.columns)) or "none"
        raise EvaluationError(f"{path} has no column prompt; its columns: {held}")
    categories = table[named["category"]] if "category" in named else [None] * len(table)
    return list(zip(table[column], categories, strict=True))


def _cleaned(rows: Iterable[tuple[Any, Any]], path: Path) -> Iterable[Prompt]:
    seen = set()
    for text, category in rows:
        text = " ".join(str(text).split()) if isinstance(text, str) else ""
        if len(text) > LONGEST:
            raise EvaluationError(f"{path} holds a prompt of {len(text)} characters; the longest may have {LONGEST}")
        if text and text not in seen:
            seen.add(text)
            yield Prompt(text, category if isinstance(category, str) else None)
