"""The claim: attention alone costs at most 0.7 of plain forward passes, the likelihood ratio at most 1.05 of its own.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py

Times what the impact stage runs against the bare passes it is made of, in one process, in turns, in CPU seconds, and
writes `scoring-DATE.json` and `.md` beside this file. Both sides cut the pictures and encode them with the VAE; the
ratio of the passes alone is given with that part taken off both. Attention alone is calibrated here, on the
miniature's calibration pictures; the attention of the shipped calibration is a by-product of passes that its likelihood
ratio needs whole, and stands beside it unjudged. On the miniature the AUC stands beside the cost, on labels that took
no part in any choice. The SDXL and SD3 networks are random: they have a cost and no opinion, so one layer in the middle
and the last are taken for the deepest kept one.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # the package, not this folder's curation.py

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, SD3Transformer2DModel, UNet2DConditionModel

from alchemist_hub.miniature import weights
from alchemist_hub.miniature.labelled import CALIBRATION_SEED, HELD_OUT_SEED, clean_pictures
from curation.estimator import score
from curation.estimator.calibration import ATTENTION, LIKELIHOOD, Calibration, Estimator, Head, Position, Term
from curation.estimator.denoiser import Denoiser, fixed_noise, square
from curation.estimator.fitting import Search, Statistic, calibrate
from curation.estimator.keywords import Keywords
from curation.estimator.likelihood import Probe
from curation.estimator.pipelines import denoiser_of
from tests.tiny_models import tiny_sd3_pipeline, tiny_xl_pipeline

ALONE = "attention calibrated alone"
TIMED = (ATTENTION, LIKELIHOOD)
MOST = {ALONE: 0.7, LIKELIHOOD: 1.05}  # of the CPU time of the bare passes
WORDS = Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""})


def bare(denoiser: Denoiser, probe: Probe, images: list[np.ndarray]) -> None:
    """Run the plain passes of `probe`, through the library's own attention, and read nothing from them."""
    texts = [denoiser.encode(prompt) for prompt in probe.prompts()]
    for start in range(0, len(images), probe.batch):
        z_BChw = prepare(denoiser, probe, images[start : start + probe.batch])
        for timestep in probe.timesteps:
            for noise_Chw in fixed_noise(tuple(z_BChw.shape[1:]), draws=probe.draws, seed=probe.noise_seed):
                z_t, _ = denoiser.noised(z_BChw, noise_Chw, timestep)
                for text in texts:
                    denoiser.predict(z_t, timestep, text)


def prepare(denoiser: Denoiser, probe: Probe, images: list[np.ndarray]) -> torch.Tensor:
    return denoiser.latents(np.stack([square(image, probe.image_size) for image in images]))


