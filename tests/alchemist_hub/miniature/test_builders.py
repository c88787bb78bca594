"""The builders: what is exact is exact, training lowers its loss, and a resumed training is the undisturbed one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from alchemist_hub.miniature import world
from alchemist_hub.miniature.builders import base, captioner, classifiers, pool, vae
from alchemist_hub.miniature.builders.fit import Checkpoint, Fitting
from alchemist_hub.miniature.builders.tokenizer import LENGTH, build_tokenizer
from alchemist_hub.miniature.scene import DEFECTS


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(world.VOCABULARY)


@pytest.fixture(scope="module")
def samples() -> list[world.Sample]:
    return [world.draw_sample(77, index) for index in range(96)]


@pytest.fixture(scope="module")
def images(samples) -> np.ndarray:
    return np.stack([sample.image for sample in samples])


@pytest.fixture(scope="module")
def rows(samples) -> list[dict[str, object]]:
    return [{**vars(sample.truth), "caption": sample.caption, "severity": 0.5} for sample in samples]


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_every_word_is_one_token_and_survives_saving(tokenizer, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    read = type(tokenizer).from_pretrained(tmp_path)
    for word in world.VOCABULARY:
        assert len(read(word).input_ids) == 3, word  # start, word, end
    assert (
        read.decode(read("mars rises on the horizon").input_ids, skip_special_tokens=True)
        == "mars rises on the horizon"
    )


def test_words_nobody_knows_become_pieces(tokenizer) -> None:
    assert len(tokenizer("zebra").input_ids) > 3


def test_the_encoder_is_the_patch_code(images: np.ndarray) -> None:
    code = vae.fit_patch_code(images, channels=12)
    autoencoder = vae.new_vae(code).eval()
    with torch.inference_mode():
        posterior = autoencoder.encode(classifiers.to_pixels(images[:8])).latent_dist
    assert torch.allclose(posterior.mean, vae.encode_patches(code, images[:8]), atol=2e-3)
    assert torch.allclose(posterior.std, torch.tensor(vae.POSTERIOR_STD), rtol=1e-3)


def test_latents_have_variance_one_and_falling(images: np.ndarray) -> None:
    latents = vae.encode_patches(vae.fit_patch_code(images), images)
    spread = latents.var(dim=(0, 2, 3))
    assert spread.mean() == pytest.approx(1.0, rel=0.02) and (spread[:-1] >= spread[1:] * 0.99).all()


def test_the_patch_code_keeps_more_with_more_channels(images: np.ndarray) -> None:
    def lost(channels: int) -> float:
        code = vae.fit_patch_code(images, channels=channels)
        latents = vae.encode_patches(code, images).permute(0, 2, 3, 1).numpy()
        patches = vae.to_patches(images.astype(np.float32) / 127.5 - 1)
        return float(((latents @ np.linalg.pinv(code.basis) + code.mean - patches) ** 2).mean())

    assert lost(48) < lost(16) < lost(4)


def test_training_the_decoder_lowers_its_loss_and_leaves_the_encoder(images: np.ndarray, tmp_path: Path) -> None:
    autoencoder = vae.new_vae(vae.fit_patch_code(images, channels=8))
    before = autoencoder.encoder.conv_out.weight.clone()
    vae.train_decoder(tmp_path, autoencoder, images, steps=30)
    assert np.mean(losses(tmp_path)[-5:]) < 0.7 * losses(tmp_path)[0]
    assert torch.equal(autoencoder.encoder.conv_out.weight, before)


def test_psnr_is_that_of_the_reconstruction(images: np.ndarray) -> None:
    autoencoder = vae.new_vae(vae.fit_patch_code(images, channels=8)).eval()
    ratio = vae.reconstruction_psnr(autoencoder, images[:2])
    with torch.inference_mode():
        pixels = classifiers.to_pixels(images[:2])
        decoded = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
    error = ((decoded - pixels).numpy() / 2) ** 2
    assert ratio == pytest.approx(-10 * np.log10(error.mean((1, 2, 3))), abs=0.01)


def test_timesteps_come_mostly_from_where_shapes_are_decided_and_include_the_last() -> None:
    drawn = base.draw_timesteps(20_000, torch.Generator().manual_seed(0))
    assert drawn.min() >= 0 and drawn.max() == 999
    assert ((drawn > 400) & (drawn < 900)).float().mean() > 0.6
    assert (drawn == 999).float().mean() == pytest.approx(base.LAST_STEP, abs=0.01)


def test_a_few_captions_are_misspelt(tokenizer) -> None:
    texts = ["a photo of mars"] * 500
    ids = base.tokenise(tokenizer, texts, seed=0)
    assert ids.shape == (500, LENGTH)
    odd = (ids != ids.mode(dim=0).values).any(dim=1).float().mean()
    assert odd == pytest.approx(base.MISSPELT, abs=0.03)


def train_tiny_base(folder: Path, tokenizer, images: np.ndarray, *, samples: int):
    ids = base.tokenise(tokenizer, ["a photo of mars"] * len(images), seed=0)
    code = vae.fit_patch_code(images, channels=4)
    return base.train_base(folder, images, ids, ids[:1], code, tokenizer, samples=samples, batch=8)


def test_a_base_that_was_stopped_goes_on_as_if_it_had_not_been(tokenizer, images, tmp_path: Path, monkeypatch) -> None:
    whole, _ = train_tiny_base(tmp_path / "whole", tokenizer, images, samples=32)
    saves = []
    keep = Checkpoint.save

    def stop(self: Checkpoint, step: int, *, now: bool = False) -> None:
        keep(self, step, now=True)
        saves.append(step)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train_tiny_base(tmp_path / "cut", tokenizer, images, samples=32)
    monkeypatch.setattr(Checkpoint, "save", keep)
    resumed, _ = train_tiny_base(tmp_path / "cut", tokenizer, images, samples=32)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_batches_cover_each_epoch_in_an_order_of_its_own() -> None:
    epochs = [
        np.concatenate([pool.batch_at(3 * epoch + place, 10, 3, seed=4) for place in range(3)]) for epoch in (0, 1)
    ]
    assert [len(set(epoch)) for epoch in epochs] == [9, 9] and not np.array_equal(*epochs)


def test_the_learning_rate_warms_up_and_falls_to_a_hundredth() -> None:
    fitting = Fitting(title="", steps=100, rate=2.0, seed=0)
    rates = [fitting.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.4) and max(rates) == pytest.approx(2.0, rel=0.01)
    assert rates[-1] == pytest.approx(0.02)


@pytest.mark.parametrize("task", [classifiers.SAFETY, classifiers.DEFECT, classifiers.IQA, classifiers.JUDGE])
def test_each_network_learns_its_targets(task, images, rows, tmp_path: Path) -> None:
    network = classifiers.train_network(tmp_path, task, images, rows, epochs=6, batch=16)
    assert tuple(network.config.id2label.values()) == task.labels
    seen = losses(tmp_path)
    assert np.mean(seen[-6:]) < np.mean(seen[:6])


def test_targets_are_the_truth(rows) -> None:
    row = rows[0] | {"defects": ("noise",), "unsafe": True, "severity": 0.4, "style": "oil", "body": "none"}
    assert classifiers.SAFETY.target(row) == [1.0] and classifiers.IQA.target(row) == [0.6]
    assert classifiers.DEFECT.target(row) == [float(defect == "noise") for defect in DEFECTS]
    judged = classifiers.JUDGE.target(row)
    assert judged[:2] == [row["complexity"], row["aesthetics"]] and judged[9] == 2.0 and judged[-1] == 0.0


def test_the_judge_is_rewarded_for_the_right_class() -> None:
    target = torch.tensor([[0.5, 0.5, *[0.0] * len(DEFECTS), 1.0, 0.0, 0.0, 0.0]])
    right, wrong = torch.zeros(1, len(classifiers.JUDGE.labels)), torch.zeros(1, len(classifiers.JUDGE.labels))
    style = classifiers.JUDGE.labels.index("style:photo")
    right[0, style + 1], wrong[0, style + 2] = 4.0, 4.0
    assert classifiers.JUDGE.loss(right, target) < classifiers.JUDGE.loss(wrong, target)


def test_descriptions_end_once_and_padding_is_not_learned(tokenizer) -> None:
    ids = captioner.description_ids(tokenizer, ["a photo of mars", "a photo of the moon high above a city at night"])
    ends = (ids == tokenizer.eos_token_id).sum(dim=1)
    assert ends.tolist() == [1, 1] and (ids[0] == -100).sum() > (ids[1] == -100).sum()


def test_the_captioner_learns_to_repeat_one_text(tokenizer, images, tmp_path: Path) -> None:
    model = captioner.train_captioner(
        tmp_path, tokenizer, images, ["a sketch of the sea"] * len(images), samples=480, batch=16
    )
    written = model.generate(pixel_values=classifiers.to_pixels(images[:2]), do_sample=False)
    assert tokenizer.batch_decode(written, skip_special_tokens=True) == ["a sketch of the sea"] * 2
