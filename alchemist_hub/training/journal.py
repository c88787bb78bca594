"""What a training run tells while it runs: a bar, log.jsonl, pictures, and TensorBoard for those who ask for it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from alchemist_hub.errors import TrainingError
from alchemist_hub.training.checkpoint import write_whole

LOG, PICTURES, TENSORBOARD = "log.jsonl", "validation", "tensorboard"


class Journal:
    """The open journal of one run. Every line is on disk before a snapshot counts its step as done."""

    def __init__(self, out: Path, log: TextIO, bar: "_Bar", board: Any) -> None:
        self.out, self.log, self.bar, self.board = out, log, bar, board

    def step(self, line: dict[str, float]) -> None:
        """Write down one finished step: "step", "loss" and whatever else was measured."""
        self.log.write(json.dumps(line) + "\n")
        self.log.flush()
        self.bar.advance(line["loss"])
        if self.board:
            for name in line.keys() - {"step"}:
                self.board.add_scalar(name, line[name], line["step"])

    def pictures(self, step: int, pictures: list[Image.Image]) -> None:
        """Keep the validation pictures of a step as validation/NUMBER/step-STEP.png."""
        for number, picture in enumerate(pictures):
            folder = self.out / PICTURES / str(number)
            folder.mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"step-{step:08d}.png")
            if self.board:
                self.board.add_image(f"validation/{number}", np.asarray(picture), step, dataformats="HWC")


class Silence:
    """The journal of every process but the first."""

    def step(self, line: dict[str, float]) -> None:
        """Say nothing."""

    def pictures(self, step: int, pictures: list[Image.Image]) -> None:
        """Keep nothing."""


@contextmanager
def journal(
    out: Path, *, steps: int, done: int, shown: bool, tensorboard: bool, first: bool
) -> Iterator["Journal | Silence"]:
    """Open the journal of the run in `out` at the `done` steps that its snapshot counts.

    `shown`: a bar on a terminal, a line every tenth of the run elsewhere. Only the `first` process keeps it. Raises
    `TrainingError` if TensorBoard is asked for and not installed.
    """
    if not first:
        yield Silence()
        return
    lines = (out / LOG).read_text().splitlines(keepends=True)[:done] if (out / LOG).exists() else []
    write_whole(out / LOG, "".join(lines))
    with ExitStack() as stack:
        board = stack.enter_context(_board(out / TENSORBOARD, done)) if tensorboard else None
        log = stack.enter_context((out / LOG).open("a"))
        yield Journal(out, log, stack.enter_context(_bar(steps, done, shown=shown)), board)


def _board(folder: Path, done: int) -> Any:
    """A TensorBoard writer that forgets what a killed run wrote after its snapshot."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise TrainingError("--tensorboard needs a package: pip install 'alchemist-hub[train]'") from error
    return SummaryWriter(str(folder), purge_step=done + 1)


class _Bar:
    """A bar on a terminal, a line every tenth of the run elsewhere."""

    def __init__(self, bar: Progress, steps: int, done: int, shown: bool) -> None:
        self.progress, self.steps, self.done, self.shown = bar, steps, done, shown
        self.task = bar.add_task("training", total=steps, completed=done)

    def advance(self, loss: float) -> None:
        self.done += 1
        self.progress.update(self.task, advance=1, description=f"training, loss {loss:.4f}")
        told = self.done == self.steps or self.done % max(1, self.steps // 10) == 0
        if self.shown and told and not self.progress.console.is_terminal:
            self.progress.console.print(f"training: step {self.done} of {self.steps}, loss {loss:.4f}")


@contextmanager
def _bar(steps: int, done: int, *, shown: bool) -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as bar:
        yield _Bar(bar, steps, done, shown)
