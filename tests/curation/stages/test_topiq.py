"""TOPIQ behind pyiqa's `create_metric`, which is faked: the package needs torchvision, its weights a download."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.errors import MissingExtra, RecipeError
from curation.stages import topiq
from curation.stages.topiq import Topiq


class Metric(torch.nn.Module):
    """What `create_metric` returns, as far as it is used: `net`, called on (1,3,H,W) in [0,1], gives (1,1)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(3, 1)
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image_1CHW: torch.Tensor) -> torch.Tensor:
        assert image_1CHW.min() >= 0 and image_1CHW.max() <= 1
        self.sizes.append(tuple(image_1CHW.shape))
        return self.net(image_1CHW.mean(dim=(2, 3)))


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def create_metric(name, as_loss=False, device=None, **options):
        calls.append((name, options))
        return Metric()

    package = ModuleType("pyiqa")
    package.create_metric = create_metric
    monkeypatch.setitem(sys.modules, "pyiqa", package)
    return calls


@pytest.fixture
def file(tmp_path):
    save_file({"weight": torch.tensor([[0.2, 0.3, 0.4]]), "bias": torch.tensor([0.05])}, tmp_path / "t.safetensors")
    return tmp_path / "t.safetensors"


def test_scores_are_the_networks_with_the_weights_of_the_file(asked, file, samples):
    stage = Topiq(file)
    stage.open()
    assert asked == [("topiq_nr", {"pretrained": False, "backbone_pretrain": False})]  # nothing is downloaded
    flat = np.full((24, 32, 3), 102, np.uint8)
    scores = stage(samples([flat, None]))["iqa"].to_pylist()
    assert scores[0] == pytest.approx(0.4 * 0.9 + 0.05, abs=0.01) and scores[1] is None


def test_a_large_picture_is_reduced_and_keeps_its_shape(asked, file, samples, monkeypatch):
    monkeypatch.setattr(topiq, "LONGEST", 16)
    stage = Topiq(file)
    stage.open()
    stage(samples([np.zeros((20, 40, 3), np.uint8), np.zeros((9, 12, 3), np.uint8)]))
    assert stage.network.sizes == [(1, 3, 8, 16), (1, 3, 9, 12)]


def test_weights_of_another_network_are_refused(asked, file):
    save_file({"weight": torch.zeros(1, 3)}, file)
    with pytest.raises(RecipeError, match="does not hold the weights of pyiqa's topiq_nr"):
        Topiq(file).open()
    file.write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(RecipeError, match="in safetensors"):
        Topiq(file).open()


def test_other_weights_are_another_configuration(file):
    before = Topiq(file).config()
    save_file({"weight": torch.zeros(1, 3), "bias": torch.zeros(1)}, file)
    assert Topiq(file).config() != before
    with pytest.raises(RecipeError, match="no weights of TOPIQ"):
        Topiq(file.with_name("none.safetensors")).config()


def test_without_the_extra_the_pip_line_is_said(monkeypatch, file):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(MissingExtra, match=r"pip install 'alchemist-hub\[iqa\]'"):
        Topiq(file).open()
