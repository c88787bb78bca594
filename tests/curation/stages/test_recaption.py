"""Recaptioning, with the three kinds of real image-to-text models, tiny and with random weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GPT2Config,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from curation.errors import RecipeError
from curation.stages.captions import Caption, outcome
from curation.stages.recaption import Recaption

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]
WORDS = ["USER", "ASSISTANT", "a", "at", "forest", "mars", "night", "over", "photo", "rising", "sea"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXT = {"vocab_size": len(SPECIAL) + len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
PATCHES = {"image_size": 32, "patch_size": 8}
SQUARE = {"height": 32, "width": 32}
CHAT = (
    "{% for message in messages %}USER {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}ASSISTANT"
)


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, additional_special_tokens=["<image>"], **names)


def encoder_decoder(folder: Path) -> None:
    decoder = GPT2Config(
        n_embd=16, n_layer=1, n_head=2, n_positions=32, add_cross_attention=True, is_decoder=True, **TEXT
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**SMALL, **PATCHES), decoder)
    network = VisionEncoderDecoderModel(config=config)
    network.generation_config.update(decoder_start_token_id=1, pad_token_id=0, eos_token_id=2)
    network.save_pretrained(folder)
    ViTImageProcessorPil(size=SQUARE).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def captioner(folder: Path) -> None:
    text = {**SMALL, **TEXT, "encoder_hidden_size": 16, "max_position_embeddings": 32, "sep_token_id": 2}
    network = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=SMALL | PATCHES))
    network.save_pretrained(folder)
    BlipProcessor(BlipImageProcessorPil(size=SQUARE), tokenizer()).save_pretrained(folder)


def chat_model(folder: Path) -> None:
    vision = CLIPVisionConfig(**SMALL | PATCHES | {"num_hidden_layers": 2}, projection_dim=16)
    text = LlamaConfig(**SMALL, **TEXT, num_key_value_heads=2)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, image_seq_length=16)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE),
        tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=CHAT,
    ).save_pretrained(folder)


def only_say(network: torch.nn.Module, words: list[str]) -> None:
    others = [index for index, word in enumerate(SPECIAL + WORDS) if word not in words]
    for module in network.modules():
        if getattr(module, "generation_config", None) is not None:
            module.generation_config.suppress_tokens = others


@pytest.mark.parametrize("build", [encoder_decoder, captioner, chat_model])
def test_every_picture_gets_the_models_words_and_bad_rows_get_null(
    build: Callable[[Path], None], tmp_path: Path, samples, pixels
) -> None:
    torch.manual_seed(1)
    build(tmp_path)
    stage = Recaption(tmp_path, max_tokens=4)
    stage.open()
    only_say(stage.network, WORDS)  # random weights may say nothing but </s>
    rows = stage(samples([pixels(1), None, pixels(2, width=50)])).select(["prompt", "recaption_status"]).to_pylist()
    assert rows[1] == {"prompt": None, "recaption_status": None}
    for row in (rows[0], rows[2]):
        assert row["recaption_status"] == "ok"
        assert 1 <= len(row["prompt"].split()) <= 4  # cut: the last word may be a part of one
        assert set(row["prompt"].split()) <= set(WORDS)


def test_an_encoder_saved_without_its_pooler_is_whole_and_one_without_a_layer_is_not(tmp_path: Path) -> None:
    encoder_decoder(tmp_path)
    network = VisionEncoderDecoderModel.from_pretrained(tmp_path)
    network.encoder = ViTModel(network.encoder.config, add_pooling_layer=False)
    network.save_pretrained(tmp_path)
    Recaption(tmp_path).open()
    network.decoder.transformer.ln_f = torch.nn.Identity()
    network.save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match="ln_f"):
        Recaption(tmp_path).open()


def test_a_model_with_nothing_to_say_leaves_the_text_as_found(tmp_path: Path, samples, pixels) -> None:
    encoder_decoder(tmp_path)
    stage = Recaption(tmp_path, max_tokens=4)
    stage.open()
    only_say(stage.network, SPECIAL)
    table = stage(samples([pixels(1), pixels(2)], ["sunset 4k", None]))
    assert table.select(["prompt", "recaption_status"]).to_pylist() == [
        {"prompt": "sunset 4k", "recaption_status": "empty"},
        {"prompt": None, "recaption_status": "empty"},
    ]


@pytest.mark.parametrize(
    ("written", "prompt", "status"),
    [
        ("  a photo of\n mars ", "a photo of mars", "ok"),
        ('"A boat at night."', "A boat at night.", "ok"),
        ("I'm sorry, but I can't help with that.", "as found", "refused"),
        ("Sorry, no.", "as found", "refused"),
        ("As an AI, I do not see pictures.", "as found", "refused"),
        ("I cannot describe this image", "as found", "refused"),
        ("I can see a house", "I can see a house", "ok"),
        ("Sorrento seen from the sea", "Sorrento seen from the sea", "ok"),
        (' "" ', "as found", "empty"),
    ],
)
def test_refusals_and_silence_are_told_from_prompts(written: str, prompt: str, status: str) -> None:
    assert outcome(Caption(text=written), "as found") == (prompt, status)


@pytest.mark.parametrize(
    ("written", "prompt"),
    [
        ("A boat at sea. Above it the moon and a", "A boat at sea."),
        ("A boat at sea, 3.5 miles out.", "A boat at sea, 3.5 miles out."),
        ("A boat at sea below a red sky, with a sailor wh", "A boat at sea below a red sky"),
        ("Mars, an enormous planet rising over the horiz", "Mars, an enormous planet rising over the"),
        ("Superlongword", "Superlongword"),
    ],
)
def test_an_answer_that_was_cut_ends_at_a_sentence_a_pause_or_a_word(written: str, prompt: str) -> None:
    assert outcome(Caption(text=written, is_cut=True), "as found") == (prompt, "ok")
    assert outcome(Caption(text=written), "as found") == (written, "ok")


@pytest.mark.parametrize("build", [encoder_decoder, captioner, chat_model])
def test_it_is_known_which_answers_were_cut(build: Callable[[Path], None], tmp_path: Path, pixels) -> None:
    torch.manual_seed(1)
    build(tmp_path)
    stage = Recaption(tmp_path, max_tokens=4)
    stage.open()
    only_say(stage.network, WORDS)
    assert [caption.is_cut for caption in stage.captions([pixels(1)])] == [True]
    only_say(stage.network, ["</s>"])
    assert [caption.is_cut for caption in stage.captions([pixels(1)])] == [False]


def test_instruction_and_weights_are_part_of_the_configuration(tmp_path: Path) -> None:
    encoder_decoder(tmp_path)
    one, other = Recaption(tmp_path), Recaption(tmp_path, instruction="Describe it.")
    assert one.config() != other.config()
    assert one.config()["model"].startswith("sha256:")


def test_a_missing_captioner_is_one_clear_line() -> None:
    with pytest.raises(RecipeError, match="no model folder at /no/captioner"):
        Recaption("/no/captioner").open()
