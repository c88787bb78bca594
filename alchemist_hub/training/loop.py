"""The fine-tune: from a base and a data set to a tuned pipeline folder, resumable at every snapshot.

A run lives in one folder:

    run.json         what the run was started with; another recipe, data set or base is refused here
    log.jsonl        loss, learning rate and gradient norm of every step
    validation/      pictures from the recipe's prompts, by prompt and step
    tensorboard/     the same for TensorBoard, if asked for
    cache/           latents and text embeddings, unless another cache folder is given
    snapshots/       to resume from; gone when the run is finished
    pipeline/        the result: a diffusers folder and training.json

Everything random comes from (seed, step), so a run that was killed and started again ends in the same weights, bit for
bit on a CPU, and in the same log. Several processes (accelerate launch, torchrun) share a batch and the weights.
Shapes: B pictures of a forward pass, N numbers of the largest latents, C latent channels, h w latent height and width.
"""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from alchemist_hub import __version__
from alchemist_hub.errors import TrainingError
from alchemist_hub.models import local_folder, pipeline_class, revision, spec_of
from alchemist_hub.training import checkpoint, objective, sharding
from alchemist_hub.training.average import Average
from alchemist_hub.training.draws import Order, draw
from alchemist_hub.training.encode import encode
from alchemist_hub.training.families import family_of
from alchemist_hub.training.hardware import Meter, hardware
from alchemist_hub.training.journal import journal
from alchemist_hub.training.layout import lay_out, table_of
from alchemist_hub.training.optimizer import new_optimizer
from alchemist_hub.training.recipes import TrainingRecipe
from alchemist_hub.training.schedule import Schedule
from alchemist_hub.training.validation import averaged, paint
from curation import dataset
from curation.errors import CurationError


def train(
    recipe: TrainingRecipe,
    *,
    base: str | Path,
    data: str | Path,
    out: str | Path,
    cache: Path | None = None,
    tensorboard: bool = False,
    progress: bool = True,
) -> Path:
    """Fine-tune `base` (a folder or a Hub repository) on the frozen data set `data`; return the tuned pipeline folder.

    Called again with the same arguments, it goes on where it was stopped, or returns at once when it had finished.
    Raises `TrainingError` for data, settings or a folder that do not fit, `ModelError` for the base.
    """
    base_folder, out, result = local_folder(base), Path(out), Path(out) / "pipeline"
    family, schedule = family_of(pipeline_class(base_folder)), Schedule.read(base_folder)
    schedule.weight(torch.tensor([0]), recipe.min_snr_gamma)  # refused now, not at the first step
    rows, fingerprint = _read(data)
    hashes = checkpoint.component_hashes(base_folder)
    accelerator = sharding.new_accelerator()
    device, processes, first = accelerator.device, accelerator.num_processes, accelerator.is_main_process
    with accelerator.main_process_first():
        _claim(out, {"recipe": recipe.to_dict(), "data": fingerprint, "base": hashes})
    if (result / checkpoint.RECORD).is_file():
        shutil.rmtree(out / "snapshots", ignore_errors=True)  # if the run was killed between its last two lines
        return result

    started = time.monotonic()
    pictures, passes = _passes(recipe, processes)
    denoiser = family.denoiser(base_folder)
    checkpoint.stored_dtypes(base_folder / family.component, denoiser.state_dict())  # and this, not at the end
    layout = lay_out(rows, table_of(recipe, base_folder, denoiser), least=pictures, enlarge=recipe.enlarge)
    if first and progress:
        layout.tell()
    with accelerator.main_process_first():  # the others find everything in the cache
        encodings = encode(
            rows,
            layout,
            family=family,
            base=base_folder,
            hashes=hashes,
            fingerprint=fingerprint,
            flip=recipe.flip,
            cache=cache or out / "cache",
            t5=recipe.t5,
            validation=recipe.validation_prompts if recipe.validate_every else (),
            device=device,
            progress=progress and first,
        )
    family.prepare(denoiser, recipe)
    denoiser.to(device)
    if recipe.weights == "bfloat16":
        denoiser.bfloat16()
    sharding.shard(denoiser, accelerator)
    weights = dict(denoiser.named_parameters())
    optimizer = new_optimizer(
        recipe.optimizer,
        weights.items(),
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
    )
    average = Average(weights, where=recipe.average_on)
    members = [torch.tensor(layout.members(bucket)) for bucket in range(len(layout.buckets))]
    order = Order.planned(recipe.seed, pictures, members, recipe.steps * passes)
    own = range(accelerator.process_index, passes, processes)  # of the forward passes of a step
    meter, spec = Meter(device), spec_of(base_folder)
    half = recipe.mixed_precision == "bf16"

    step, seconds_before = 0, 0.0
    if snapshot := checkpoint.load_snapshot(out / "snapshots"):
        step, seconds_before = snapshot.step, snapshot.seconds
        sharding.load(weights, snapshot.weights)
        average.load(snapshot.average)
        checkpoint.restore_optimizer(optimizer, list(weights), sharding.parts(snapshot.optimizer, weights))

    with journal(out, steps=recipe.steps, done=step, shown=progress, tensorboard=tensorboard, first=first) as tell:
        while step < recipe.steps:
            draws = draw(recipe, step, timesteps=len(schedule.level_T), numbers=encodings.numbers)
            loss_sum = torch.zeros((), device=device)
            for number in own:
                part = slice(number * pictures, (number + 1) * pictures)
                _, index_B = order.rows(step * passes + number)
                mean_BChw, std_BChw = encodings.latents(index_B, draws.mirrored_B[part])
                spread_BChw, noise_BChw = (
                    numbers_BN[part, : mean_BChw[0].numel()].view_as(mean_BChw)
                    for numbers_BN in (draws.spread_BN, draws.noise_BN)
                )
                clean_BChw = (mean_BChw + std_BChw * spread_BChw).to(device)
                timestep_B = draws.timestep_B[part]
                noised_BChw, target_BChw = schedule.noised(clean_BChw, noise_BChw.to(device), timestep_B)
                text = encodings.texts(index_B, draws.dropped_B[part])
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    output_BChw = family.predict(
                        denoiser,
                        noised_BChw.to(denoiser.dtype),
                        schedule.told(timestep_B).to(device),
                        {name: tensor.to(device, denoiser.dtype) for name, tensor in text.items()},
                        layout.sizes_N6[index_B].to(device),
                    )
                weight_B = schedule.weight(timestep_B, recipe.min_snr_gamma).to(device)
                losses_B = objective.weighted_mse(output_BChw, target_BChw, weight_B)
                share = losses_B.sum() / recipe.batch_size
                (share * processes).backward()  # processes average their gradients
                loss_sum += share.detach()
            loss = accelerator.reduce(loss_sum).item()
            norm = sharding.clip(denoiser, recipe.max_grad_norm)
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise TrainingError(f"loss {loss}, gradient norm {norm} at step {step + 1}: lower the learning rate")
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            optimizer.step()
            optimizer.zero_grad()
            average.update(weights, min(recipe.ema, (1 + step) / (10 + step)))
            meter.read()
            step += 1

            rate = learning_rate(recipe, step - 1)
            tell.step({"step": step, "loss": loss, "learning_rate": rate, "grad_norm": norm})
            if recipe.validate_every and step % recipe.validate_every == 0:
                with averaged(weights, average.tensors()), torch.autocast(device.type, torch.bfloat16, enabled=half):
                    painted = paint(
                        family, base_folder, denoiser, encodings.validation, encodings.unconditional, spec=spec
                    )
                tell.pictures(step, painted)
            if step % recipe.checkpoint_every == 0 and step < recipe.steps:
                state = checkpoint.Snapshot(
                    step=step,
                    seconds=seconds_before + time.monotonic() - started,
                    weights=sharding.whole(weights, accelerator),
                    average=sharding.whole(average.tensors(), accelerator),
                    optimizer=sharding.whole(checkpoint.optimizer_tensors(optimizer, list(weights)), accelerator),
                )
                if first:
                    checkpoint.save_snapshot(out / "snapshots", state, keep=recipe.keep_checkpoints)

    seconds = seconds_before + time.monotonic() - started
    record = {
        "recipe": recipe.to_dict(),
        "base": {
            "name": str(base) if not Path(base).is_dir() else base_folder.resolve().name,
            "revision": revision(base_folder),
            "components": hashes,
        },
        "data": {"fingerprint": fingerprint, "samples": len(layout.rows), "not shown": layout.skipped},
        "objective": schedule.kind,
        "final_loss": loss,
        "code": {"alchemist-hub": __version__, "torch": torch.__version__},
        "hardware": hardware(device, processes),
        "seconds": round(seconds, 1),
        "energy": meter.estimate(seconds, processes),
    }
    tuned = sharding.whole(denoiser.state_dict() | average.tensors(), accelerator)
    if first:
        checkpoint.write_checkpoint(base_folder, tuned, result, record)
        shutil.rmtree(out / "snapshots", ignore_errors=True)
    accelerator.wait_for_everyone()
    return result


