"""The fine-tune: from a base and a data set to a tuned pipeline folder, resumable at every snapshot.

A run lives in one folder:

    run.json         what the run was started with; another recipe, data set or base is refused here
    log.jsonl        loss, learning rate and gradient norm of every step
    cache/           latents and text embeddings, unless another cache folder is given
    snapshots/       to resume from; gone when the run is finished
    pipeline/        the result: a diffusers folder and training.json

Everything random comes from (seed, step), so a run that was killed and started again ends in the same weights, bit for
bit on a CPU, and in the same log. Shapes: B batch, C latent channels, h w latent height and width, L tokens, D width.
"""

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from accelerate import Accelerator
from diffusers.models.attention_processor import AttnProcessor
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from alchemist_hub import __version__
from alchemist_hub.errors import TrainingError
from alchemist_hub.models import local_folder
from alchemist_hub.training import buckets, checkpoint, objective
from alchemist_hub.training.draws import Order, draw
from alchemist_hub.training.encode import encode
from alchemist_hub.training.families import family_of
from alchemist_hub.training.layout import Layout, lay_out
from alchemist_hub.training.recipes import TrainingRecipe
from alchemist_hub.training.schedule import Schedule
from curation import dataset
from curation.errors import CurationError


def train(
    recipe: TrainingRecipe,
    *,
    base: str | Path,
    data: str | Path,
    out: str | Path,
    cache: Path | None = None,
    progress: bool = True,
) -> Path:
    """Fine-tune `base` (a folder or a Hub repository) on the frozen data set `data`; return the tuned pipeline folder.

    Called again with the same arguments, it goes on where it was stopped, or returns at once when it had finished.
    Raises `TrainingError` for data, settings or a folder that do not fit, `ModelError` for the base.
    """
    base_folder, out, result = local_folder(base), Path(out), Path(out) / "pipeline"
    family, schedule = family_of(checkpoint.pipeline_class(base_folder)), Schedule.read(base_folder)
    rows, fingerprint = _read(data)
    hashes = checkpoint.component_hashes(base_folder)
    _claim(out, {"recipe": recipe.to_dict(), "data": fingerprint, "base": hashes})
    if (result / checkpoint.RECORD).is_file():
        shutil.rmtree(out / "snapshots", ignore_errors=True)  # if the run was killed between its last two lines
        return result

    started = time.monotonic()
    accelerator = Accelerator()
    device = accelerator.device
    denoiser = family.denoiser(base_folder)
    checkpoint.stored_dtypes(base_folder / family.component, denoiser.state_dict())  # refused now, not at the end
    passes = recipe.batch_size // (recipe.micro_batch_size or recipe.batch_size)
    pictures = recipe.batch_size // passes  # of a forward pass
    layout = _layout(recipe, rows, base_folder, denoiser, least=pictures)
    for reason, count in layout.skipped.items():
        Console(stderr=True, quiet=not progress).print(f"not shown: {count} of {len(rows)} pictures, {reason}")
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
        device=device,
        progress=progress,
    )
    _prepare(denoiser, recipe)
    denoiser, optimizer = accelerator.prepare(
        denoiser,
        torch.optim.AdamW(
            denoiser.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=device.type != "mps"
        ),
    )
    weights = dict(denoiser.named_parameters())
    average = {name: weight.detach().clone() for name, weight in weights.items()}
    members = [torch.tensor(layout.members(bucket)) for bucket in range(len(layout.buckets))]
    order = Order.planned(recipe.seed, pictures, members, recipe.steps * passes)

    step, seconds_before = 0, 0.0
    if snapshot := checkpoint.load_snapshot(out / "snapshots"):
        step, seconds_before = snapshot.step, snapshot.seconds
        denoiser.load_state_dict(snapshot.weights, strict=False)  # all but what is no parameter and never changes
        average = {name: snapshot.average[name].to(device) for name in weights}
        checkpoint.restore_optimizer(optimizer, list(weights), snapshot.optimizer)

    with _log(out / "log.jsonl", step) as log, _bar(recipe.steps, step, shown=progress) as advance:
        while step < recipe.steps:
            draws = draw(recipe, step, timesteps=len(schedule.level_T), numbers=encodings.numbers)
            loss = 0.0
            for number, part in enumerate(torch.arange(recipe.batch_size).split(pictures)):
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
                with torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision == "bf16"):
                    output_BChw = family.predict(
                        denoiser,
                        noised_BChw,
                        schedule.told(timestep_B).to(device),
                        {name: tensor.to(device) for name, tensor in text.items()},
                        layout.sizes_N6[index_B].to(device),
                    )
                weight_B = schedule.weight(timestep_B, recipe.min_snr_gamma).to(device)
                losses_B = objective.weighted_mse(output_BChw, target_BChw, weight_B)
                share = losses_B.sum() / recipe.batch_size
                accelerator.backward(share)
                loss += share.item()
            norm = accelerator.clip_grad_norm_(denoiser.parameters(), recipe.max_grad_norm).item()
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise TrainingError(f"loss {loss}, gradient norm {norm} at step {step + 1}: lower the learning rate")
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, step)
            optimizer.step()
            optimizer.zero_grad()
            update_average(average, weights, decay=min(recipe.ema, (1 + step) / (10 + step)))
            step += 1

            line = {"step": step, "loss": loss, "learning_rate": learning_rate(recipe, step - 1), "grad_norm": norm}
            log.write(json.dumps(line) + "\n")
            log.flush()  # before a snapshot counts this step as done
            advance(loss)
            if step % recipe.checkpoint_every == 0 and step < recipe.steps:
                state = checkpoint.Snapshot(
                    step=step,
                    seconds=seconds_before + time.monotonic() - started,
                    weights=weights,
                    average=average,
                    optimizer=checkpoint.optimizer_tensors(optimizer, list(weights)),
                )
                checkpoint.save_snapshot(out / "snapshots", state, keep=recipe.keep_checkpoints)

    record = {
        "recipe": recipe.to_dict(),
        "base": {"name": str(base) if not Path(base).is_dir() else base_folder.resolve().name, "components": hashes},
        "data": {"fingerprint": fingerprint, "samples": len(layout.rows), "not shown": layout.skipped},
        "objective": schedule.kind,
        "final_loss": loss,
        "code": {"alchemist-hub": __version__, "torch": torch.__version__},
        "hardware": _hardware(device),
        "seconds": round(seconds_before + time.monotonic() - started, 1),
    }
    checkpoint.write_checkpoint(base_folder, denoiser.state_dict() | average, result, record)
    shutil.rmtree(out / "snapshots", ignore_errors=True)
    return result


