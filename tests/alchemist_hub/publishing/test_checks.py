"""What is refused before anything is sent: pickles, training states, strays, secrets, wherever they hide."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alchemist_hub.errors import PublishError
from alchemist_hub.publishing.checks import check
from alchemist_hub.publishing.trees import Tree

TOKEN = "hf_" + "aB3" * 12


def tree(folder: Path, path: str, content: bytes = b"{}", kind: str = "model") -> Tree:
    file = folder / "file"
    file.write_bytes(content)
    return Tree(kind=kind, repository="alchemists/tiny", files={path: file})


@pytest.mark.parametrize(
    "path",
    [
        "model_index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer_3/spiece.model",
        "tokenizer/merges.txt",
        "transformer/diffusion_pytorch_model.safetensors.index.json",
        "feature_extractor/preprocessor_config.json",
        "assets/0-base.jpg",
        ".eval_results/side-by-side.yaml",
        "training.json",
        "README.md",
    ],
)
def test_what_a_pipeline_is_made_of_may_go(tmp_path, path):
    check(tree(tmp_path, path))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("unet/diffusion_pytorch_model.bin", "is no safetensors file"),
        ("model.CKPT", "is no safetensors file"),
        ("unet/optimizer.safetensors", "is of a training run"),
        ("snapshots/step-1/denoiser.safetensors", "is of a training run"),
        ("tensorboard/events.out.tfevents.1", "is of a training run"),
        (".env", "is private by its name"),
        ("unet/id_rsa", "is private by its name"),
        ("notes.txt", "does not belong to a diffusers pipeline"),
        ("unet/extra/config.json", "does not belong to a diffusers pipeline"),
    ],
)
def test_what_is_not_of_a_pipeline_is_refused_by_its_name(tmp_path, path, reason):
    with pytest.raises(PublishError, match=rf"^alchemists/tiny is not published: {path} {reason}[^\n]*$"):
        check(tree(tmp_path, path))


def test_a_pickle_by_another_name_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "pickle")
    with pytest.raises(PublishError, match="is called safetensors but is something else"):
        check(tree(tmp_path, "unet/model.safetensors", (tmp_path / "pickle").read_bytes()))
    save_file({"weight": torch.zeros(2)}, tmp_path / "true")
    check(tree(tmp_path, "unet/model.safetensors", (tmp_path / "true").read_bytes()))


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "ghp_" + "a" * 36,
        "AKIA" + "ABCDEFGH12345678",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "https://me:hunter22@example.com/data",
    ],
)
@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_a_secret_in_a_text_is_refused_and_not_repeated(tmp_path, secret, kind):
    with pytest.raises(PublishError, match="README.md holds what looks like") as refusal:
        check(tree(tmp_path, "README.md", f"see {secret} there".encode(), kind))
    assert secret not in str(refusal.value)


def test_words_and_tensors_are_no_secrets(tmp_path):
    check(tree(tmp_path, "README.md", b"https://huggingface.co/hf_models sk-learn token: yes, key@example.com"))
    check(tree(tmp_path, "tokenizer/vocab.json", f"\0{TOKEN}".encode()))


def test_a_space_may_hold_code_of_every_name_but_no_private_file(tmp_path):
    check(tree(tmp_path, "alchemist_hub/training/optimizer.py", b"import torch", "space"))
    with pytest.raises(PublishError, match="is private by its name"):
        check(tree(tmp_path, "alchemist_hub/.env.local", b"x", "space"))


def test_only_the_first_findings_are_told(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x")
    many = Tree(kind="model", repository="alchemists/tiny", files={f"{index}.bin": file for index in range(9)})
    with pytest.raises(PublishError, match="4.bin .* and 4 more$"):
        check(many)
