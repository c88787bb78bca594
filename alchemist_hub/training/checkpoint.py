"""What training leaves on disk: snapshots to resume from while it runs, and the tuned pipeline at its end.

Weights, optimiser state and averages are safetensors, positions and recipes are JSON; nothing is pickled. Every folder
is written under another name and renamed when it is whole, so whatever is there can be trusted.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from alchemist_hub.errors import ModelError, TrainingError

RECORD = "training.json"  # the marker of a finished checkpoint, and what it came from
_POSITION = "position.json"
_WEIGHTS = "diffusion_pytorch_model"
_SHARD = "5GB"  # a tuned denoiser's file at most: the Hub's own advice
_PICKLED = shutil.ignore_patterns("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl", "*.msgpack")  # a base may hold them too
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run between two steps. The tensors are named as in the denoiser."""

    step: int  # steps done; with the recipe's seed this is the whole state of the randomness
    seconds: float  # spent so far, over all starts
    weights: dict[str, Tensor]  # float32
    average: dict[str, Tensor]  # float32
    optimizer: dict[str, Tensor]  # "parameter/what"


def save_snapshot(folder: Path, snapshot: Snapshot, *, keep: int) -> None:
    """Write `snapshot` into `folder` and remove all but the newest `keep`."""
    with whole_folder(folder / f"step-{snapshot.step:08d}") as part:
        save_file(_plain(snapshot.weights), part / "weights.safetensors")
        save_file(_plain(snapshot.average), part / "average.safetensors")
        save_file(_plain(snapshot.optimizer), part / "optimizer.safetensors")
        (part / _POSITION).write_text(json.dumps({"step": snapshot.step, "seconds": snapshot.seconds}))
    for old in _snapshots(folder)[:-keep]:
        shutil.rmtree(old)


def load_snapshot(folder: Path) -> Snapshot | None:
    """Return the newest snapshot in `folder`, or None where there is none."""
    if not (found := _snapshots(folder)):
        return None
    return Snapshot(
        **json.loads((found[-1] / _POSITION).read_text()),
        weights=load_file(found[-1] / "weights.safetensors"),
        average=load_file(found[-1] / "average.safetensors"),
        optimizer=load_file(found[-1] / "optimizer.safetensors"),
    )


def _snapshots(folder: Path) -> list[Path]:
    return sorted(position.parent for position in folder.glob(f"step-*/{_POSITION}"))


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """Return the optimiser's state as named tensors; `names` are those of its parameters, in order."""
    state = optimizer.state_dict()["state"]
    return {f"{names[index]}/{what}": value for index, entry in state.items() for what, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, names: list[str], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    number, state = {name: index for index, name in enumerate(names)}, {}
    for key, value in tensors.items():
        name, what = key.rsplit("/", 1)
        state.setdefault(number[name], {})[what] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write_checkpoint(base: Path, weights: Mapping[str, Tensor], out: Path, record: Mapping[str, Any]) -> None:
    """Write the tuned pipeline folder `out`: `base` with other denoiser weights, and `record` as training.json.

    The denoiser is saved in the data types of the base's file, in shards where it is large. Every other component and
    every configuration is the base's, byte for byte, so that each library version which loads the base loads the
    result; weights in other formats than safetensors are left out. Raises `ModelError`, and `TrainingError` for a full
    disk.
    """
    denoiser = denoiser_name(base)
    with whole_folder(out) as part:
        shutil.copyfile(base / "model_index.json", part / "model_index.json")
        for name in component_names(base):
            if name != denoiser:
                shutil.copytree(base / name, part / name, ignore=_PICKLED)
        (part / denoiser).mkdir()
        shutil.copyfile(base / denoiser / "config.json", part / denoiser / "config.json")
        dtypes = stored_dtypes(base / denoiser, weights)
        saved = {name: weight.detach().to("cpu", dtypes[name]) for name, weight in weights.items()}
        pattern = f"{_WEIGHTS}{{suffix}}.safetensors"
        save_torch_state_dict(_plain(saved), part / denoiser, filename_pattern=pattern, max_shard_size=_SHARD)
        (part / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def component_names(pipeline: Path) -> list[str]:
    """Return the components that a pipeline folder holds, as its model_index.json lists them."""
    index = json.loads((pipeline / "model_index.json").read_text())
    listed = [name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
    missing = [name for name in listed if not (pipeline / name).is_dir()]
    if missing:
        raise ModelError(f"{pipeline} is incomplete: {', '.join(missing)} is listed in model_index.json but not there")
    return listed


def component_hashes(pipeline: Path) -> dict[str, str]:
    """Return the SHA-256 of each component of a pipeline folder: of its file names and bytes."""
    return {name: _folder_hash(pipeline / name) for name in component_names(pipeline)}


def denoiser_name(pipeline: Path) -> str:
    """Return "unet" or "transformer", whichever the pipeline has. Raises `ModelError`."""
    for name in component_names(pipeline):
        if name in ("unet", "transformer"):
            return name
    raise ModelError(f"{pipeline} has neither a unet nor a transformer: there is nothing to fine-tune")


def stored_dtypes(component: Path, names: Iterable[str]) -> dict[str, torch.dtype]:
    """Return the data type of every tensor in a component's weight files.

    Raises `ModelError` where they hold other tensors than `names`: such a base could not be written back.
    """
    dtypes = {}
    files = [component / f"{_WEIGHTS}.safetensors"]
    if not files[0].is_file():  # large ones come in parts, listed in an index
        files = sorted(component.glob(f"{_WEIGHTS}-*-of-*.safetensors"))
    if not files:
        raise ModelError(f"{component} holds no {_WEIGHTS}.safetensors")
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            dtypes |= {name: _DTYPES[tensors.get_slice(name).get_dtype()] for name in tensors.keys()}  # noqa: SIM118
    if dtypes.keys() != set(names):
        raise ModelError(f"{component}: its weights file and its class name different tensors")
    return dtypes


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `folder` when the block ends well; until then `folder` is untouched.

    Raises `TrainingError` where the disk refuses, with everything that was finished before still there.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed here
    try:
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise TrainingError(f"{folder} cannot be written: {reason}; the last snapshot is kept, run again") from error


def write_whole(file: Path, text: str) -> None:
    """Write a small file so that it is either there as a whole or not at all."""
    part = file.with_name(f".{file.name}.part")
    part.write_text(text)
    part.replace(file)


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        digest.update(path.stat().st_size.to_bytes(8, "big"))
    return digest.hexdigest()


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