def learning_rate(recipe: TrainingRecipe, step: int) -> float:
    """Return the learning rate of `step` (counted from 0): a linear rise, then the recipe's schedule."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / (recipe.warmup + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def update_average(average: dict[str, Tensor], weights: dict[str, Tensor], *, decay: float) -> None:
    """Move the averaged weights towards `weights`, in place: average = decay average + (1 - decay) weights."""
    for name, mean in average.items():
        mean.lerp_(weights[name], 1 - decay)


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


def _layout(recipe: TrainingRecipe, rows: Any, base: Path, denoiser: torch.nn.Module, *, least: int) -> Layout:
    size = recipe.size or denoiser.config.sample_size * vae_factor(base)
    tables = {"square": ((size, size),), "sdxl": buckets.SDXL}
    return lay_out(rows, tables.get(recipe.buckets) or buckets.table(size), least=least, enlarge=recipe.enlarge)


def _prepare(denoiser: torch.nn.Module, recipe: TrainingRecipe) -> None:
    """Set how the denoiser computes. Raises `TrainingError` for what its class or this machine cannot do."""
    if recipe.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    if recipe.attention == "plain":
        if not hasattr(denoiser, "mid_block"):
            raise TrainingError(f"attention 'plain' is for UNets; a {type(denoiser).__name__} takes sdpa or xformers")
        denoiser.set_attn_processor(AttnProcessor())
    if recipe.attention == "xformers":
        try:
            denoiser.enable_xformers_memory_efficient_attention()
        except (ModuleNotFoundError, ValueError) as error:  # ValueError: no GPU
            raise TrainingError(f"no attention 'xformers' here: {str(error).splitlines()[0]}") from error
    if recipe.compile:
        denoiser.compile()
    denoiser.train()


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


def vae_factor(base: Path) -> int:
    """Return how many pixels a side one latent stands for."""
    blocks = json.loads((base / "vae" / "config.json").read_text())["block_out_channels"]
    return 2 ** (len(blocks) - 1)


@contextmanager
def _log(file: Path, steps_done: int) -> Iterator[TextIO]:
    """Open the log for appending, cut back to the steps that the snapshot counts as done."""
    lines = file.read_text().splitlines(keepends=True)[:steps_done] if file.exists() else []
    checkpoint.write_whole(file, "".join(lines))
    with file.open("a") as log:
        yield log


@contextmanager
def _bar(steps: int, done: int, *, shown: bool) -> Iterator[Any]:
    """Yield `advance(loss)`: a bar on a terminal, a line every tenth of the run elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("training", total=steps, completed=done)

        def advance(loss: float) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1, description=f"training, loss {loss:.4f}")
            if shown and not console.is_terminal and (done == steps or done % max(1, steps // 10) == 0):
                console.print(f"training: step {done} of {steps}, loss {loss:.4f}")

        yield advance


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
