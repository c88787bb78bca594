"""The models of a funnel, tiny and random but of the real classes, in the layout that `curation.recipes` reads."""

import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    ConvNextImageProcessorPil,
    GPT2Config,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
)

from curation.estimator.fitting import Search, calibrate
from curation.estimator.keywords import Keywords

DEFECTS = ("blur", "watermark")
HALF = [0.5] * 3
WORDS = ("<pad>", "<s>", "</s>", "<unk>", "a", "photo", "of", "the", "sea")


def tiny_funnel(folder: Path, pipeline: Path) -> Path:
    """Write safety, defects, iqa, captioner, base (a copy of `pipeline`) and estimator.json; return the folder."""
    tiny_classifier(folder / "safety", "safe", "unsafe")
    tiny_classifier(folder / "defects", *DEFECTS)
    tiny_classifier(folder / "iqa", "quality")
    tiny_captioner(folder / "captioner")
    shutil.copytree(pipeline, folder / "base")
    tiny_estimator(folder / "base", folder / "estimator.json")
    return folder


def tiny_classifier(folder: Path, *labels: str) -> None:
    """A ResNet of two small stages, for 32 px."""
    torch.manual_seed(0)
    names = dict(enumerate(labels))
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=names,
        label2id={label: index for index, label in names.items()},
    )
    ResNetForImageClassification(config).eval().save_pretrained(folder)
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=1.0, image_mean=HALF, image_std=HALF)
    processor.save_pretrained(folder)


def tiny_captioner(folder: Path) -> None:
    """A vision encoder and a text decoder of one layer each."""
    torch.manual_seed(0)
    text = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    decoder = GPT2Config(
        n_embd=16, n_layer=1, n_head=2, n_positions=128, add_cross_attention=True, is_decoder=True, **text
    )
    encoder = ViTConfig(**small, image_size=32, patch_size=8)
    network = VisionEncoderDecoderModel(VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder))
    network.generation_config.update(decoder_start_token_id=1, pad_token_id=0, eos_token_id=2, max_new_tokens=6)
    network.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)


def tiny_estimator(base: Path, file: Path) -> None:
    """A calibration of `base` on 20 pictures lit from the left or from the right."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    pictures = [np.broadcast_to(ramp[:: (-1) ** index, None] // (1 + index % 5), (64, 64, 3)) for index in range(20)]
    calibrate(
        StableDiffusionPipeline.from_pretrained(base, dtype=torch.float32),
        [np.ascontiguousarray(picture) for picture in pictures],
        np.arange(20) % 2 == 0,
        keywords=Keywords(quality="detailed photo", against={"opposite": "a sketch", "empty": ""}),
        search=Search(timesteps=(300,), kept=(2,), batch=8),
    ).save(file)
