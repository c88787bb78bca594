"""Train the miniature's models from nothing: `python -m alchemist_hub.miniature.build`.

Renders the pools, fits every model, calibrates the estimator and lets the chain itself make the tuned checkpoint.
Every part keeps exact checkpoints in --work and goes on from them; a finished part is not trained again. Each part
ends as one folder (or file) of --out, put there as a whole, in half precision where that is enough: load it with
`dtype=torch.float32`.
"""

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from alchemist_hub import __version__
from alchemist_hub.miniature import weights
from alchemist_hub.miniature.builders import base, captioner, classifiers, vae
from alchemist_hub.miniature.builders.pool import read_pool, render_pool
from alchemist_hub.miniature.builders.tokenizer import LENGTH, build_tokenizer
from alchemist_hub.miniature.scene import draw_scene
from alchemist_hub.miniature.world import VOCABULARY

# Pools: the base and the funnel's networks learn from one, the judge from another; calibration draws a third.
FUNNEL_SEED, JUDGE_SEED = 1, 2


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is rendered and trained. `FULL` made the shipped weights; a smaller one shows that the path works."""

    pool: int = 100_000  # pictures the base learns from
    code_pool: int = 10_000  # of them fit the patch code
    decoder_pool: int = 40_000
    decoder_steps: int = 10_000
    base_samples: int = 340_000
    network_pool: int = 40_000  # for each of the small networks
    epochs: tuple[tuple[str, int], ...] = (("safety", 6), ("defects", 6), ("iqa", 5), ("judge", 6))
    caption_samples: int = 90_000


FULL = Scale()


class Build:
    """One build: what the parts share, made when first asked for."""

    def __init__(self, work: Path, out: Path, scale: Scale = FULL) -> None:
        self.work, self.out, self.scale = work, out, scale

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        return build_tokenizer(VOCABULARY)

    def pool(self, seed: int, count: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Return `count` pictures of a pool and their truth, with the strength of the worst defect as `severity`."""
        images, rows = read_pool(render_pool(self.work / "pool", seed=seed, count=count))
        for index, row in enumerate(rows):
            scene = draw_scene(np.random.default_rng((seed, index)))
            row["severity"] = max(scene.severity.values(), default=0.0)
        return images, rows

    def base(self) -> None:
        """Autoencoder, UNet and text encoder, from the raw pool."""
        images, rows = self.pool(FUNNEL_SEED, self.scale.pool)
        code = vae.fit_patch_code(images[: self.scale.code_pool])
        sharp = [
            index for index in range(min(self.scale.decoder_pool, len(rows))) if "noise" not in rows[index]["defects"]
        ]
        autoencoder = vae.train_decoder(
            self.work / "decoder", vae.new_vae(code), images[sharp], steps=self.scale.decoder_steps
        )
        token_ids = base.tokenise(self.tokenizer, [row["caption"] for row in rows], seed=FUNNEL_SEED)
        unet, text = base.train_base(
            self.work / "base", images, token_ids, self._empty(), code, self.tokenizer, samples=self.scale.base_samples
        )
        autoencoder.decoder.half()  # the encoder is exact in single precision only
        pipeline = base.assemble(autoencoder, unet.half(), text, self.tokenizer)
        self._put("base", lambda folder: _save_pipeline(pipeline, folder))

    def network(self, task: classifiers.Task) -> None:
        """One of safety, defects, iqa and judge."""
        seed = JUDGE_SEED if task is classifiers.JUDGE else FUNNEL_SEED
        images, rows = self.pool(seed, self.scale.network_pool)
        epochs = dict(self.scale.epochs)[task.name]
        model = classifiers.train_network(self.work / task.name, task, images, rows, epochs=epochs)

        def save(folder: Path) -> None:
            model.half().save_pretrained(folder)
            classifiers.image_processor().save_pretrained(folder)

        self._put(task.name, save)

    def captioner(self) -> None:
        """The image-to-text model of the recaption stage."""
        images, rows = self.pool(FUNNEL_SEED, self.scale.network_pool)
        model = captioner.train_captioner(
            self.work / "captioner",
            self.tokenizer,
            images,
            [row["clean_caption"] for row in rows],
            samples=self.scale.caption_samples,
        )

        def save(folder: Path) -> None:
            model.half().save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            classifiers.image_processor().save_pretrained(folder)

        self._put("captioner", save)

    def estimator(self) -> None:
        """The calibration of the base as the judge of impact."""
        from alchemist_hub.miniature.labelled import CALIBRATION_SEED, HELD_OUT_SEED, clean_pictures
        from curation.recipes import calibrate_miniature

        calibrate_miniature(
            self.out / "base",
            self.out / "estimator.json",
            calibration=clean_pictures(CALIBRATION_SEED, 1200),
            held_out=clean_pictures(HELD_OUT_SEED, 1200),
        )

    def tuned(self) -> None:
        """The tuned checkpoint, as `alchemist demo` makes it from the parts above."""
        from alchemist_hub.miniature.demo import run_demo

        run_demo(self.work / "chain", models=self.out)
        self._put("tuned", lambda folder: shutil.copytree(self.work / "chain" / "tuned" / "pipeline", folder))

    def _empty(self) -> torch.Tensor:
        return self.tokenizer([""], padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids

    def _put(self, name: str, save: Callable[[Path], Any]) -> None:
        """Write a part beside its place and move it there as a whole."""
        folder, partial = self.out / name, self.out / f".{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        save(partial)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


PARTS: dict[str, Callable[[Build], None]] = {
    "base": Build.base,
    **{
        task.name: lambda build, task=task: build.network(task)
        for task in (classifiers.SAFETY, classifiers.DEFECT, classifiers.IQA, classifiers.JUDGE)
    },
    "captioner": Build.captioner,
    "estimator": Build.estimator,
    "tuned": Build.tuned,
}


def _save_pipeline(pipeline: Any, folder: Path) -> None:
    """Save in safetensors; text weights get the names that every version of transformers reads."""
    pipeline.save_pretrained(folder)
    path = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    renamed = {
        name if name.startswith("text_model.") else f"text_model.{name}": value for name, value in tensors.items()
    }
    save_file(renamed, path, metadata={"format": "pt"})


def main() -> None:
    """Read the command line and build the parts asked for, in their order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=Path("runs/build"), help="checkpoints and pools (default: runs/build)"
    )
    parser.add_argument("--out", type=Path, default=weights(), help="where the models go (default: inside the package)")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts to build")
    parser.add_argument("--threads", type=int, default=2, help="threads of each training (default: 2)")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    build = Build(asked.work, asked.out)
    for name in (part for part in PARTS if part in asked.only):
        Console().rule(name, align="left")
        PARTS[name](build)
    record = {"version": __version__, "pools": {"funnel": FUNNEL_SEED, "judge": JUDGE_SEED}, "scale": FULL.__dict__}
    (asked.out / "build.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
