"""Progress of long evaluations, on stderr: a bar with its rate at a terminal, elsewhere a line for every quarter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """How fast it goes: so many a second, or so many seconds each."""

    def render(self, task: Task) -> Text:
        return Text(rate(task.speed))


def rate(speed: float | None) -> str:
    """Return a speed per second as people read it."""
    if not speed:
        return ""
    return f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"


@contextmanager
def watched(
    title: str, total: int, console: Console | None = None, *, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`: call it whenever so many of `total` are done; `quiet` shows nothing of it."""
    console = console or Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn())
    done = 0
    with Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(title, total=total)

        def advance(count: int) -> None:
            nonlocal done
            before, done = done, done + count
            bar.advance(task, count)
            if not console.is_terminal and done * 4 // total > before * 4 // total:
                console.print(f"{title}: {done} of {total}", highlight=False)

        yield advance
