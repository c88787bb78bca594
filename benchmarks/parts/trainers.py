"""One training of either side, ours or the official script's, in a process of its own and on the same terms.

As a program it trains our side: python -m benchmarks.parts.trainers FOLDER OUT STEPS SEED.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from alchemist_hub.training.recipes import TrainingRecipe

OURS, OFFICIAL = "ours", "official script"
BATCH, RATE = 16, 1e-4  # pictures a step; learning rate
SIZE = 128  # pixels a side
ROOT = Path(__file__).resolve().parents[2]
SCRIPT_RUNNER = Path(__file__).with_name("official.py")
LOSS = re.compile(r"\| (\d+)/\d+ \[[^\]]*step_loss=([^\],]+)")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one process took, in CPU seconds and megabytes at its peak, and the loss of every step."""

    cpu_seconds: float
    peak_mb: float
    losses: list[float]


@dataclass(frozen=True, kw_only=True)
class Trainers:
    """The folder with base/, data/ and imagefolder/, and who runs the official script."""

    folder: Path
    official: Path | None
    python: str

    @property
    def sides(self) -> tuple[str, ...]:
        return (OFFICIAL, OURS) if self.official else (OURS,)

    def run(self, side: str, *, steps: int, seed: int) -> Run:
        """Train in a fresh process and a fresh folder. Raises `SystemExit` with the output's end if it fails."""
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            command = {OURS: self._ours, OFFICIAL: self._official}[side](Path(out), steps, seed)
            output = Path(out) / "output"
            with output.open("wb") as file:
                process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=_environment(Path(out)))
                _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            text = output.read_text(errors="replace")
            if process.returncode:
                raise SystemExit(f"{side} did not finish {steps} steps:\n{text[-2000:]}")
            losses = _bar_losses(text) if side == OFFICIAL else _log_losses(Path(out) / "run")
        seconds = used.ru_utime + used.ru_stime
        print(f"{side}, seed {seed}, {steps} steps: {seconds:.1f} CPU s", file=sys.stderr, flush=True)
        return Run(cpu_seconds=seconds, peak_mb=used.ru_maxrss / 1024, losses=losses)

    def _ours(self, out: Path, steps: int, seed: int) -> list[str]:
        return [sys.executable, "-m", __spec__.name, str(self.folder), str(out / "run"), str(steps), str(seed)]

    def _official(self, out: Path, steps: int, seed: int) -> list[str]:
        settings = {
            "pretrained_model_name_or_path": self.folder / "base",
            "train_data_dir": self.folder / "imagefolder",
            "output_dir": out / "run",
            "resolution": SIZE,
            "train_batch_size": BATCH,
            "max_train_steps": steps,
            "learning_rate": RATE,
            "lr_scheduler": "constant",
            "lr_warmup_steps": 0,
            "checkpointing_steps": steps + 1,
            "seed": seed,
        }
        named = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return [self.python, str(SCRIPT_RUNNER), str(self.official), *named, "--center_crop", "--use_ema"]


def recipe(steps: int, seed: int) -> TrainingRecipe:
    """Return our recipe with the official script's defaults, where ours are others."""
    return TrainingRecipe(
        steps=steps,
        learning_rate=RATE,
        batch_size=BATCH,
        schedule="constant",
        ema=0.9999,
        caption_dropout=0,
        seed=seed,
        checkpoint_every=steps + 1,
    )


def train_ours(folder: str, out: str, steps: str, seed: str) -> None:
    """Train our side in this process."""
    from alchemist_hub.training.loop import train

    base, data = Path(folder) / "base", Path(folder) / "data"
    train(recipe(int(steps), int(seed)), base=base, data=data, out=Path(out), progress=False)


def _environment(out: Path) -> dict[str, str]:
    """One thread, no network, no GPU, and no data set prepared by an earlier run."""
    alone = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | alone | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out / "datasets")}


def _bar_losses(text: str) -> list[float]:
    """The loss of every step, three digits of each, as the script's progress bar showed it last."""
    return list({int(step): float(loss) for step, loss in LOSS.findall(text)}.values())


def _log_losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    train_ours(*sys.argv[1:])