def costs(
    denoiser: Denoiser, calibration: Calibration, images: list[np.ndarray], *, repeats: int
) -> dict[str, dict[str, Any]]:
    """Return for each score its CPU ms a picture, the bare passes', and their ratios, medians over `repeats`."""
    # a batch that is not full is filled up, which is a waste of small shards: here there is none
    images = images[: len(images) // calibration.probe.batch * calibration.probe.batch]
    found = {}
    for column in (column for column in TIMED if column in calibration.heads):
        alone = calibration.only(column)
        judge = Estimator(denoiser, alone)
        sides: dict[str, Callable[[], Any]] = {
            "score": lambda judge=judge: judge.score(images),
            "bare": lambda probe=alone.probe: bare(denoiser, probe, images),
            "prepare": lambda probe=alone.probe: [
                prepare(denoiser, probe, images[start : start + probe.batch])
                for start in range(0, len(images), probe.batch)
            ],
        }
        taken = in_turns(sides, repeats)
        pairs = [
            (s / b, (s - p) / (b - p))
            for s, b, p in zip(taken["score"], taken["bare"], taken["prepare"], strict=True)
        ]
        whole, passes = zip(*pairs, strict=True)
        found[column] = {
            "passes a picture": alone.probe.passes,
            "CPU ms a picture": {
                name: statistics.median(seconds) / len(images) * 1000 for name, seconds in taken.items()
            },
            "of bare passes and VAE": spread(whole),
            "of bare passes": spread(passes),
        }
        print(row_text("timed", column, found[column]), file=sys.stderr, flush=True)
    return found


def in_turns(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each side, run one after another `repeats` times, after one run for warmth."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, run in sides.items():
            start = time.process_time()
            run()
            if turn:
                taken[name].append(time.process_time() - start)
    return taken


def spread(values: tuple[float, ...]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def made_up(denoiser: Denoiser, layer: str, timestep: int = 250) -> Calibration:
    """A calibration of random weights that keeps every word of the prompt at one layer."""
    one = {"mean": 0.0, "std": 1.0}
    words = [token for token in denoiser.tokens(WORDS.quality) if token.role == "word"]
    common = {"bias": 0.0, "ridge": 1.0, "cross_validated_auc": 0.5}
    names = {ATTENTION: f"attention@{timestep}", LIKELIHOOD: f"ratio/opposite@{timestep}"}
    return Calibration(
        model=denoiser.fingerprint(),
        probe=Probe(
            keywords=WORDS,
            timesteps=(timestep,),
            contrasts=("opposite",),
            image_size=denoiser.image_size,
            batch=min(4, denoiser.batch),
        ),
        norm="probability",
        positions=tuple(
            Position(
                timestep=timestep,
                layer=layer,
                token=token.index,
                text=token.text,
                role=token.role,
                sign=1.0,
                auc=0.5,
                **one,
            )
            for token in words
        ),
        heads={
            column: Head(terms=(Term(statistic=name, weight=1.0, **one),), **common) for column, name in names.items()
        },
        pictures={"high": 0, "low": 0},
    )


def random_xl(folder: Path) -> Denoiser:
    """SDXL's class at 256 px, 32x32 latents: text in the two lower of three levels, as in the original."""
    pipe = DiffusionPipeline.from_pretrained(tiny_xl_pipeline(folder), dtype=torch.float32)
    pipe.register_modules(
        unet=UNet2DConditionModel.from_config(
            dict(pipe.unet.config)
            | {
                "sample_size": 32,
                "block_out_channels": (64, 128, 256),
                "layers_per_block": 2,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                "transformer_layers_per_block": (1, 1, 3),
                "attention_head_dim": (2, 4, 8),
                "norm_num_groups": 32,
            }
        )
    )
    return denoiser_of(pipe)


def random_sd3(folder: Path) -> Denoiser:
    """SD3.5-Medium's class at 256 px, 16x16 patches beside 272 text positions: 8 blocks, the first 4 of them dual."""
    pipe = DiffusionPipeline.from_pretrained(tiny_sd3_pipeline(folder), dtype=torch.float32)
    pipe.register_modules(
        transformer=SD3Transformer2DModel.from_config(
            dict(pipe.transformer.config)
            | {
                "sample_size": 32,
                "pos_embed_max_size": 32,
                "num_layers": 8,
                "num_attention_heads": 4,
                "attention_head_dim": 64,
                "caption_projection_dim": 256,
                "dual_attention_layers": (0, 1, 2, 3),
            }
        )
    )
    return denoiser_of(pipe)


def miniature(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the shipped calibration's scores cost and buy."""
    calibration = Calibration.load(weights() / "estimator.json")
    denoiser = denoiser_of(DiffusionPipeline.from_pretrained(weights() / "base", safety_checker=None))
    images, labels_B = clean_pictures(HELD_OUT_SEED, arguments.pictures)
    alone = attention_alone(denoiser, calibration.probe.keywords, arguments.pictures)
    scores = Estimator(denoiser, calibration).score(images) | {
        ALONE: Estimator(denoiser, alone).score(images)[ATTENTION]
    }
    kept = {column: calibration.held_out["auc"][f"keywords/{column}"] for column in calibration.heads}
    timed = images[: arguments.timed]
    cost = costs(denoiser, alone, timed, repeats=arguments.repeats)[ATTENTION]
    return {
        "chosen alone": chosen(alone, denoiser.text_layers()),
        "costs": costs(denoiser, calibration, timed, repeats=arguments.repeats) | {ALONE: cost},
        "pictures": {"high": int(labels_B.sum()), "low": int((~labels_B).sum())},
        "auc": score.compare_aucs(scores, labels_B, [])["auc"],
        "shipped auc": kept | {ALONE: kept[ATTENTION]},  # what attention is to be worth alone too
    }


def attention_alone(denoiser: Denoiser, keywords: Keywords, pictures: int) -> Calibration:
    """Calibrate attention alone on the pictures that the shipped calibration was chosen by."""
    images, labels_B = clean_pictures(CALIBRATION_SEED, pictures)
    search = Search(statistic=Statistic.ATTENTION)
    return calibrate(denoiser, images, labels_B, keywords=keywords, search=search)


def chosen(alone: Calibration, layers: tuple[str, ...]) -> dict[str, Any]:
    """Return what the calibration of attention alone decided on, in short."""
    return {
        "timesteps": alone.probe.timesteps,
        "depth": alone.depth(layers),
        "layers": len(layers),
        "norm": alone.norm,
        "positions": len(alone.positions),
        "cross-validated AUC": alone.heads[ATTENTION].cross_validated_auc,
    }


def random_networks(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the costs for random SDXL and SD3 networks, by model and depth."""
    noise = np.random.default_rng(0)
    images = list(noise.integers(0, 256, (4, 256, 256, 3), dtype=np.uint8))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, build in (("SDXL", random_xl), ("SD3", random_sd3)):
            torch.manual_seed(0)
            denoiser = build(Path(folder) / name)
            layers = denoiser.text_layers()
            middle, last = layers[len(layers) // 2 - 1], layers[-1]
            found[f"{name}, layer {len(layers) // 2} of {len(layers)}"] = costs(
                denoiser, made_up(denoiser, middle), images, repeats=arguments.repeats
            )
            deep = made_up(denoiser, last)
            found[f"{name}, layer {len(layers)} of {len(layers)}"] = costs(
                denoiser, replace(deep, heads={ATTENTION: deep.heads[ATTENTION]}), images, repeats=arguments.repeats
            )
    return found


def markdown(figures: dict[str, Any]) -> str:
    """Return the tables that people read, with the claim in plain words."""
    small = figures["miniature"]
    lines = [
        f"# What a score costs and buys, {figures['date']}",
        "",
        f"CPU time, one thread, medians of {figures['repeats']} turns in one run (least to most). Bare: the same "
        "passes of the same denoiser with nothing read from them. Both sides cut and encode the pictures; the last "
        "column leaves that out on both. SDXL and SD3 are random networks of the classes, not the models.",
        "",
        "| model | score | passes | CPU ms a picture | bare | score / bare | passes alone |",
        "|---|---|---|---|---|---|---|",
    ]
    tables = {"miniature": small["costs"], **figures["random networks"]}
    lines += [row_text(model, column, row) for model, table in tables.items() for column, row in table.items()]
    lines += [
        "",
        f"AUC on the miniature's {small['pictures']['high']} good and {small['pictures']['low']} plain held-out "
        "pictures:",
        "",
        "| score | AUC here | in the shipped calibration |",
        "|---|---|---|",
        *(
            f"| {column} | {interval_text(small['auc'][column])} | {interval_text(row)} |"
            for column, row in small["shipped auc"].items()
        ),
        "",
        alone_text(small["chosen alone"]),
        "",
        verdict(small),
    ]
    return "\n".join(lines) + "\n"


def alone_text(choice: dict[str, Any]) -> str:
    return (
        f"Attention calibrated alone reads {choice['depth']} of {choice['layers']} layers at timesteps "
        f"{', '.join(map(str, choice['timesteps']))}: the fewest within one standard error of the best depth's AUC, "
        "by cross-validation inside the calibration labels. impact_attention is the attention of the shipped "
        "calibration run by itself: a by-product there, whose positions were chosen when deep layers cost nothing."
    )


def row_text(model: str, column: str, row: dict[str, Any]) -> str:
    ms = row["CPU ms a picture"]
    ratios = (
        f"{row[name]['median']:.2f} ({row[name]['least']:.2f}-{row[name]['most']:.2f})"
        for name in ("of bare passes and VAE", "of bare passes")
    )
    return (
        f"| {model} | {column} | {row['passes a picture']} | {ms['score']:.1f} | {ms['bare']:.1f} | "
        f"{' | '.join(ratios)} |"
    )


def interval_text(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['auc']:.3f} [{low:.3f}, {high:.3f}]"


def verdict(small: dict[str, Any]) -> str:
    """Say whether the claim holds on the miniature: the ratios of the passes alone, and the AUCs."""
    told = []
    for column, most in MOST.items():
        ratio = small["costs"][column]["of bare passes"]["median"]
        told.append(f"{column} at most {most} of its bare passes: {'met' if ratio <= most else 'MISSED'} ({ratio:.2f})")
    inside = all(
        row["interval"][0] <= small["auc"][column]["auc"] <= row["interval"][1]
        for column, row in small["shipped auc"].items()
    )
    told.append(f"every AUC within the interval of the shipped calibration: {'met' if inside else 'MISSED'}")
    return "; ".join(told) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=500, help="held-out pictures for the AUC")
    parser.add_argument("--timed", type=int, default=32, help="of them timed, a multiple of 32")
    parser.add_argument("--repeats", type=int, default=5, help="turns, after one for warmth")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {
        "date": date.today().isoformat(),
        "repeats": arguments.repeats,
        "most": MOST,
        "miniature": miniature(arguments),
        "random networks": random_networks(arguments),
    }
    stem = arguments.out / f"scoring-{figures['date']}"
    stem.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    text = markdown(figures)
    stem.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
