"""Weights are found, named by revision, and refused in one line."""

import os
import pickle
import sys
from pathlib import Path

import hub_server
import pytest
from hub_client import PUBLISH, client
from tiny_scorers import predictor_state, saved, tiny_clip, tiny_dinov2
from transformers import CLIPModel, Dinov2Model

from alchemist_hub.errors import ModelError
from alchemist_hub.evaluation.features import DINOV2
from alchemist_hub.evaluation.pretrained import content_hash, fetch, fetch_file, read_network, read_state


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_downloaded_commit_is_read_from_the_cache_and_named(cache: Path):
    snapshot = cache / "models--facebook--dinov2-large" / "snapshots" / DINOV2.revision
    tiny_dinov2(snapshot)
    found = fetch(DINOV2)
    assert (found.path, found.source, found.revision) == (snapshot, "facebook/dinov2-large", DINOV2.revision)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"lacks model\.safetensors: get .* hf download facebook/dinov2-large config\.json"
    ):
        fetch(DINOV2)


def test_missing_weights_are_one_line_that_says_what_to_download(cache: Path):
    with pytest.raises(ModelError) as refused:
        fetch(DINOV2)
    assert "facebook/dinov2-large is not" in str(refused.value) and "get 1.22 GB" in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(ModelError, match="someone/other is not on this machine"):
        fetch(DINOV2, "someone/other")


def test_a_folder_is_named_by_its_content(tmp_path: Path):
    one, two = tiny_dinov2(tmp_path / "one"), tiny_dinov2(tmp_path / "two", seed=1)
    assert fetch(DINOV2, one).revision.startswith("sha256:")
    assert fetch(DINOV2, one).revision != fetch(DINOV2, two).revision
    assert fetch(DINOV2, one).source == "one"  # never a path of this machine
    assert content_hash([one / "config.json"]) == content_hash([two / "config.json"])


def test_a_folder_with_a_pickle_only_is_refused_and_the_pickle_never_opened(tmp_path: Path):
    folder = tiny_dinov2(tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ModelError, match=r"lacks model\.safetensors; only safetensors are read"):
        fetch(DINOV2, folder)
    with pytest.raises(ModelError, match="expected a .safetensors file"):
        fetch_file(folder / "pytorch_model.bin", what="it", published_as="x")
    with pytest.raises(ModelError, match="is no safetensors file"):
        read_state(folder / "pytorch_model.bin")
    assert not (tmp_path / "sprung").exists()


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_the_user_has_to_bring_is_asked_for(tmp_path: Path):
    with pytest.raises(ModelError, match="hps needs weights: its authors publish a pickle only"):
        fetch_file(None, what="hps", published_as="xswu/HPSv2")
    brought = saved(predictor_state(4), tmp_path / "head.safetensors")
    assert fetch_file(brought, what="x", published_as="y").source == "head.safetensors"
    with pytest.raises(ModelError, match="does not exist"):
        fetch(DINOV2, tmp_path / "nowhere")


def test_a_network_of_another_class_or_with_weights_missing_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="Dinov2Model"):
        read_network(Dinov2Model, tiny_clip(tmp_path / "clip"))
    folder = tiny_clip(tmp_path / "torn")
    state = read_state(folder / "model.safetensors")
    state.pop("visual_projection.weight")
    saved(state, folder / "model.safetensors")
    with pytest.raises(ModelError, match="no whole CLIPModel: 1 weights miss, visual_projection.weight"):
        read_network(CLIPModel, folder)


EMBED = """
from alchemist_hub.evaluation import pretrained
from alchemist_hub.evaluation.features import CLIP_L, ClipEmbeddings
from dataclasses import replace
published = replace(CLIP_L, repository=name, revision=api.repo_info(name).sha)
newest, pinned = pretrained.fetch(CLIP_L, name), pretrained.fetch(published)
say({
    "revisions": [found.revision == published.revision for found in (newest, pinned)],
    "source": newest.source,
    "length": float((ClipEmbeddings.load(newest.path).embed_texts(["a photo of mars"]) ** 2).sum()),
    "files": sorted(path.name for path in newest.path.iterdir()),
})
"""


@pytest.mark.slow
def test_a_repository_is_downloaded_without_its_pickle_and_named_by_its_commit(tmp_path: Path):
    folder = tiny_clip(tmp_path / "clip")
    (folder / "pytorch_model.bin").write_bytes(b"not to be fetched")
    with hub_server.serving(tmp_path / "hub") as hub:
        client(hub, PUBLISH, folder)
        told = client(hub, EMBED, PYTHONPATH=os.pathsep.join(sys.path))
    assert told == {
        "revisions": [True, True],
        "source": "alchemists/tiny",
        "length": pytest.approx(1),
        "files": ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
    }
