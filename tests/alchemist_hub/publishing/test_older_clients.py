"""What is published also loads with the clients of a year ago: every weight finds its place, the picture is the same.

Slow: those clients are installed into an environment of their own (.cache/environments), once.
"""

from importlib.metadata import version
from pathlib import Path

import hub_server
import numpy as np
import pytest
from environments import python_with
from hub_client import client
from huggingface_hub import HfApi
from tiny_models import tiny_base, tiny_sd3_pipeline

from alchemist_hub.models import MODELS
from alchemist_hub.publishing.hub import Hub, Target
from alchemist_hub.publishing.trees import base_tree, model_tree

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
OLDER = ("diffusers==0.35.2", "transformers==4.57.3", "accelerate")
PAINT = """
import numpy, torch, diffusers, transformers
from diffusers import DiffusionPipeline
told = {"versions": [diffusers.__version__, transformers.__version__]}
for name in sys.argv[2:]:
    absent = {"text_encoder_3": None, "tokenizer_3": None} if "-3.5-" in name else {}
    tokens = {"max_sequence_length": 16} if absent else {}  # zeros that stand for T5's: newer clients take 256
    pipe = DiffusionPipeline.from_pretrained(name, torch_dtype=torch.float32, **absent)
    pipe.set_progress_bar_config(disable=True)
    told[name] = {}
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            info = type(module).from_pretrained(name, subfolder=part, output_loading_info=True)[1]
            told[name][part] = sorted(str(key) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
                                      for key in info[kind])
    images = pipe("a photo of mars over the sea at night", num_inference_steps=3, height=64, width=64, **tokens,
                  generator=torch.Generator().manual_seed(0), output_type="np").images
    numpy.save(sys.argv[1] + "/" + name.replace("/", "_") + ".npy", images)
say(told)
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server.serving(tmp_path / "hub") as running:
        yield running


def published(hub: hub_server.Hub, folder: Path) -> list[str]:
    """Publish the miniature pair, and a tiny checkpoint of each of the five, and return their names."""
    session = Hub("alchemists", api=HfApi(endpoint=hub.url, token="hf_tiny"), say=lambda line: None)
    trees = [base_tree(folder / "base", organisation="alchemists")]
    for key, spec in MODELS.items():
        if key == "mini":
            checkpoint = spec.tuned
        elif key.startswith("sd35"):  # a T5 would need its base's sentencepiece file, which nothing here can write
            checkpoint = tiny_sd3_pipeline(folder / key, dual=key == "sd35m", t5=False)
        else:
            checkpoint = tiny_base(key, folder / key)
        trees.append(model_tree(key, checkpoint, folder / f"{key}-workshop", organisation="alchemists"))
    for tree in trees:
        session.publish(tree, Target())
    return [tree.repository for tree in trees]


def test_older_clients_find_every_weight_and_paint_the_same_picture(hub, tmp_path):
    names = published(hub, tmp_path / "made")
    older = python_with(f"torch=={version('torch').partition('+')[0]}", *OLDER)
    painted = {}
    for age, python in (("older", {"python": older}), ("newer", {})):
        (tmp_path / age).mkdir()
        told = client(hub, PAINT, tmp_path / age, *names, seconds=600, **python)
        assert (told.pop("versions") == ["0.35.2", "4.57.3"]) is (age == "older")
        assert list(told) == names and all(parts for parts in told.values())
        assert {name: lost for name, parts in told.items() for lost in parts.values() if lost} == {}
        painted[age] = {name: np.load(tmp_path / age / f"{name.replace('/', '_')}.npy") for name in names}
    for name in names:
        assert np.allclose(painted["older"][name], painted["newer"][name], atol=1 / 512), name
