"""Whoever watches a run: nobody, or a person at a terminal."""

from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress(Protocol):
    """Whoever watches a run."""

    def begin(self, title: str, total: int, done: int) -> None:
        """A segment begins: `total` rows, of which `done` were judged by an earlier run."""

    def advance(self, rows: int) -> None:
        """Rows of the present segment were committed."""

    def note(self, message: str) -> None:
        """Something worth a line happened: a worker died, a sample was quarantined."""

    def end(self) -> None:
        """The present segment is complete."""


class Silence:
    """Nobody watches."""

    def begin(self, title: str, total: int, done: int) -> None:
        """Ignore."""

    def advance(self, rows: int) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""

    def end(self) -> None:
        """Ignore."""


class Terminal:
    """A bar for each segment and reduction, with counts; where there is no terminal, a line for every quarter."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = TaskID(0)

    def __enter__(self) -> "Terminal":
        self._bars.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bars.stop()

    def begin(self, title: str, total: int, done: int) -> None:
        """Add a bar."""
        resumed = f" [dim]({done} judged before)[/dim]" if done else ""
        self._task = self._bars.add_task(title + resumed, total=total, completed=done)

    def advance(self, rows: int) -> None:
        """Move the bar."""
        before = self._quarter()
        self._bars.advance(self._task, rows)
        if not self._console.is_terminal and self._quarter() > before:
            self._print_line()

    def note(self, message: str) -> None:
        """Print a line above the bars."""
        self._console.print(f"[yellow]note:[/yellow] {escape(message)}", highlight=False)

    def end(self) -> None:
        """Leave the full bar, also where there was nothing to do."""
        task = self._bars.tasks[self._task]
        self._bars.update(self._task, completed=task.total)

    def _quarter(self) -> int:
        task = self._bars.tasks[self._task]
        return int(4 * task.completed / task.total) if task.total else 4

    def _print_line(self) -> None:
        task = self._bars.tasks[self._task]
        self._console.print(f"{task.description}: {task.completed:,.0f} of {task.total:,.0f}", highlight=False)
