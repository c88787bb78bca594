"""Progress of long evaluations, on stderr: a bar at a terminal, elsewhere a line for every quarter."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def watched(title: str, total: int, console: Console | None = None) -> Iterator[Callable[[int], None]]:
    """Yield `advance(count)`: call it whenever so many of `total` are done."""
    console = console or Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
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
