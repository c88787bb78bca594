"""Where a stage's model comes from: a local folder or a Hub id, what identifies it, how it is loaded."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from curation.errors import RecipeError


def device() -> torch.device:
    """Return the device that stages run their models on: the first GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def identity(model: str) -> str:
    """Return what names a model's weights: a hash of a local folder's files, or the Hub id as given.

    Raises RecipeError if `model` looks like a path and no such folder exists.
    """
    _refuse_missing_folder(model)
    folder = Path(model)
    return f"sha256:{_folder_hash(folder)}" if folder.is_dir() else model


def _refuse_missing_folder(model: str) -> None:
    folder = Path(model)
    names_a_path = folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1 or folder.is_file()
    if names_a_path and not folder.is_dir():
        raise RecipeError(f"no model folder at {model}; expected a from_pretrained folder or a Hub id")


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_hash(path)}\n".encode())
    return digest.hexdigest()[:32]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def reading(model: str) -> Iterator[None]:
    """Turn what `from_pretrained` says about a missing or foreign folder into one RecipeError line."""
    _refuse_missing_folder(model)
    try:
        yield
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise RecipeError(f"cannot load the model {model}: {first_line}") from error


def load(auto_class: Any, model: str, *, unused: tuple[str, ...] = ()) -> torch.nn.Module:
    """Load a model in float32, in evaluation mode, on `device()`; every weight must come from its files.

    `unused`: how the names of weights begin that the task never reads, so that files may lack them.
    Raises RecipeError if the files cannot be read, or lack weights that `auto_class` would otherwise draw at random.
    """
    with reading(model):
        network, info = auto_class.from_pretrained(
            model, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    missing = sorted(name for name in info["missing_keys"] if not name.startswith(unused))
    if missing:
        names = f"{missing[0]} and {len(missing) - 1} more" if len(missing) > 1 else missing[0]
        raise RecipeError(f"{model} holds no weights for {names}: it was not trained for this task")
    return network.eval().to(device())
