"""The aesthetic predictor: five linear layers on CLIP's unit vector, and nothing else accepted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_scorers import EMBEDDING, predictor_state, saved, tiny_clip

from alchemist_hub.errors import ModelError
from alchemist_hub.evaluation.features import ClipEmbeddings
from alchemist_hub.evaluation.scorers.aesthetic import AestheticPredictor, Head


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]


def test_the_rating_is_the_authors_network_on_clips_unit_vector(tmp_path: Path):
    clip, state = tiny_clip(tmp_path / "clip"), predictor_state(EMBEDDING)
    found = AestheticPredictor.load(saved(state, tmp_path / "head.safetensors"), clip=clip)
    theirs = torch.nn.Sequential(  # as published: dropouts between, no activation
        torch.nn.Linear(EMBEDDING, 10),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(10, 8),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(8, 6),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(6, 4),
        torch.nn.Linear(4, 1),
    ).eval()
    theirs.load_state_dict({name.removeprefix("layers."): value for name, value in state.items()})
    embedded = torch.from_numpy(ClipEmbeddings.load(clip).embed(pictures()))
    expected = theirs(embedded)[:, 0].detach().numpy()
    score = found.score(pictures(), ["whatever"] * 3)
    np.testing.assert_allclose(score, expected, atol=1e-5)
    np.testing.assert_array_equal(score, found.score(pictures(), ["other"] * 3))
    assert found.revision.count("sha256:") == 2  # of the head and of CLIP


def test_another_file_or_another_clip_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="aesthetic needs weights: .*improved-aesthetic-predictor"):
        AestheticPredictor.load()
    state = predictor_state(EMBEDDING)
    wide = saved(state | {"layers.9.weight": torch.zeros(1)}, tmp_path / "wide.safetensors")
    with pytest.raises(ModelError, match="wide.safetensors holds no rating head"):
        Head.read(wide)
    torn = saved(state | {"layers.4.weight": torch.zeros(6, 9)}, tmp_path / "torn.safetensors")
    with pytest.raises(ModelError, match="do not end in one number"):
        Head.read(torn)
    with pytest.raises(ModelError, match="reads 12 features, and got 5"):
        Head.of(state, "head")(np.zeros((2, 5), np.float32))
