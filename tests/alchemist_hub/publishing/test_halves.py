"""The fp16 variant: `from_pretrained` finds it, its numbers are the halves, sharded or not."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_models import tiny_base

from alchemist_hub.errors import PublishError
from alchemist_hub.publishing.halves import half_name, write_half


def files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_the_variant_loads_without_the_other_weights_and_holds_their_halves(tmp_path):
    base = tiny_base("sdxl", tmp_path / "base")
    full = DiffusionPipeline.from_pretrained(base)
    write_half(files(base), base)
    for file in base.glob("*/*.safetensors"):
        if ".fp16" not in file.name:
            file.unlink()
    half = DiffusionPipeline.from_pretrained(base, variant="fp16", torch_dtype=torch.float16)
    for name in ("unet", "vae", "text_encoder", "text_encoder_2"):
        ours, theirs = getattr(half, name).state_dict(), getattr(full, name).state_dict()
        assert ours and all(torch.equal(ours[key], theirs[key].half()) for key in ours if ours[key].is_floating_point())


def test_shards_and_their_index_are_halved_too(tmp_path):
    base = tiny_base("sd15", tmp_path / "base")
    unet = UNet2DConditionModel.from_pretrained(base / "unet")
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(base / "unet", max_shard_size="200KB")
    assert len(list((base / "unet").glob("*-of-*.safetensors"))) > 1
    write_half(files(base), tmp_path / "half")
    (tmp_path / "half" / "unet" / "config.json").write_bytes((base / "unet" / "config.json").read_bytes())
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "half" / "unet", variant="fp16").state_dict()
    assert all(torch.equal(loaded[key], value.half().float()) for key, value in unet.state_dict().items())
    index = json.loads((tmp_path / "half/unet/diffusion_pytorch_model.safetensors.index.fp16.json").read_text())
    assert index["metadata"]["total_size"] == 2 * sum(value.numel() for value in unet.state_dict().values())


def test_whole_numbers_stay_and_too_large_ones_are_refused(tmp_path):
    file = tmp_path / "whole" / "text" / "model.safetensors"
    file.parent.mkdir(parents=True)
    save_file({"ids": torch.arange(3), "weight": torch.ones(2)}, file)
    write_half(files(tmp_path / "whole"), tmp_path / "half")
    halves = load_file(tmp_path / "half" / "text" / "model.fp16.safetensors")
    assert (halves["ids"].dtype, halves["weight"].dtype) == (torch.int64, torch.float16)
    save_file({"weight": torch.tensor([1e6])}, file)
    with pytest.raises(PublishError, match="weight of .* does not fit half precision; publish without --fp16"):
        write_half(files(tmp_path / "whole"), tmp_path / "half")


def test_a_variant_that_is_there_is_not_halved_again(tmp_path):
    base = tiny_base("sd15", tmp_path / "base")
    write_half(files(base), base)
    before = set(files(base))
    write_half(files(base), base)
    assert set(files(base)) == before


def test_names_are_those_that_the_clients_look_for():
    assert half_name("model.safetensors") == "model.fp16.safetensors"
    assert half_name("model-00002-of-00003.safetensors") == "model.fp16-00002-of-00003.safetensors"
