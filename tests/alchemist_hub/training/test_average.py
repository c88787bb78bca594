import pytest
import torch
from torch import Tensor

from alchemist_hub.training.average import Average, Where

EVERYWHERE = pytest.mark.parametrize("where", ["device", "host"])


def weights_at(step: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    shapes = {"a.weight": (5, 3), "a.bias": (5,), "b.weight": (2, 3, 3, 3)}
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


@EVERYWHERE
def test_the_mean_is_that_of_its_definition_bit_for_bit(where: Where):
    weights = weights_at(0)
    average, expected = Average(weights, where=where), weights_at(0)
    for step in range(1, 6):
        average.update(weights_at(step), decay=0.9)
        for name, mean in expected.items():
            mean.lerp_(weights_at(step)[name], 1 - 0.9)
    assert all(torch.equal(average.tensors()[name], mean) for name, mean in expected.items())
    assert all(torch.equal(weight, weights_at(0)[name]) for name, weight in weights.items())  # no part of the mean


@EVERYWHERE
def test_bfloat16_weights_have_a_float32_mean(where: Where):
    average = Average({"w": torch.ones(4).bfloat16()}, where=where)
    for _ in range(10):
        average.update({"w": torch.full((4,), 2.0).bfloat16()}, decay=0.999)
    assert average.tensors()["w"].dtype == torch.float32
    assert average.tensors()["w"][0].item() == pytest.approx(2 - 0.999**10, abs=1e-6)  # bfloat16 would still say 1


@EVERYWHERE
def test_a_stored_mean_goes_on_bit_for_bit(where: Where):
    whole, resumed = Average(weights_at(0), where=where), Average(weights_at(7), where=where)
    whole.update(weights_at(1), decay=0.5)
    resumed.load({name: mean.clone() for name, mean in whole.tensors().items()})
    for average in (whole, resumed):
        average.update(weights_at(2), decay=0.5)
    assert all(torch.equal(mean, resumed.tensors()[name]) for name, mean in whole.tensors().items())


@pytest.mark.gpu
def test_a_mean_on_the_host_is_that_on_the_device():
    weights = {name: weight.cuda() for name, weight in weights_at(0).items()}
    device, host = Average(weights, where="device"), Average(weights, where="host")
    for step in range(1, 4):
        weights = {name: weight.cuda() for name, weight in weights_at(step).items()}
        device.update(weights, decay=0.9)
        host.update(weights, decay=0.9)
    for name, mean in host.tensors().items():
        assert mean.device.type == "cpu"
        assert torch.allclose(mean, device.tensors()[name].cpu(), rtol=1e-6, atol=1e-7)
