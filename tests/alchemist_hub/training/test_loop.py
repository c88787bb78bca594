import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tiny_data import tiny_dataset, tiny_image, write_dataset
from tiny_models import tiny_base

from alchemist_hub.errors import ModelError, TrainingError
from alchemist_hub.models import MODELS
from alchemist_hub.sampling import generate, load_pair
from alchemist_hub.training import encode as encode_module
from alchemist_hub.training import loop
from alchemist_hub.training.checkpoint import denoiser_name
from alchemist_hub.training.loop import learning_rate, train
from alchemist_hub.training.recipes import RECIPES, TrainingRecipe, miniature

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def recipe(**settings) -> TrainingRecipe:
    defaults = {"steps": 4, "learning_rate": 1e-3, "batch_size": 4, "ema": 0.9, "checkpoint_every": 2, "flip": True}
    return TrainingRecipe(**{**defaults, **settings})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("key", ["sd15", "sd21", "sdxl", "sd35m", "sd35l"])
def test_each_of_the_five_learns_eight_pictures_and_becomes_a_pipeline_that_differs_in_its_denoiser_alone(
    key: str, data: Path, tmp_path: Path
):
    base = tiny_base(key, tmp_path / "base")
    settings = recipe(steps=60, batch_size=8, learning_rate=5e-3, schedule="constant", caption_dropout=0.0, flip=False)
    settings = replace(settings, timesteps=RECIPES[key].timesteps, min_snr_gamma=RECIPES[key].min_snr_gamma)
    arguments = {"base": base, "data": data, "cache": tmp_path / "cache", "progress": False}
    result = train(settings, out=tmp_path / "run", **arguments)
    train(replace(settings, learning_rate=1e-12), out=tmp_path / "still", **arguments)  # the same draws, unlearnt
    learnt, unlearnt = losses(tmp_path / "run"), losses(tmp_path / "still")
    assert len(learnt) == 60
    assert mean(learnt[-15:]) < 0.85 * mean(unlearnt[-15:])

    assert same_files_but(denoiser_name(base), base, result)
    pair = load_pair(base, result)
    assert pair.tuned.__class__.__name__ == MODELS[key].pipeline
    one, other = (
        generate(side, ["a photo of mars"], [0], steps=4, guidance=2.0)[0] for side in (pair.base, pair.tuned)
    )
    assert one.size == other.size == (64, 64)
    assert one.tobytes() != other.tobytes()


def same_files_but(changed: str, base: Path, result: Path) -> bool:
    """Whether all files but the weights in `changed` and training.json are equal byte for byte, none more or less."""
    files = {path.relative_to(base) for path in base.rglob("*") if path.is_file()}
    found = {path.relative_to(result) for path in result.rglob("*") if path.is_file()} - {Path("training.json")}
    weights = Path(changed) / "diffusion_pytorch_model.safetensors"
    assert (base / weights).read_bytes() != (result / weights).read_bytes()
    return files == found and all(
        (base / name).read_bytes() == (result / name).read_bytes() for name in files - {weights}
    )


def test_the_result_is_in_the_bases_data_types_and_nothing_else_is_left(
    v_pipeline: Path, data: Path, cache: Path, tmp_path: Path
):
    result = train(recipe(), base=v_pipeline, data=data, out=tmp_path, cache=cache, progress=False)
    before, after = load_file(v_pipeline / WEIGHTS), load_file(result / WEIGHTS)
    assert all(weight.isfinite().all() and weight.dtype == before[name].dtype for name, weight in after.items())
    assert {weight.dtype for weight in after.values()} == {torch.float16}
    assert set(load_pair(v_pipeline, result).shared) == {"vae", "text_encoder", "tokenizer"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "pipeline", "run.json"]


def test_the_record_says_where_the_checkpoint_came_from_and_no_path(
    v_pipeline: Path, data: Path, cache, tmp_path: Path
):
    settings = recipe()
    result = train(settings, base=v_pipeline, data=data, out=tmp_path, cache=cache, progress=False)
    text = (result / "training.json").read_text()
    record = json.loads(text)
    assert TrainingRecipe.from_dict(record["recipe"]) == settings
    assert record["base"]["name"] == v_pipeline.name
    assert record["data"]["samples"] == 8
    assert record["final_loss"] == losses(tmp_path)[-1]
    assert str(tmp_path) not in text
    assert str(v_pipeline) not in text


def test_a_finished_run_is_not_repeated(v_pipeline: Path, data: Path, cache: Path, tmp_path: Path):
    arguments = {"base": v_pipeline, "data": data, "out": tmp_path, "cache": cache, "progress": False}
    result = train(recipe(), **arguments)
    written = (result / WEIGHTS).stat().st_mtime_ns
    assert train(recipe(), **arguments) == result
    assert (result / WEIGHTS).stat().st_mtime_ns == written


