import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from alchemist_hub.errors import TrainingError
from alchemist_hub.training.checkpoint import optimizer_tensors, restore_optimizer
from alchemist_hub.training.draws import seeded
from alchemist_hub.training.optimizer import in_blocks, new_optimizer, stochastic_round_


@pytest.fixture
def bitsandbytes() -> None:
    pytest.importorskip("bitsandbytes")


def optimizer_of(model: nn.Module, kind: str = "adamw8bit", **settings) -> torch.optim.Optimizer:
    defaults = {"learning_rate": 1e-3, "weight_decay": 0.01, "seed": 5}
    return new_optimizer(kind, model.named_parameters(), **{**defaults, **settings})


def small_model(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 64)).to(dtype)


def fit(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[float]:
    """Teach `model` to swap the halves of its input; the batches depend on the step alone."""
    losses = []
    for step in steps:
        inputs = torch.randn(64, 64, generator=seeded("batch", step))
        loss = (model(inputs.to(model[0].weight.dtype)).float() - inputs.roll(32, 1)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def rounded(value: Tensor, seed: int = 0) -> Tensor:
    return stochastic_round_(torch.empty(value.shape, dtype=torch.bfloat16), value, seeded(seed))


def test_rounding_is_right_on_average():
    for value in (1.003, -0.7771, 3e-20, 12345.6):
        found = rounded(torch.full((200_000,), value))
        lower, upper = found.min().item(), found.max().item()
        assert lower < value < upper
        assert torch.nextafter(torch.tensor(lower).bfloat16(), torch.tensor(torch.inf).bfloat16()).item() == upper
        deviation = (upper - lower) / 2 / 200_000**0.5  # at most: that of a coin between the two
        assert abs(found.double().mean().item() - torch.tensor(value).item()) < 4 * deviation


def test_rounding_leaves_what_bfloat16_can_represent():
    exact = torch.randn(10_000).bfloat16()
    exact[:3] = torch.tensor([0.0, torch.inf, -torch.inf])
    assert torch.equal(rounded(exact.float()), exact)


def test_rounding_is_a_function_of_its_seed():
    value = torch.randn(1000)
    assert torch.equal(rounded(value, 1), rounded(value, 1))
    assert not torch.equal(rounded(value, 1), rounded(value, 2))


def test_small_updates_are_lost_by_nearest_rounding_and_kept_on_average_here(bitsandbytes):
    start = torch.full((64, 1024), 0.05).bfloat16()
    plain, kept = (nn.Linear(1024, 64, bias=False).bfloat16() for _ in range(2))
    for model in (plain, kept):
        model.weight.data.copy_(start)
    settings = {"learning_rate": 1e-6, "weight_decay": 0.0}
    optimizers = (optimizer_of(plain, "adamw", **settings), optimizer_of(kept, **settings))
    for _ in range(50):  # with a steady gradient each step of Adam is the learning rate
        for model, optimizer in zip((plain, kept), optimizers, strict=True):
            model.weight.grad = torch.ones_like(model.weight)
            optimizer.step()
    assert torch.equal(plain.weight, start)
    drift = (kept.weight.double() - start.double()).mean().item()
    assert drift == pytest.approx(-50e-6, rel=0.05)


def test_8_bit_training_follows_32_bit_training(bitsandbytes):
    model, other, half = small_model(), small_model(), small_model(torch.bfloat16)
    reference = fit(model, optimizer_of(model, "adamw"), range(150))
    eight = fit(other, optimizer_of(other), range(150))
    rounding = fit(half, optimizer_of(half), range(150))
    assert reference[-1] < 0.5 * reference[0]
    assert eight == pytest.approx(reference, rel=0.02)
    assert rounding == pytest.approx(reference, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stored_optimiser_goes_on_bit_for_bit(dtype: torch.dtype, bitsandbytes, tmp_path):
    whole = small_model(dtype)
    optimizer = optimizer_of(whole)
    fit(whole, optimizer, range(4))
    names = [name for name, _ in whole.named_parameters()]
    save_file(optimizer_tensors(optimizer, names), tmp_path / "optimizer.safetensors")
    resumed = small_model(dtype)
    resumed.load_state_dict(whole.state_dict())
    second = optimizer_of(resumed)
    restore_optimizer(second, names, load_file(tmp_path / "optimizer.safetensors"))
    fit(whole, optimizer, range(4, 8))
    fit(resumed, second, range(4, 8))
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    after, again = optimizer_tensors(optimizer, names), optimizer_tensors(second, names)
    assert all(torch.equal(value, again[key]) and value.dtype == again[key].dtype for key, value in after.items())


def test_rounding_depends_on_the_seed_alone(bitsandbytes):
    def weight(seed: int) -> Tensor:
        model = small_model(torch.bfloat16)
        fit(model, optimizer_of(model, seed=seed), range(2))
        return model[0].weight

    assert torch.equal(weight(1), weight(1))
    assert not torch.equal(weight(1), weight(2))


def test_large_parameters_take_two_bytes_of_state_each(bitsandbytes):
    model = nn.Linear(256, 256).bfloat16()
    optimizer = optimizer_of(model)
    model(torch.randn(2, 256).bfloat16()).sum().backward()
    optimizer.step()
    tensors = optimizer_tensors(optimizer, ["weight", "bias"])
    sizes = {key: value.numel() * value.element_size() for key, value in tensors.items()}
    of_weight = sum(size for key, size in sizes.items() if key.startswith("weight/state"))
    scales = sum(size for key, size in sizes.items() if key.startswith("weight/absmax"))
    assert of_weight == 2 * 256 * 256
    assert scales == 2 * 4 * 256
    assert tensors["bias/state1"].dtype == torch.float32


def test_only_what_16_processes_could_share_is_in_blocks():
    assert in_blocks(torch.Size([320, 320]))
    assert in_blocks(torch.Size([2432, 9728]))
    assert not in_blocks(torch.Size([320, 4, 3, 3]))  # 11,520 values are no 16 times 256
    assert not in_blocks(torch.Size([1280]))
    assert not in_blocks(torch.Size([]))


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match=r"pip install 'alchemist-hub\[gpu\]'"):
        optimizer_of(small_model())


def test_plain_adamw_is_that_of_torch():
    model, other = small_model(), small_model()
    fit(model, optimizer_of(model, "adamw"), range(3))
    fit(other, torch.optim.AdamW(other.parameters(), lr=1e-3, weight_decay=0.01, fused=True), range(3))
    assert torch.equal(model[0].weight, other[0].weight)
