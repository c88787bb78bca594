import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from alchemist_hub.errors import ModelError
from alchemist_hub.training import checkpoint
from alchemist_hub.training.checkpoint import (
    Snapshot,
    component_hashes,
    load_snapshot,
    optimizer_tensors,
    restore_optimizer,
    save_snapshot,
    whole_folder,
    write_checkpoint,
)

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def snapshot(step: int) -> Snapshot:
    tensors = {"a.weight": torch.randn(3, 2)}
    return Snapshot(
        step=step, seconds=1.5, weights=tensors, average=tensors, optimizer={"a.weight/step": torch.ones(())}
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def new_weights(base: Path) -> dict[str, torch.Tensor]:
    return {name: weight.float() + 0.01 for name, weight in load_file(base / WEIGHTS).items()}


def test_a_snapshot_comes_back_bit_for_bit(tmp_path: Path):
    saved = snapshot(5)
    save_snapshot(tmp_path, saved, keep=1)
    loaded = load_snapshot(tmp_path)
    assert (loaded.step, loaded.seconds) == (5, 1.5)
    assert torch.equal(loaded.weights["a.weight"], saved.weights["a.weight"])
    assert torch.equal(loaded.average["a.weight"], saved.average["a.weight"])
    assert loaded.optimizer["a.weight/step"].shape == ()


def test_only_the_newest_snapshots_are_kept(tmp_path: Path):
    for step in (2, 4, 10):
        save_snapshot(tmp_path, snapshot(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000004", "step-00000010"]
    assert load_snapshot(tmp_path).step == 10


def test_an_unfinished_snapshot_is_not_seen(tmp_path: Path):
    save_snapshot(tmp_path, snapshot(3), keep=2)
    shutil.copytree(tmp_path / "step-00000003", tmp_path / ".step-00000006.part")
    assert load_snapshot(tmp_path).step == 3
    assert load_snapshot(tmp_path / "nothing here") is None


def test_nothing_is_pickled(tmp_path: Path):
    save_snapshot(tmp_path, snapshot(1), keep=1)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".safetensors", ".json"}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "result") as part:
        (part / "half").write_text("half")
        raise KeyboardInterrupt
    assert not (tmp_path / "result").exists()
    with whole_folder(tmp_path / "result") as part:
        assert not (part / "half").exists()
        (part / "all").write_text("all")
    assert files(tmp_path) == {"result/all": b"all"}


def step_of(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter) -> torch.Tensor:
    (weight * torch.arange(1.0, 4.0)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return weight.detach().clone()


def test_an_optimizer_goes_on_exactly_where_it_was():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    step_of(optimizer, weight)
    kept, tensors = weight.detach().clone(), optimizer_tensors(optimizer, ["w"])
    tensors = {name: value.clone() for name, value in tensors.items()}
    expected = step_of(optimizer, weight)

    copy = torch.nn.Parameter(kept)
    fresh = torch.optim.AdamW([copy], lr=0.1, fused=True)
    restore_optimizer(fresh, ["w"], tensors)
    assert set(tensors) == {"w/step", "w/exp_avg", "w/exp_avg_sq"}
    assert torch.equal(step_of(fresh, copy), expected)


def test_only_the_denoisers_weights_differ_from_the_base(v_pipeline: Path, tmp_path: Path):
    (extra := tmp_path / "base").mkdir()
    shutil.copytree(v_pipeline, extra, dirs_exist_ok=True)
    (extra / "README.md").write_text("the base's own card")
    write_checkpoint(extra, new_weights(extra), tmp_path / "out", {"recipe": {}})
    before, after = files(v_pipeline), files(tmp_path / "out")
    assert after.keys() == before.keys() | {"training.json"}
    assert {name for name in before if before[name] != after[name]} == {WEIGHTS}
    assert json.loads(after["training.json"]) == {"recipe": {}}


def test_the_denoiser_keeps_the_data_types_of_the_bases_file(v_pipeline: Path, tmp_path: Path):
    weights = new_weights(v_pipeline)
    write_checkpoint(v_pipeline, weights, tmp_path / "out", {})
    saved = load_file(tmp_path / "out" / WEIGHTS)
    assert {weight.dtype for weight in saved.values()} == {torch.float16}
    assert all(torch.equal(saved[name], weights[name].half()) for name in weights)


def test_the_result_loads_and_samples(v_pipeline: Path, tmp_path: Path):
    write_checkpoint(v_pipeline, new_weights(v_pipeline), tmp_path / "out", {})
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "out")
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a photo of mars", num_inference_steps=2).images[0].size == (64, 64)


def test_a_base_in_several_files_becomes_one(v_pipeline: Path, tmp_path: Path):
    shutil.copytree(v_pipeline, tmp_path / "base")
    unet = UNet2DConditionModel.from_pretrained(v_pipeline / "unet").half()
    shutil.rmtree(tmp_path / "base" / "unet")
    unet.save_pretrained(tmp_path / "base" / "unet", max_shard_size="100KB")
    assert len(list((tmp_path / "base" / "unet").glob("*.safetensors"))) > 1
    write_checkpoint(tmp_path / "base", new_weights(v_pipeline), tmp_path / "out", {})
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet").float().state_dict()
    assert torch.equal(loaded["conv_in.bias"], new_weights(v_pipeline)["conv_in.bias"].half().float())


def test_a_base_whose_file_names_other_tensors_is_refused(v_pipeline: Path, tmp_path: Path):
    shutil.copytree(v_pipeline, tmp_path / "base")
    weights = new_weights(v_pipeline)
    save_file({**load_file(v_pipeline / WEIGHTS), "surplus": torch.ones(1)}, tmp_path / "base" / WEIGHTS)
    with pytest.raises(ModelError, match="different tensors"):
        write_checkpoint(tmp_path / "base", weights, tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_a_hash_changes_with_its_component_only(v_pipeline: Path, tmp_path: Path):
    shutil.copytree(v_pipeline, tmp_path / "copy")
    before = component_hashes(v_pipeline)
    assert component_hashes(tmp_path / "copy") == before
    (tmp_path / "copy" / "vae" / "config.json").write_text("{}")
    after = component_hashes(tmp_path / "copy")
    assert {name for name in before if before[name] != after[name]} == {"vae"}
    shutil.rmtree(tmp_path / "copy" / "vae")
    with pytest.raises(ModelError, match="vae is listed in model_index.json but not there"):
        component_hashes(tmp_path / "copy")


def test_a_large_denoiser_is_saved_in_shards_that_load(
    v_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoint, "_SHARD", "100KB")
    weights = new_weights(v_pipeline)
    write_checkpoint(v_pipeline, weights, tmp_path / "tuned", {})
    shards = sorted(path.name for path in (tmp_path / "tuned" / "unet").glob("*.safetensors"))
    assert len(shards) > 1 and shards[0].startswith("diffusion_pytorch_model-00001-of-")
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "tuned", subfolder="unet", torch_dtype=torch.float16)
    assert all(torch.equal(weight, weights[name].half()) for name, weight in loaded.state_dict().items())
    assert checkpoint.stored_dtypes(tmp_path / "tuned" / "unet", weights).keys() == weights.keys()


def test_pickled_copies_of_the_base_are_left_behind(v_pipeline: Path, tmp_path: Path):
    base = shutil.copytree(v_pipeline, tmp_path / "base")
    (base / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    write_checkpoint(base, new_weights(base), tmp_path / "tuned", {})
    assert (tmp_path / "tuned" / "vae" / "diffusion_pytorch_model.safetensors").is_file()
    assert not list((tmp_path / "tuned").rglob("*.bin"))
