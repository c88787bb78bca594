"""The planner on tiny real denoisers without memory."""

from dataclasses import replace

import pytest
import torch
from diffusers import ModelMixin, SD3Transformer2DModel, UNet2DConditionModel
from torch.autograd.graph import saved_tensors_hooks

from alchemist_hub.errors import TrainingError
from alchemist_hub.models import model
from alchemist_hub.training.architectures import inputs
from alchemist_hub.training.memory import Plan, Settings, parse_size, plan, standing, standing_of

PLAIN = Settings(size=128)


def tiny_unet() -> ModelMixin:
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
    )


def tiny_transformer() -> ModelMixin:
    return SD3Transformer2DModel(
        sample_size=16, num_layers=3, num_attention_heads=2, attention_head_dim=16, caption_projection_dim=32,
        joint_attention_dim=16, pooled_projection_dim=8, pos_embed_max_size=24, qk_norm="rms_norm",
    )  # fmt: skip


def planned(build=tiny_unet, settings: Settings = PLAIN) -> Plan:
    with torch.device("meta"):
        denoiser = build().to(settings.dtype)
    side = settings.size // 8
    fed = inputs(denoiser, size=(side, side), batch=settings.micro_batch_size, tokens=8, dtype=settings.dtype)
    return plan(denoiser, fed, settings)


@pytest.mark.parametrize("build", [tiny_unet, tiny_transformer])
def test_activations_grow_linearly_with_the_micro_batch(build) -> None:
    two, four, six = (
        planned(build, replace(PLAIN, micro_batch_size=count)).activations for count in (2, 4, 6)
    )  # fmt: skip
    assert 0 < two < four
    assert six - four == pytest.approx(four - two, rel=0.02)


def test_activations_are_what_autograd_saves_and_what_passes_through() -> None:
    torch.manual_seed(0)
    denoiser, saved = tiny_unet(), {}
    weights = {weight.untyped_storage().data_ptr() for weight in denoiser.parameters()}
    fed = inputs(denoiser, size=(16, 16), batch=4, tokens=8, dtype=torch.float32)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        denoiser(**fed).sample.square().sum()
    kept = sum(size for pointer, size in saved.items() if pointer not in weights)
    assert kept <= planned(settings=replace(PLAIN, micro_batch_size=4)).activations <= 1.2 * kept


@pytest.mark.parametrize("build", [tiny_unet, tiny_transformer])
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_checkpointing_keeps_less(build, mixed_precision: str) -> None:
    settings = replace(PLAIN, micro_batch_size=8, mixed_precision=mixed_precision)
    less = planned(build, replace(settings, gradient_checkpointing=True))
    assert less.activations < 0.7 * planned(build, settings).activations


def test_autocast_keeps_less_than_float32_and_more_than_bfloat16_throughout() -> None:
    settings = replace(PLAIN, micro_batch_size=8)
    autocast = replace(settings, mixed_precision="bf16")
    everywhere = replace(settings, weights="bfloat16", optimizer="adamw8bit")
    half, mixed, whole = (planned(settings=each).activations for each in (everywhere, autocast, settings))
    assert half == pytest.approx(whole / 2, rel=0.1)
    assert half < mixed < whole


def test_attention_without_a_map_keeps_less() -> None:
    efficient = replace(PLAIN, size=256, micro_batch_size=2)
    plain = replace(efficient, attention="plain")
    map_of_scores = 4 * 2 * 8 * 1024 * 1024  # float32, batch, heads at the first level, tokens by tokens
    assert planned(settings=plain).activations > planned(settings=efficient).activations + map_of_scores
    assert planned(settings=replace(efficient, attention="xformers")).peak == planned(settings=efficient).peak


def test_a_transformer_has_no_plain_attention() -> None:
    with pytest.raises(TrainingError, match="SD3Transformer2DModel has no plain attention"):
        planned(tiny_transformer, replace(PLAIN, attention="plain"))


def test_what_lasts_is_twenty_bytes_a_parameter_in_float32() -> None:
    found = standing_of(model("sd15"), Settings(size=512))
    assert (found.weights, found.gradients, found.optimizer, found.average) == tuple(
        count * model("sd15").parameters for count in (4, 4, 8, 4)
    )
    assert found.host == 0 and found.peak == 20 * model("sd15").parameters


def test_the_lean_settings_take_six_bytes_a_parameter_and_the_average_goes_to_the_host() -> None:
    count = model("sd35l").parameters
    lean = Settings(size=1024, weights="bfloat16", optimizer="adamw8bit", average_on="host")
    found = standing_of(model("sd35l"), lean)
    assert found.gradients == 2 * count and found.average == 0 and found.host == 4 * count
    assert 2 * count < found.optimizer < 2.05 * count  # a scale for each block of 256, and small tensors in float32
    assert 48e9 < found.weights + found.gradients + found.optimizer < 50e9


def test_processes_share_what_lasts_but_not_activations() -> None:
    alone, shared = planned(settings=PLAIN), planned(settings=replace(PLAIN, processes=2))
    for name in ("weights", "gradients", "optimizer", "average"):
        assert getattr(shared, name) == pytest.approx(getattr(alone, name) / 2)
    assert shared.activations == alone.activations
    assert 0 < shared.transient < alone.weights + alone.gradients  # blocks are gathered one after the other


def test_gradients_of_earlier_micro_batches_wait_beside_the_activations() -> None:
    one, several = planned(settings=replace(PLAIN, accumulates=False)), planned(settings=PLAIN)
    assert several.peak == several.weights + several.optimizer + several.average + several.gradients + one.activations
    assert one.peak < several.peak


def test_measuring_leaves_no_gradients_behind() -> None:
    with torch.device("meta"):
        denoiser = tiny_unet()
    fed = inputs(denoiser, size=(16, 16), batch=1, tokens=8, dtype=torch.float32)
    assert plan(denoiser, fed, PLAIN) == plan(denoiser, fed, PLAIN)
    assert all(weight.grad is None for weight in denoiser.parameters())
    assert standing(denoiser, PLAIN).activations == 0


@pytest.mark.parametrize(
    ("text", "size"), [("80GiB", 80 * 2**30), ("24 GB", 24 * 10**9), ("0.5gib", 2**29), ("1024", 1024)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "80 apples", "-1GiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(TrainingError, match="no amount of memory"):
        parse_size(text)
