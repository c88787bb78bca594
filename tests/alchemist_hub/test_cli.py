"""The `alchemist` command as people type it: what it prints, and its exit status."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from alchemist_hub import __version__
from alchemist_hub.cli import main


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the exit status of `alchemist ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["alchemist", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == f"alchemist-hub {__version__}\n"


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    for command in ("demo", "app", "curate", "train", "sample", "evaluate", "card"):
        assert f" {command} " in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sample", "mars", "--model", "sd99"), "unknown model key 'sd99'; the keys are sd15"),
        (("sample", "mars", "--checkpoint", "{tmp}"), "holds no model_index.json"),
        (("sample", "mars", "--checkpoint", "{tmp}/nowhere"), "does not exist"),
        (("train", "--base", "{tmp}/nowhere", "--data", "{tmp}", "--out", "{tmp}/run"), "does not exist"),
        (("train", "--data", "{tmp}", "--out", "{tmp}/run", "--steps", "0"), "steps is 0"),
        (("curate", "funnel", "{tmp}/nowhere"), "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*(part.format(tmp=tmp_path) for part in arguments), monkeypatch=monkeypatch) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and says in line


def test_sample_writes_the_same_picture_for_the_same_seed(
    v_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("sample", "a photo of mars", "--checkpoint", str(v_pipeline), "--steps", "2")
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = str(tmp_path / "new" / f"{name}.png")
        assert run(*asked, "--seed", seed, "--out", out, monkeypatch=monkeypatch) == 0
    a, b, c = ((tmp_path / "new" / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert Image.open(tmp_path / "new" / "a.png").size == (64, 64)


def test_sample_to_a_place_that_cannot_be_written(
    v_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    asked = ("sample", "mars", "--checkpoint", str(v_pipeline), "--steps", "2", "--out", f"{tmp_path}/file/mars.png")
    assert run(*asked, monkeypatch=monkeypatch) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alchemist_hub.models.model", interrupt)
    assert run("sample", "mars", monkeypatch=monkeypatch) == 130
