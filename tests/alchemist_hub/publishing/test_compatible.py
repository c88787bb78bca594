"""What is added for older clients: earlier names of text weights, two files of a tokenizer; nothing that is there."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_base, tiny_tokenizer
from transformers import CLIPTextModel, CLIPTokenizer

from alchemist_hub.models import model
from alchemist_hub.publishing.compatible import write_compatible


def files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    return tiny_base("sdxl", tmp_path_factory.mktemp("made") / "pipeline")


def test_clips_text_weights_get_their_earlier_names_and_load_alike(pipeline, tmp_path):
    write_compatible(files(pipeline), tmp_path)
    place = Path("text_encoder") / "model.safetensors"
    assert set(load_file(tmp_path / place)) == {f"text_model.{name}" for name in load_file(pipeline / place)}
    (tmp_path / place).with_name("config.json").write_bytes((pipeline / place).with_name("config.json").read_bytes())
    before, after = (CLIPTextModel.from_pretrained(each / "text_encoder").state_dict() for each in (pipeline, tmp_path))
    assert before and all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_tokenizer_gets_the_two_files_that_say_the_same(pipeline, tmp_path):
    write_compatible(files(pipeline), tmp_path)
    assert {path.name for path in (tmp_path / "tokenizer").iterdir()} == {"vocab.json", "merges.txt"}
    again = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    for text in ("a photo of mars over the sea", "letters too"):
        assert again(text).input_ids == tiny_tokenizer()(text).input_ids


def test_other_networks_stay_as_they_are(pipeline, tmp_path):
    write_compatible(files(pipeline), tmp_path)
    assert {path.parent.name for path in files(tmp_path).values()} == {"text_encoder", "tokenizer", "tokenizer_2"}


def test_a_tokenizer_of_another_kind_stays_as_it_is(tmp_path):
    pipeline = tiny_base("sd35m", tmp_path / "pipeline")
    write_compatible(files(pipeline), tmp_path / "out")
    assert (pipeline / "tokenizer_3" / "tokenizer.json").is_file()
    assert {path.parent.name for path in files(tmp_path / "out").values()} == {"tokenizer", "tokenizer_2"}


def test_what_has_all_of_it_needs_nothing(tmp_path):
    shipped = files(Path(model("mini").tuned))
    write_compatible(shipped, tmp_path / "first")
    assert set(files(tmp_path / "first")) == {"tokenizer/vocab.json", "tokenizer/merges.txt"}
    write_compatible(shipped | files(tmp_path / "first"), tmp_path / "second")
    assert not files(tmp_path / "second")