def learning_rate(recipe: TrainingRecipe, step: int) -> float:
    """Return the learning rate of `step` (counted from 0): a linear rise, then the recipe's schedule."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / (recipe.warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _passes(recipe: TrainingRecipe, processes: int) -> tuple[int, int]:
    """Return pictures a forward pass, and forward passes a step over all processes. Raises `TrainingError`."""
    pictures = recipe.micro_batch_size or recipe.batch_size // processes
    if not pictures or recipe.batch_size % (pictures * processes):
        raise TrainingError(
            f"a batch of {recipe.batch_size} in passes of {pictures or 1} does not come out even among {processes} "
            "processes; make batch_size a multiple of both"
        )
    return pictures, recipe.batch_size // pictures


def _read(data: str | Path) -> tuple[Any, str]:
    """The rows of a frozen data set, and its fingerprint."""
    try:
        fingerprint, rows = dataset.fingerprint(data), dataset.read(data)
    except CurationError as error:
        raise TrainingError(str(error)) from error
    except ValueError as error:  # not parquet, other columns, or no rows at all: arrow's errors are ValueErrors
        raise TrainingError(f"{data} is no data set to train on: {str(error).splitlines()[0]}") from error
    if missing := {"img_key", "prompt", "image"} - set(rows.column_names):
        raise TrainingError(f"{data} lacks the column {', '.join(sorted(missing))}; it was not made by a curation run")
    return rows, fingerprint


def _claim(out: Path, identity: dict[str, Any]) -> None:
    """Make `out` the folder of this run; refuse the folder of another."""
    marker = out / "run.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            checkpoint.write_whole(marker, json.dumps(identity, indent=2) + "\n")
        found = json.loads(marker.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TrainingError(f"{out} cannot hold a training run: {error}") from error
    differing = [key for key in identity if found.get(key) != identity[key]]
    if differing:
        raise TrainingError(
            f"{out} holds a run with another {' and '.join(differing)}; choose another folder or remove it"
        )
