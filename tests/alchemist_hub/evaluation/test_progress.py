"""What a person sees of a long evaluation, with and without a terminal."""

import io

from rich.console import Console

from alchemist_hub.evaluation.progress import rate, watched


def shown(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with watched("pictures of base", 8, console) as advance:
        for _ in range(8):
            advance(1)
    return console.file.getvalue()


def test_without_a_terminal_every_quarter_is_a_line():
    assert shown(terminal=False).splitlines() == [f"pictures of base: {done} of 8" for done in (2, 4, 6, 8)]


def test_at_a_terminal_the_bar_ends_full():
    assert "8/8" in shown(terminal=True)


def test_the_rate_is_told_as_people_read_it():
    assert [rate(speed) for speed in (None, 0.0, 0.25, 3.21)] == ["", "", "4.0 s each", "3.2/s"]


def test_another_process_tells_nothing(capsys):
    with watched("pictures of base", 4, quiet=True) as advance:
        advance(4)
    assert capsys.readouterr().err == ""
