"""What this machine can run, found out without loading a model, a weight or PyTorch where there is no card."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from alchemist_hub.models import ModelSpec

GIB = 2**30
BYTES = 2  # of a number on a card: bfloat16, or float16 on cards that lack it
WORKING_SPACE = 3 * GIB  # activations of one picture at native size, decoding it, and the driver: an allowance
SMALL = 100_000_000  # parameters; a denoiser below this paints in seconds on a processor
LENT_CARD = 70 * GIB  # what ZeroGPU lends
HEADROOM = 0.9  # of host memory that weights may take while they are read


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What decides whether a pair can run. Memory in bytes."""

    card: int | None  # None: no GPU
    host: int
    offline: bool  # the Hub is not to be asked
    token: bool  # someone is logged in to the Hub


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    from huggingface_hub import constants, get_token

    return Machine(card=_card(), host=_host(), offline=constants.HF_HUB_OFFLINE, token=get_token() is not None)


def obstacle(spec: ModelSpec, machine: Machine) -> str:
    """Return why a pair cannot run, in one sentence, or "" if it can."""
    if needs_card(spec) and machine.card is None:
        return f"{spec.name} needs a GPU, and this machine has none."
    if needs_card(spec) and (need := offloaded_bytes(spec)) > machine.card:
        return f"{spec.name} needs {_gib(need)} of GPU memory, and this card has {_gib(machine.card)}."
    if (need := host_bytes(spec)) > HEADROOM * machine.host:
        return f"{spec.name} needs {_gib(need)} of memory, and this machine has {_gib(machine.host)}."
    if missing := [source for source in (spec.base, spec.tuned) if not has_weights(source)]:
        if machine.offline:
            return f"The weights of {spec.name} are not on this machine, and it is set to work offline."
        if spec.gated and spec.base in missing and not machine.token:
            return (
                f"{spec.name} is gated: accept its licence at huggingface.co/{spec.base}, log in with "
                "`hf auth login`, and start the app again."
            )
    return ""


def needs_card(spec: ModelSpec) -> bool:
    """Whether painting with a pair takes minutes without a GPU."""
    return spec.parameters > SMALL


def pair_bytes(spec: ModelSpec) -> int:
    """Return what a pair takes on a card: two denoisers, one set of everything else, working space."""
    return BYTES * (2 * spec.parameters + spec.companions) + WORKING_SPACE


def offloaded_bytes(spec: ModelSpec) -> int:
    """Return what a pair takes on a card when each network is there only while it works."""
    return BYTES * max(spec.parameters, spec.companions) + WORKING_SPACE


def fits_whole(spec: ModelSpec, card: int) -> bool:
    """Whether the pair can stay on a card of `card` bytes."""
    return pair_bytes(spec) <= card


def host_bytes(spec: ModelSpec) -> int:
    """Return what a pair takes in host memory while it is loaded: all of it, in the precision it will have."""
    return (BYTES if needs_card(spec) else 4) * (2 * spec.parameters + spec.companions)


def has_weights(source: str) -> bool:
    """Whether a folder or the Hub's cache holds a pipeline with its denoiser; asks nobody."""
    folder = cached_folder(source)
    return folder is not None and any(
        next((folder / part).glob("*.safetensors"), None) for part in ("unet", "transformer")
    )


def cached_folder(source: str) -> Path | None:
    """Return the local folder of a pipeline, a run's included, without downloading; None if there is none."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for folder in (Path(source), Path(source, "pipeline")):
        if (folder / "model_index.json").is_file():
            return folder
    try:
        found = try_to_load_from_cache(source, "model_index.json")
    except HFValidationError:  # the name of a folder that does not exist
        return None
    return Path(found).parent if isinstance(found, str) else None


def downloaded_bytes(spec: ModelSpec) -> int:
    """Return how much of a pair the Hub's cache holds so far, unfinished files included."""
    from huggingface_hub import constants

    caches = [
        Path(constants.HF_HUB_CACHE, f"models--{source.replace('/', '--')}") for source in (spec.base, spec.tuned)
    ]
    files = [file for cache in caches if cache.is_dir() for file in (cache / "blobs").glob("*")]
    return sum(file.stat().st_size for file in files if file.is_file())


def local_pair(spec: ModelSpec, models: Path | None) -> ModelSpec:
    """Return `spec` with the sides that stand in MODELS/KEY/base and MODELS/KEY/tuned instead of the public ones."""
    if models is None:
        return spec
    own = {side: str(folder) for side in ("base", "tuned") if (folder := models / spec.key / side).is_dir()}
    return replace(spec, **own)


def _card() -> int | None:
    """Bytes of the first card. PyTorch, seconds to import, is asked only where a driver is to be seen."""
    if os.environ.get("SPACES_ZERO_GPU"):
        return LENT_CARD
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return None
    import torch

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None


def _host() -> int:
    """Bytes of memory that this process may use: of the machine, or of its container where that is less."""
    machine, limit = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), Path("/sys/fs/cgroup/memory.max")
    told = limit.read_text().strip() if limit.is_file() else "max"
    return min(machine, int(told)) if told.isdecimal() else machine


def _gib(size: float) -> str:
    return f"{size / GIB:.0f} GB"
