"""What may not reach the Hub: pickles, training states, strays and secrets. Looked for before anything is sent."""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError, safe_open

from alchemist_hub.errors import PublishError
from alchemist_hub.publishing.trees import Tree

SHOWN = 5  # findings in the error
READ = 8 << 20  # bytes; no text of ours is longer
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".msgpack", ".onnx"}
STATES = re.compile(r"optimi[sz]er|scheduler_state|random_states|rng_state|(^|/)snapshots/|tfevents|log\.jsonl$", re.I)
PRIVATE = re.compile(r"(^|/)(\.env(\..*)?|\.netrc|\.git|\.ssh|id_(rsa|dsa|ecdsa|ed25519)|.*\.(pem|key|p12)|token)(/|$)")
SECRETS = {
    "a Hugging Face token": re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b"),
    "a GitHub token": re.compile(rb"\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})\b"),
    "an AWS key": re.compile(rb"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a Google key": re.compile(rb"\bAIza[A-Za-z0-9_-]{35}\b"),
    "an API key": re.compile(rb"\bsk-[A-Za-z0-9_-]{32,}"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in an address": re.compile(rb"\b[a-z]+://[^\s/:@]{1,64}:[^\s/:@]{3,128}@[\w.-]+"),
}
# What a diffusers repository holds, with the card and what the card shows.
MODEL_FILES = re.compile(
    r"model_index\.json|training\.json|README\.md|LICENSE(\.md)?|assets/[\w.-]+\.(png|jpg)|\.eval_results/[\w-]+\.yaml|"
    r"[\w-]+/(config|scheduler_config|preprocessor_config|generation_config)\.json|"
    r"[\w-]+/[\w.-]+\.safetensors(\.index(\.fp16)?\.json)?|"
    r"tokenizer(_\d)?/(vocab\.json|merges\.txt|tokenizer\.json|spiece\.model|"
    r"(tokenizer_config|special_tokens_map|added_tokens)\.json)"
)


def check(tree: Tree) -> None:
    """Raise PublishError, in one line, if a file of the tree may not be published."""
    found = [f"{path} {reason}" for path, file in sorted(tree.files.items()) for reason in _findings(tree, path, file)]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise PublishError(f"{tree.repository} is not published: {'; '.join(found[:SHOWN])}{more}")


def _findings(tree: Tree, path: str, file: Path) -> Iterator[str]:
    """Yield what is wrong with one file; the first is enough for its name, secrets are looked for besides."""
    if PurePosixPath(path).suffix.lower() in PICKLES:
        yield "is no safetensors file (remove it, or convert it)"
    elif tree.kind == "model" and STATES.search(path):
        yield "is of a training run, not of a model"
    elif PRIVATE.search(path):
        yield "is private by its name"
    elif tree.kind == "model" and not MODEL_FILES.fullmatch(path):
        yield "does not belong to a diffusers pipeline"
    elif path.endswith(".safetensors") and not _is_safetensors(file):
        yield "is called safetensors but is something else"
    elif secret := _secret(file):
        yield f"holds what looks like {secret}"


def _is_safetensors(file: Path) -> bool:
    try:
        with safe_open(file, framework="np"):
            return True
    except SafetensorError:
        return False


def _secret(file: Path) -> str | None:
    """Return the kind of secret that a text file seems to hold; tables and tensors are not read."""
    if file.stat().st_size > READ:
        return None
    content = file.read_bytes()
    if b"\0" in content:
        return None
    return next((kind for kind, pattern in SECRETS.items() if pattern.search(content)), None)