def test_smaller_forward_passes_give_the_same_training(v_pipeline: Path, data: Path, cache: Path, tmp_path: Path):
    arguments = {"base": v_pipeline, "data": data, "cache": cache, "progress": False}
    train(recipe(), out=tmp_path / "whole", **arguments)
    train(recipe(micro_batch_size=2), out=tmp_path / "parts", **arguments)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_min_snr_and_half_precision_train(v_pipeline: Path, data: Path, cache: Path, tmp_path: Path):
    arguments = {"base": v_pipeline, "data": data, "cache": cache, "progress": False}
    train(recipe(), out=tmp_path / "plain", **arguments)
    train(recipe(min_snr_gamma=5.0), out=tmp_path / "weighted", **arguments)
    train(recipe(mixed_precision="bf16"), out=tmp_path / "half", **arguments)
    plain = losses(tmp_path / "plain")
    assert all(weighted < full for weighted, full in zip(losses(tmp_path / "weighted"), plain, strict=True))
    assert losses(tmp_path / "half") == pytest.approx(plain, rel=0.05)
    assert losses(tmp_path / "half") != plain


@pytest.mark.parametrize("kind", ["v_pipeline", "xl_pipeline", "sd3_pipeline"])
def test_pictures_of_fixed_prompts_are_painted_on_the_way_and_change_nothing(
    kind: str, data: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    base = request.getfixturevalue(kind)
    prompts = ("a photo of mars", "the sea at night")
    for name, every in (("with", 2), ("without", None)):
        settings = recipe(validate_every=every, validation_prompts=prompts)
        train(settings, base=base, data=data, out=tmp_path / name, progress=False)
    found = sorted(path.relative_to(tmp_path / "with") for path in (tmp_path / "with" / "validation").rglob("*.png"))
    assert [str(path) for path in found] == [
        f"validation/{prompt}/step-0000000{step}.png" for prompt in (0, 1) for step in (2, 4)
    ]
    assert Image.open(tmp_path / "with" / found[0]).size == (64, 64)
    assert (tmp_path / "with" / found[0]).read_bytes() != (tmp_path / "with" / found[1]).read_bytes()
    assert losses(tmp_path / "with") == losses(tmp_path / "without")


def test_tensorboard_gets_the_losses_and_the_pictures(v_pipeline: Path, data: Path, cache: Path, tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = recipe(validate_every=2)
    train(settings, base=v_pipeline, data=data, out=tmp_path, cache=cache, tensorboard=True, progress=False)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(losses(tmp_path))
    assert [event.step for event in events.Images("validation/0")] == [2, 4]


def test_bfloat16_weights_with_8_bit_moments_and_the_average_in_host_memory_train(
    sd3_pipeline: Path, data: Path, tmp_path: Path
):
    pytest.importorskip("bitsandbytes")
    settings = {"steps": 40, "batch_size": 8, "learning_rate": 5e-3, "schedule": "constant", "caption_dropout": 0.0}
    lean = {"weights": "bfloat16", "optimizer": "adamw8bit", "average_on": "host", "gradient_checkpointing": True}
    arguments = {"base": sd3_pipeline, "data": data, "cache": tmp_path / "cache", "progress": False}
    train(recipe(**settings), out=tmp_path / "plain", **arguments)
    train(recipe(**settings, **lean), out=tmp_path / "lean", **arguments)
    assert mean(losses(tmp_path / "lean")[-10:]) < 0.6 * mean(losses(tmp_path / "lean")[:10])
    assert mean(losses(tmp_path / "lean")[-10:]) == pytest.approx(mean(losses(tmp_path / "plain")[-10:]), rel=0.15)


def test_runs_share_a_cache(v_pipeline: Path, data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arguments = {"base": v_pipeline, "data": data, "cache": cache, "progress": False}
    train(recipe(), out=tmp_path / "one", **arguments)
    monkeypatch.setattr(encode_module, "_encoders", lambda *_: pytest.fail("encoded twice"))
    train(recipe(seed=1), out=tmp_path / "two", **arguments)
    assert losses(tmp_path / "one") != losses(tmp_path / "two")


def test_another_recipe_is_refused_in_the_same_folder(v_pipeline: Path, data: Path, cache: Path, tmp_path: Path):
    arguments = {"base": v_pipeline, "data": data, "cache": cache, "out": tmp_path, "progress": False}
    train(recipe(), **arguments)
    with pytest.raises(TrainingError, match="another recipe; choose another folder"):
        train(recipe(seed=1), **arguments)


def test_a_diverging_run_stops_with_advice(v_pipeline: Path, data: Path, cache: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(
            recipe(steps=30, learning_rate=1e30, max_grad_norm=1e30),
            base=v_pipeline,
            data=data,
            out=tmp_path,
            cache=cache,
            progress=False,
        )
    assert not (tmp_path / "pipeline").exists()


def test_wrong_input_is_one_line(v_pipeline: Path, data: Path, tmp_path: Path):
    (blocked := tmp_path / "file").write_text("not a folder")
    (tmp_path / "no parquet").mkdir()
    (tmp_path / "no parquet" / "train.parquet").write_text("not parquet")
    cases = [
        ({"base": v_pipeline, "data": tmp_path / "no parquet", "out": tmp_path / "d"}, TrainingError),
        ({"base": v_pipeline, "data": tmp_path / "missing", "out": tmp_path / "a"}, TrainingError),
        ({"base": v_pipeline, "data": tiny_dataset(tmp_path / "empty", rows=0), "out": tmp_path / "b"}, TrainingError),
        ({"base": v_pipeline, "data": data, "out": blocked}, TrainingError),
        ({"base": tmp_path / "missing", "data": data, "out": tmp_path / "c"}, ModelError),
    ]
    for arguments, error in cases:
        with pytest.raises(error) as caught:
            train(recipe(), progress=False, **arguments)
        assert "\n" not in str(caught.value)


def test_data_that_cannot_be_shown_is_told(v_pipeline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    images = [tiny_image(index, size) for index, size in enumerate([64, 64, 40, 64])]
    mixed = write_dataset(tmp_path / "mixed", images, ["mars", "  ", "the sea", "the moon"], sizes=[64, 64, 40, 64])
    settings = recipe(steps=2, batch_size=2)
    result = train(settings, base=v_pipeline, data=mixed, out=tmp_path / "mixed run", progress=True)
    told = capsys.readouterr().err
    assert "not shown: 1 of 3 pictures, with an empty prompt" in told
    record = json.loads((result / "training.json").read_text())["data"]
    assert record["samples"] == 2
    assert record["not shown"] == {"with an empty prompt": 1, "too small for their bucket": 1}
    empty = write_dataset(tmp_path / "empty", images[:2], ["", " "])
    with pytest.raises(TrainingError, match="no picture of 2 can be shown: 2 with an empty prompt"):
        train(settings, base=v_pipeline, data=empty, out=tmp_path / "empty run", progress=False)
    lacking = datasets.load_dataset("parquet", data_dir=str(mixed), split="train").remove_columns("prompt")
    (tmp_path / "lacking").mkdir()
    lacking.to_parquet(tmp_path / "lacking" / "train.parquet")
    with pytest.raises(TrainingError, match="prompt"):
        train(settings, base=v_pipeline, data=tmp_path / "lacking", out=tmp_path / "lacking run", progress=False)


def test_batches_that_do_not_come_out_even_are_refused(v_pipeline: Path, data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(loop.sharding, "new_accelerator", lambda: Three())
    with pytest.raises(TrainingError, match="a batch of 4 in passes of 2 does not come out even among 3 processes"):
        train(recipe(micro_batch_size=2), base=v_pipeline, data=data, out=tmp_path, progress=False)


class Three:
    """What an accelerator says when it is one of three."""

    device, num_processes, is_main_process, process_index = torch.device("cpu"), 3, True, 0
    main_process_first = staticmethod(contextlib.nullcontext)


def test_attention_that_is_not_to_be_had_is_one_line(sd3_pipeline: Path, data: Path, tmp_path: Path):
    for attention, says in (("plain", "is for UNets"), ("xformers", "no attention 'xformers' here")):
        with pytest.raises(TrainingError, match=says) as caught:
            train(recipe(attention=attention), base=sd3_pipeline, data=data, out=tmp_path / attention, progress=False)
        assert "\n" not in str(caught.value)


def test_pictures_of_other_shapes_train_in_their_buckets(xl_pipeline: Path, tmp_path: Path):
    sizes = [(96, 96), (96, 96), (64, 128), (64, 128), (128, 64), (128, 64)]
    images = [tiny_image(index, size) for index, size in enumerate(sizes)]
    data = write_dataset(tmp_path / "data", images, ["mars"] * 6, sizes=sizes)
    settings = recipe(steps=6, batch_size=2, buckets="ratios", size=96, validate_every=3)
    result = train(settings, base=xl_pipeline, data=data, out=tmp_path / "run", progress=False)
    assert json.loads((result / "training.json").read_text())["data"]["samples"] == 6
    assert len(list((tmp_path / "run" / "cache").glob("latents-*/*.safetensors"))) == 3


def test_other_pipeline_classes_are_refused_by_name(v_pipeline: Path, data: Path, tmp_path: Path):
    shutil.copytree(v_pipeline, tmp_path / "base")
    index = tmp_path / "base" / "model_index.json"
    index.write_text(index.read_text().replace('"StableDiffusionPipeline"', '"KandinskyPipeline"'))
    with pytest.raises(ModelError, match="KandinskyPipeline"):
        train(recipe(), base=tmp_path / "base", data=data, out=tmp_path / "out", progress=False)


def test_progress_is_written_line_by_line_where_there_is_no_terminal(v_pipeline, data, cache, tmp_path, capsys):
    train(recipe(steps=4), base=v_pipeline, data=data, out=tmp_path, cache=cache, progress=True)
    assert "step 4 of 4, loss" in capsys.readouterr().err


def test_the_learning_rate_rises_then_follows_its_schedule():
    cosine = miniature(steps=100, warmup=9, learning_rate=1.0, schedule="cosine")
    rates = [learning_rate(cosine, step) for step in range(100)]
    assert rates[:9] == pytest.approx([0.1 * step for step in range(1, 10)])
    assert rates[9] == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 0.01
    assert {learning_rate(miniature(warmup=0, schedule="constant"), step) for step in (0, 399)} == {2e-5}
