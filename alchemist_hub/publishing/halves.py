"""The fp16 variant of a pipeline: every safetensors file in half precision, under the names that `variant` looks for.

Tensor by tensor rather than through the models: names stay those of the files, which older clients know too, and one
file is in memory at a time.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from alchemist_hub.errors import PublishError

VARIANT = "fp16"
SHARD = re.compile(r"(?P<stem>.+?)(?P<number>-\d{5}-of-\d{5})?\.safetensors$")
INDEX = ".safetensors.index.json"


def write_half(files: Mapping[str, Path], out: Path) -> None:
    """Write the variant's files to `out`, a folder per component.

    `files`: path in the repository -> file of a pipeline. Raises PublishError where a weight is too large.
    """
    sizes: dict[Path, int] = {}
    for path in (path for path in files if path.endswith(".safetensors") and f".{VARIANT}" not in path):
        file, place = files[path], (out / path).with_name(half_name(path.rpartition("/")[2]))
        place.parent.mkdir(parents=True, exist_ok=True)
        with safe_open(file, framework="pt") as tensors:
            halves = {name: _half(tensors.get_tensor(name), name, file) for name in tensors.keys()}  # noqa: SIM118
            save_file(halves, place, metadata=tensors.metadata())
        sizes[place] = sum(tensor.nbytes for tensor in halves.values())
    for path in (path for path in files if path.endswith(INDEX)):
        folder, told = (out / path).parent, json.loads(files[path].read_text(encoding="utf-8"))
        told["weight_map"] = {name: half_name(file) for name, file in told["weight_map"].items()}
        told["metadata"] = {"total_size": sum(sizes[folder / name] for name in set(told["weight_map"].values()))}
        place = (out / path).with_suffix(f".{VARIANT}.json")
        place.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def half_name(name: str) -> str:
    """Return the variant's name of a weights file: model-00001-of-00002 becomes model.fp16-00001-of-00002."""
    match = SHARD.fullmatch(name)
    return f"{match['stem']}.{VARIANT}{match['number'] or ''}.safetensors"


def _half(tensor: torch.Tensor, name: str, file: Path) -> torch.Tensor:
    """Return a tensor in half precision; one that holds no floating point numbers stays as it is."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.to(torch.float16)
    if not torch.isfinite(half).all():
        raise PublishError(f"{name} of {file} does not fit half precision; publish without --fp16")
    return half
