"""Prompts by name and from files: what is read, what is refused, and in one line why."""

import json
from pathlib import Path

import pandas as pd
import pytest

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import prompts
from alchemist_hub.evaluation.prompts import Prompt

TEXTS = ["a red fox", "Mars rises on the horizon.", "ein süßer Hund"]


def written(folder: Path, kind: str) -> Path:
    path = folder / f"mine.{kind}"
    table = pd.DataFrame({"id": [1, 2, 3], "Prompt": TEXTS, "category": ["animals", None, "animals"]})
    if kind == "txt":
        path.write_text("\n".join(["", *TEXTS, "  ", TEXTS[0]]), encoding="utf-8")
    elif kind in ("csv", "tsv"):
        table.to_csv(path, sep="\t" if kind == "tsv" else ",", index=False)
    elif kind == "parquet":
        table.to_parquet(path)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps({"prompt": text}) for text in TEXTS) + "\n", encoding="utf-8")
    else:
        path.write_text(json.dumps({str(row): {"prompt": text} for row, text in enumerate(TEXTS)}), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "parquet", "jsonl", "json"])
def test_a_file_gives_its_prompts_once_and_in_order(kind, tmp_path):
    found = prompts.load(str(written(tmp_path, kind)))
    assert [prompt.text for prompt in found.prompts] == TEXTS
    assert found.source.name == "mine" and found.source.source is None
    if kind in ("csv", "tsv", "parquet"):
        assert [prompt.category for prompt in found.prompts] == ["animals", None, "animals"]


def test_the_projects_own_are_many_different_and_begin_with_the_papers():
    found = prompts.read_file(prompts.PROJECT)
    assert 120 <= len(found) <= 200
    assert found[0] == Prompt("Mars rises on the horizon.", "space")
    assert len({prompt.category for prompt in found}) >= 12
    assert all(prompt.category and len(prompt.text) <= 90 for prompt in found)


def test_a_part_is_spread_over_the_set_and_always_the_same():
    part = prompts.load("project", 14).prompts
    assert part == prompts.load("project", 14).prompts
    assert len(set(part)) == 14 and part[0].text == "Mars rises on the horizon."
    assert len({prompt.category for prompt in part}) >= 12
    assert len(prompts.load("project", 5000).prompts) == len(prompts.read_file(prompts.PROJECT))


def test_the_miniatures_know_what_they_ask_for():
    found = prompts.load("miniature", 7)
    assert len({prompt.text for prompt in found.prompts}) == 7
    assert all(prompt.ground in prompt.text for prompt in found.prompts if prompt.ground in ("sea", "forest"))
    assert len(prompts.load("miniature").prompts) == prompts.COUNT


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", b"", "holds no prompts"),
        ("blank.txt", b"\n  \n\t\n", "holds no prompts"),
        ("latin.txt", "süß".encode("latin-1"), "is not UTF-8 (byte 1)"),
        ("latin.csv", "prompt\nsüß\n".encode("latin-1"), "is not UTF-8"),
        ("none.csv", b"", "cannot be read as .csv"),
        ("other.csv", b"id,words\n1,a fox\n", "has no column prompt; its columns: id, words"),
        ("numbers.jsonl", b'{"prompt": 3}\n', "holds no prompts"),
        ("broken.jsonl", b'{"prompt": "a fox"\n', "cannot be read as .jsonl"),
        ("broken.parquet", b"PAR1 and more", "cannot be read as .parquet"),
        ("scene.png", b"\x89PNG", "is no prompt file: expected .txt"),
        ("novel.txt", b"word " * 1000, "a prompt of 4999 characters"),
    ],
)
def test_a_file_that_is_no_prompts_is_one_clear_error(name, content, says, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EvaluationError) as error:
        prompts.load(str(path))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_unknown_names_and_counts_are_one_clear_error(tmp_path):
    with pytest.raises(EvaluationError, match="no prompts called partii: expected project, miniature, parti, mjhq"):
        prompts.load("partii")
    with pytest.raises(EvaluationError, match="0 prompts are too few"):
        prompts.load("project", 0)


def test_without_a_network_a_public_set_says_what_to_use_instead():
    with pytest.raises(EvaluationError) as error:
        prompts.load("parti")
    assert "nateraw/parti-prompts" in str(error.value) and "need no network: project, miniature" in str(error.value)
    assert "\n" not in str(error.value)
