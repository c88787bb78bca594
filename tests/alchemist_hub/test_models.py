from pathlib import Path

import diffusers
import pytest

from alchemist_hub.errors import ModelError
from alchemist_hub.models import MODELS, local_folder, model, revision, spec_of


def test_every_model_key_names_a_pipeline_class_of_the_library():
    assert list(MODELS) == ["sd15", "sd21", "sdxl", "sd35m", "sd35l", "mini"]
    for key, spec in MODELS.items():
        assert spec.key == key
        assert issubclass(getattr(diffusers, spec.pipeline), diffusers.DiffusionPipeline)
        assert spec.base != spec.tuned


def test_the_flow_models_are_the_sd3_class():
    assert [key for key, spec in MODELS.items() if spec.objective == "flow"] == ["sd35m", "sd35l"]
    assert {spec.pipeline for spec in MODELS.values() if spec.objective == "flow"} == {"StableDiffusion3Pipeline"}


def test_an_unknown_key_is_answered_with_the_known_ones():
    with pytest.raises(ModelError, match="'sd16'.*sd15, sd21"):
        model("sd16")
    assert model("mini").size == 64


def test_a_pipeline_folder_is_its_own_local_folder(v_pipeline: Path):
    assert local_folder(v_pipeline) == v_pipeline


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "does not exist"),
        ("nobody/no-such-model", "is no local folder and cannot be downloaded"),
        (Path(__file__).parent, "holds no model_index.json"),
    ],
)
def test_a_source_without_a_pipeline_gets_one_line(source: str | Path, message: str):
    with pytest.raises(ModelError, match=message) as caught:
        local_folder(source)
    assert "\n" not in str(caught.value)


def test_a_finished_training_run_is_its_pipeline(v_pipeline: Path, tmp_path: Path):
    (tmp_path / "pipeline").symlink_to(v_pipeline)
    assert local_folder(tmp_path) == tmp_path / "pipeline"


@pytest.mark.parametrize("damage", ["{bad", "[]", "{}"])
def test_a_damaged_index_is_one_line(damage: str, tmp_path: Path):
    (tmp_path / "model_index.json").write_text(damage)
    with pytest.raises(ModelError, match="model_index.json is damaged"):
        spec_of(tmp_path)


def test_a_gated_base_tells_where_to_ask(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_, **__):
        raise OSError("the Hub said no.\nsee above") from OSError("403 Client Error.")

    monkeypatch.setattr(diffusers.DiffusionPipeline, "download", refuse)
    with pytest.raises(ModelError, match="403 Client Error; accept its licence at huggingface.co/.*-large and log in"):
        local_folder(MODELS["sd35l"].base)
    with pytest.raises(ModelError, match="403 Client Error$"):
        local_folder(MODELS["sdxl"].base)


@pytest.mark.parametrize(("kind", "key"), [("v_pipeline", "mini"), ("xl_pipeline", "sdxl"), ("sd3_pipeline", "sd35m")])
def test_a_pipeline_is_sampled_like_the_model_it_resembles(kind: str, key: str, request: pytest.FixtureRequest):
    assert spec_of(request.getfixturevalue(kind)).key == key


def test_a_downloaded_pipeline_knows_its_commit(tmp_path: Path):
    assert revision(tmp_path / "models--a--b" / "snapshots" / "0123abcd") == "0123abcd"
    assert revision(tmp_path / "a" / "b") is None
