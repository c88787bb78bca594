import pytest
import torch

from alchemist_hub.errors import ModelError
from alchemist_hub.models import MODELS, model
from alchemist_hub.training.architectures import architecture, inputs, new_denoiser


@pytest.mark.parametrize("key", MODELS)
def test_a_denoiser_has_the_parameters_that_its_spec_states(key: str) -> None:
    with torch.device("meta"):
        denoiser = new_denoiser(key)
    assert sum(weight.numel() for weight in denoiser.parameters()) == model(key).parameters
    assert denoiser.config.sample_size * architecture(key).factor == model(key).size


@pytest.mark.parametrize(("key", "text"), [("sd15", (77, 768)), ("sd21", (77, 1024)), ("sd35m", (333, 4096))])
def test_a_denoiser_is_fed_its_own_width_of_text(key: str, text: tuple[int, int]) -> None:
    with torch.device("meta"):
        denoiser = new_denoiser(key)
    fed = inputs(denoiser, size=(8, 16), batch=3, tokens=architecture(key).tokens, dtype=torch.bfloat16)
    assert fed["encoder_hidden_states"].shape == (3, *text)
    assert fed["encoder_hidden_states"].dtype == torch.bfloat16
    assert fed["timestep"].shape == (3,)


def test_sdxl_is_fed_a_pooled_text_and_six_sizes() -> None:
    with torch.device("meta"):
        denoiser = new_denoiser("sdxl")
    fed = inputs(denoiser, size=(8, 8), batch=2, tokens=77, dtype=torch.float32)
    assert fed["encoder_hidden_states"].shape == (2, 77, 2048)
    assert {name: tuple(value.shape) for name, value in fed["added_cond_kwargs"].items()} == {
        "text_embeds": (2, 1280),
        "time_ids": (2, 6),
    }


def test_the_miniature_runs_on_what_it_is_fed() -> None:
    denoiser = new_denoiser("mini")
    fed = inputs(denoiser, size=(8, 8), batch=2, tokens=architecture("mini").tokens, dtype=torch.float32)
    assert denoiser(**fed).sample.shape == (2, 20, 8, 8)


def test_an_unknown_key_has_no_architecture() -> None:
    with pytest.raises(ModelError, match="sd16"):
        architecture("sd16")
