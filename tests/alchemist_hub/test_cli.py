"""The `alchemist` command as people type it: what it prints, and its exit status."""

import json
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
    for command in ("demo", "app", "curate", "models", "train", "sample", "evaluate", "card", "publish"):
        assert f" {command} " in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("sample", "sd99", "--prompt", "mars"), "sd99 does not exist"),
        (("sample", "{tmp}", "--prompt", "mars"), "holds no model_index.json"),
        (("sample", "{tmp}/nowhere", "--prompt", "mars"), "does not exist"),
        (("app", "--models", "{tmp}/nowhere"), "is no folder; --models takes one that holds KEY/base and KEY/tuned"),
        (("train", "sd99", "--data", "{tmp}", "--out", "{tmp}/run"), "unknown model key 'sd99'; the keys are sd15"),
        (("train", "mini", "--base", "{tmp}/nowhere", "--data", "{tmp}", "--out", "{tmp}/run"), "does not exist"),
        (("train", "mini", "--data", "{tmp}", "--out", "{tmp}/run", "--steps", "0"), "steps is 0"),
        (("train", "mini", "--data", "{tmp}", "--out", "{tmp}/run", "--set", "stepz=3"), "has no stepz; it has steps"),
        (("train", "mini", "--data", "{tmp}", "--out", "{tmp}/run", "--set", "flip"), "expected name=value"),
        (("train", "mini", "--plan"), "--plan takes --gpu-memory"),
        (("train", "mini", "--plan", "--gpu-memory", "much"), "'much' is no amount of memory"),
        (("train", "mini", "--plan", "--gpu-memory", "2200MiB"), "does not fit"),
        (("train", "mini", "--data", "{tmp}"), "name --data and --out"),
        (("evaluate", "{tmp}/nowhere", "mini", "--out", "{tmp}/out"), "does not exist"),
        (("evaluate", "{tmp}", "mini", "--out", "{tmp}/out"), "holds no model_index.json"),
        (("evaluate", "mini", "--metrics", "beauty", "--out", "{tmp}/out"), "unknown measure beauty"),
        (("evaluate", "mini", "--metrics", "pickscore", "--out", "{tmp}/out"), "cannot be downloaded"),
        (("evaluate", "mini", "--prompts", "parti", "--out", "{tmp}/out"), "nateraw/parti-prompts"),
        (("evaluate", "mini", "--count", "0", "--out", "{tmp}/out"), "0 prompts are too few"),
        (("evaluate", "mini", "--weights", "hpsv2.1", "--out", "{tmp}/out"), "expected NAME=FILE"),
        (("evaluate", "mini", "--device", "warp", "--out", "{tmp}/out"), "--device warp cannot be used"),
        (("evaluate", "mini", "--count", "1", "--out", "/proc/none"), "cannot be made"),
        (("curate", "funnel", "{tmp}/nowhere"), "nowhere"),
        (("card", "--model", "sd99", "--out", "{tmp}"), "unknown model key 'sd99'"),
        (("card", "--report", "{tmp}", "--out", "{tmp}"), "no evaluation in"),
        (("card", "--samples", "{tmp}/nothing.png", "--out", "{tmp}/card"), "nothing.png is no picture"),
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
    asked = ("sample", str(v_pipeline), "--prompt", "a photo of mars", "--steps", "2")
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = str(tmp_path / "new" / f"{name}.png")
        assert run(*asked, "--seed", seed, "--out", out, monkeypatch=monkeypatch) == 0
    a, b, c = ((tmp_path / "new" / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert Image.open(tmp_path / "new" / "a.png").size == (64, 64)


def test_sample_beside_another_draws_a_sheet(
    v_pipeline: Path, epsilon_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("sample", str(v_pipeline), "--prompt", "mars", "--prompt", "the sea", "--steps", "2")
    for name, more in (("one", ()), ("two", ("--beside", str(epsilon_pipeline)))):
        assert run(*asked, *more, "--out", str(tmp_path / f"{name}.png"), monkeypatch=monkeypatch) == 0
    one, two = (Image.open(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert two.width > one.width > 64
    assert two.height == one.height


def test_sample_to_a_place_that_cannot_be_written(
    v_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    asked = ("sample", str(v_pipeline), "--prompt", "mars", "--steps", "2", "--out", f"{tmp_path}/file/mars.png")
    assert run(*asked, monkeypatch=monkeypatch) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_models_are_listed_with_their_memory(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("models", "--json", monkeypatch=monkeypatch) == 0
    told = {model["key"]: model for model in json.loads(capsys.readouterr().out)}
    assert told["sdxl"]["parameters"] == 2_567_463_684
    assert told["sd35l"]["gated"] and told["sd35l"]["licence"] == "stabilityai-ai-community"
    assert 17e9 / 2**30 < told["sd15"]["memory"]["recipe"] / 2**30 < 20
    assert all(model["memory"]["leanest"] <= model["memory"]["recipe"] for model in told.values())
    assert run("models", monkeypatch=monkeypatch) == 0
    assert "sd35l" in capsys.readouterr().out


def test_evaluate_writes_a_report_and_says_who_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mini", "--count", "2", "--steps", "2", "--out", str(tmp_path))
    assert run("evaluate", *arguments, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5 and said[0].startswith("tuned against base, aesthetics: ") and said[-1] == str(tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 1000
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "grid.png",
        "side_by_side.png",
        "win_rates.png",
    ]


def test_card_writes_a_model_card_to_a_folder_or_a_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("card", "other/README.md"):
        arguments = ("--model", "sdxl", "--org", "someone", "--out", str(tmp_path / place))
        assert run("card", *arguments, monkeypatch=monkeypatch) == 0
    for card in (tmp_path / "card" / "README.md", tmp_path / "other" / "README.md"):
        assert "someone/stable-diffusion-xl-base-1.0-alchemist" in card.read_text()


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alchemist_hub.models.model", interrupt)
    assert run("train", "mini", "--data", "d", "--out", "o", monkeypatch=monkeypatch) == 130
