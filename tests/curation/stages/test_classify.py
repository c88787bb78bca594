"""Safety, defects and IQA, on tiny real ResNets with random weights."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

from curation.errors import RecipeError
from curation.stages.defects import Defects
from curation.stages.iqa import Iqa
from curation.stages.safety import WEB_LABELS, Safety

MEAN = STD = [0.5, 0.5, 0.5]


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of from_pretrained folders: a ResNet of two small stages with the given labels."""

    def build(*labels: str, seed: int = 0) -> Path:
        torch.manual_seed(seed)
        config = ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 1],
            layer_type="basic",
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
        )
        network = ResNetForImageClassification(config).eval()
        folder = tmp_path / f"{'-'.join(labels)}-{seed}"
        network.save_pretrained(folder)
        processor = ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0, image_mean=MEAN, image_std=STD)
        processor.save_pretrained(folder)
        return folder

    return build


def logits(folder: Path, picture: np.ndarray) -> torch.Tensor:
    """The same network on a 32 x 32 picture, without processor or stage."""
    network = ResNetForImageClassification.from_pretrained(folder)
    pixels = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        return network(pixels).logits[0]


def test_unsafe_is_the_softmax_of_the_named_label(model, samples, pixels) -> None:
    folder = model("safe", "NSFW")
    flat = np.full((32, 32, 3), 200, dtype=np.uint8)
    stage = Safety(folder)
    stage.open()
    scored = stage(samples([flat, pixels(1)]))
    expected = logits(folder, flat).softmax(dim=0)[1].item()
    assert scored["unsafe"][0].as_py() == pytest.approx(expected, abs=1e-5)
    assert scored["unsafe"][1].as_py() != pytest.approx(expected, abs=1e-5)


def test_rows_that_do_not_decode_get_null_and_cost_no_other_row_its_place(model, samples, pixels) -> None:
    stage = Safety(model("safe", "unsafe"))
    stage.open()
    alone = stage(samples([pixels(1), pixels(2)]))["unsafe"].to_pylist()
    among = stage(samples([None, pixels(1), None, pixels(2)]))["unsafe"].to_pylist()
    assert among[0] is None and among[2] is None
    assert [among[1], among[3]] == pytest.approx(alone, abs=1e-6)


def test_a_batch_without_a_single_picture_is_scored_null(model, samples) -> None:
    stage = Safety(model("safe", "unsafe"))
    stage.open()
    scored = stage(samples([None, None]))
    assert scored["unsafe"].to_pylist() == [None, None]
    assert scored.schema.field("unsafe").type == "float"


def test_a_safety_model_without_an_unsafe_label_is_refused_with_its_labels(model) -> None:
    with pytest.raises(RecipeError, match="cat, dog"):
        Safety(model("cat", "dog")).open()


def test_other_unsafe_labels_can_be_named(model, samples, pixels) -> None:
    stage = Safety(model("drawing", "porn", "hentai"), labels=frozenset({"Porn", "hentai"}))
    stage.open()
    assert 0 < stage(samples([pixels(3)]))["unsafe"][0].as_py() < 1


@pytest.mark.parametrize(
    ("labels", "unsafe"),
    [(("normal", "nsfw"), [1]), (("NSFW", "SFW"), [0]), (("drawing", "Hentai", "neutral", "porn", "sexy"), [1, 3])],
)
def test_the_namings_of_public_models_are_known(model, samples, labels, unsafe) -> None:
    folder = model(*labels)
    stage = Safety(folder, labels=WEB_LABELS)
    stage.open()
    flat = np.full((32, 32, 3), 120, dtype=np.uint8)
    expected = logits(folder, flat).softmax(dim=0)[unsafe].sum().item()
    assert stage(samples([flat]))["unsafe"][0].as_py() == pytest.approx(expected, abs=1e-5)


def test_defects_writes_a_column_per_label_known_before_open(model, samples) -> None:
    folder = model("blur", "low contrast")
    stage = Defects(folder)
    assert stage.writes.names == ["defect_blur", "defect_low_contrast", "defect_max"]
    stage.open()
    flat = np.full((32, 32, 3), 90, dtype=np.uint8)
    row = stage(samples([flat])).select(stage.writes.names).to_pylist()[0]
    blur, contrast = logits(folder, flat).sigmoid().tolist()
    assert [row["defect_blur"], row["defect_low_contrast"]] == pytest.approx([blur, contrast], abs=1e-5)
    assert row["defect_max"] == max(row["defect_blur"], row["defect_low_contrast"])


def test_defects_refuses_a_model_whose_labels_are_not_the_recipes(model) -> None:
    stage = Defects(model("blur", "noise"), labels=("noise", "blur"))
    with pytest.raises(RecipeError, match="noise, blur"):
        stage.open()


def test_iqa_is_the_regression_output(model, samples) -> None:
    folder = model("quality")
    stage = Iqa(folder)
    stage.open()
    flat = np.full((32, 32, 3), 30, dtype=np.uint8)
    assert stage(samples([flat]))["iqa"][0].as_py() == pytest.approx(logits(folder, flat)[0].item(), abs=1e-5)


def test_iqa_refuses_a_classifier(model) -> None:
    with pytest.raises(RecipeError, match="2 labels"):
        Iqa(model("bad", "good")).open()


def test_new_weights_in_the_same_folder_are_another_configuration(model) -> None:
    folder = model("quality")
    before = Iqa(folder).config()
    assert Iqa(folder).config() == before
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert Iqa(folder).config() != before
    json.dumps(before)


def test_a_stage_travels_to_its_worker_and_scores_there(model, samples, pixels) -> None:
    stage = Defects(model("blur", "noise"))
    travelled = pickle.loads(pickle.dumps(stage))
    stage.open()
    travelled.open()
    assert travelled(samples([pixels(5)])).equals(stage(samples([pixels(5)])))


@pytest.mark.parametrize("name", ["/no/such/folder", "./nowhere", "~/models/nsfw"])
def test_a_model_folder_that_is_not_there_is_one_clear_line(name: str) -> None:
    with pytest.raises(RecipeError, match=f"no model folder at {name}"):
        Safety(name).config()


def test_a_folder_that_holds_no_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot load the model") as caught:
        Defects(tmp_path)
    assert "\n" not in str(caught.value)


def test_weights_without_the_head_of_this_task_are_refused(model) -> None:
    folder = model("safe", "unsafe")
    ResNetForImageClassification.from_pretrained(folder).resnet.save_pretrained(folder)
    with pytest.raises(RecipeError, match="classifier"):
        Safety(folder).open()
