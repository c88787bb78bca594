"""What older clients lack in a pipeline that transformers 5 has saved, so that its repository loads with both.

Since 5.6 CLIP's text weights are saved without the prefix that earlier versions look for: those would start them at
random and only warn. Tokenizers are saved as tokenizer.json alone, where earlier versions look for two more files.
Pipelines saved before that, the five bases among them, need nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from safetensors import safe_open
from safetensors.torch import save_file

PREFIX = "text_model."
UNPREFIXED = ("embeddings.", "encoder.", "final_layer_norm.")
CLIP = "CLIPTextModel"  # with a projection it keeps the prefix
VOCABULARY, MERGES = "vocab.json", "merges.txt"


def write_compatible(files: Mapping[str, Path], out: Path) -> None:
    """Write to `out` what has to be added or replaced. `files`: path in the repository -> file of a pipeline."""
    for path, file in files.items():
        place = PurePosixPath(path)
        if place.suffix == ".safetensors" and _is_clip(files.get(str(place.with_name("config.json")))):
            _write_prefixed(file, out / path)
        elif place.name == "tokenizer.json" and str(place.with_name(VOCABULARY)) not in files:
            _write_vocabulary(file, (out / path).parent)


def _is_clip(config: Path | None) -> bool:
    told = json.loads(config.read_text(encoding="utf-8")) if config else {}
    return CLIP in (told.get("architectures") or ())


def _write_prefixed(file: Path, target: Path) -> None:
    """Write the tensors of `file` by their earlier names, unless it has these already."""
    with safe_open(file, framework="pt") as tensors:
        names = list(tensors.keys())
        if not any(name.startswith(UNPREFIXED) for name in names):
            return
        renamed = {f"{PREFIX}{name}" if name.startswith(UNPREFIXED) else name: name for name in names}
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file({new: tensors.get_tensor(old) for new, old in renamed.items()}, target, metadata=tensors.metadata())


def _write_vocabulary(file: Path, folder: Path) -> None:
    """Write a byte-pair tokenizer's vocabulary and merges as files of their own; there are none of other kinds."""
    model = json.loads(file.read_text(encoding="utf-8"))["model"]
    if model.get("type") != "BPE":
        return
    folder.mkdir(parents=True, exist_ok=True)
    merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    (folder / VOCABULARY).write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / MERGES).write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
