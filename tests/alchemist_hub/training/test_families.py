"""Each family against its own pipeline: what is encoded, what is dropped, what the denoiser is called with."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from tiny_models import TOKENS, tiny_sd3_pipeline

from alchemist_hub.errors import ModelError
from alchemist_hub.models import pipeline_class
from alchemist_hub.training.families import Family, Text, family_of
from alchemist_hub.training.recipes import TrainingRecipe
from alchemist_hub.training.schedule import Schedule

PROMPTS = ["a photo of mars", "the moon over the sea at night", "forest"]
KINDS = ("v_pipeline", "xl_pipeline", "sd3_pipeline")


@pytest.fixture(params=KINDS)
def base(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def family_in(base: Path) -> Family:
    return family_of(pipeline_class(base))


def whole(base: Path, **parts) -> DiffusionPipeline:
    pipe = DiffusionPipeline.from_pretrained(base, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def encoded_for_sampling(pipe: DiffusionPipeline, prompt: str) -> tuple[Text, Text]:
    """What the pipeline samples with, for a prompt and for none."""
    if "text_encoder_2" not in pipe.components:
        states, dropped = pipe.encode_prompt(prompt, "cpu", 1, True)
        return {"states": states}, {"states": dropped}
    more = {"prompt_2": None, "prompt_3": None} if "text_encoder_3" in pipe.components else {}
    states, dropped, pooled, dropped_pooled = pipe.encode_prompt(
        prompt, **more, device="cpu", do_classifier_free_guidance=True
    )
    return {"states": states, "pooled": pooled}, {"states": dropped, "pooled": dropped_pooled}


def same(found: Text, expected: Text) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].shape == expected[name].shape and torch.allclose(found[name], expected[name], atol=1e-5)
        for name in expected
    )


@torch.no_grad()
def encodings(base: Path, *, t5: bool = True) -> tuple[Text, Text]:
    family = family_in(base)
    pipe = family.encoders(base, t5=t5, device="cpu")
    return family.texts(pipe, PROMPTS), family.unconditional(pipe)


def test_texts_and_the_unconditional_are_those_the_pipeline_samples_with(base: Path):
    texts, unconditional = encodings(base)
    pipe = whole(base)
    for index, prompt in enumerate(PROMPTS):
        expected, dropped = encoded_for_sampling(pipe, prompt)
        assert same({name: tensor[index : index + 1] for name, tensor in texts.items()}, expected)
        assert same(unconditional, dropped)
    assert not torch.allclose(texts["states"][0], texts["states"][1])


def test_one_prompt_is_encoded_as_among_several(base: Path):
    family = family_in(base)
    pipe = family.encoders(base, t5=True, device="cpu")
    with torch.no_grad():
        alone, among = family.texts(pipe, PROMPTS[1:2]), family.texts(pipe, PROMPTS)
    assert same(alone, {name: tensor[1:2] for name, tensor in among.items()})


def test_a_dropped_caption_is_zeros_for_sdxl_only(base: Path):
    zeros = [not tensor.any() for tensor in encodings(base)[1].values()]
    assert set(zeros) == {base.name == "xl"}


def test_sdxl_encodes_no_words_where_its_base_does_not_force_zeros(xl_pipeline: Path, tmp_path: Path):
    base = Path(shutil.copytree(xl_pipeline, tmp_path / "base"))
    index = json.loads((base / "model_index.json").read_text())
    assert index["force_zeros_for_empty_prompt"] is True
    (base / "model_index.json").write_text(json.dumps(index | {"force_zeros_for_empty_prompt": False}))
    _, unconditional = encodings(base)
    pipe = whole(xl_pipeline)
    nothing, _ = encoded_for_sampling(pipe, "")
    assert all(tensor.any() for tensor in unconditional.values())
    assert same(unconditional, nothing)


def test_without_t5_its_part_is_zeros_as_in_a_pipeline_without_t5(sd3_pipeline: Path, tmp_path: Path):
    texts, unconditional = encodings(sd3_pipeline, t5=False)
    full, _ = encodings(sd3_pipeline)
    assert texts["states"].shape == full["states"].shape
    assert torch.equal(texts["states"][:, :TOKENS], full["states"][:, :TOKENS])
    assert not texts["states"][:, TOKENS:].any()
    assert full["states"][:, TOKENS:].any()
    without = tiny_sd3_pipeline(tmp_path / "without", t5=False)  # the same encoders, from the same seed
    assert same(encodings(without)[0], texts)
    pipe = whole(without, text_encoder_3=None, tokenizer_3=None)
    for index, prompt in enumerate(PROMPTS):
        expected, dropped = encoded_for_sampling(pipe, prompt)
        assert same({name: tensor[index : index + 1] for name, tensor in texts.items()}, expected)
        assert same(unconditional, dropped)


def test_encoders_come_in_float32_and_without_the_denoisers_weights(base: Path, tmp_path: Path):
    half = tmp_path / "half"
    DiffusionPipeline.from_pretrained(base, torch_dtype=torch.float16).save_pretrained(half)
    family = family_in(base)
    pipe = family.encoders(half, t5=True, device="cpu")
    for name in family.text_parts + ("vae",):
        if "tokenizer" not in name:
            assert {weight.dtype for weight in pipe.components[name].parameters()} == {torch.float32}
    described = pipe.components[family.component]
    assert described is None or all(weight.is_meta for weight in described.parameters())
    assert {weight.dtype for weight in family.denoiser(half).parameters()} == {torch.float32}


def sampled_once(pipe: DiffusionPipeline, component: str, **settings) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents that the pipeline shows its denoiser in the first step, without guidance, and what it answers."""
    calls = []

    def record(module, arguments, keywords, answer):
        shown = arguments[0] if arguments else keywords["hidden_states"]
        told = keywords["timestep"] if "timestep" in keywords else arguments[1]
        calls.append((shown, told, answer[0]))

    with pipe.components[component].register_forward_hook(record, with_kwargs=True):
        pipe(
            PROMPTS[0],
            num_inference_steps=2,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
            **settings,
        )
    return calls[0]


# SDXL alone is told sizes; here no two of the six numbers are alike. The others must not mind.
SIZES = {"original_size": (96, 80), "crops_coords_top_left": (8, 4), "target_size": (64, 56)}


def test_the_denoiser_is_called_as_in_sampling(base: Path):
    family, pipe = family_in(base), whole(base)
    settings = SIZES if base.name == "xl" else {}
    shown, told, answer = sampled_once(pipe, family.component, **settings)
    told_B = Schedule.read(base).told(torch.tensor([999]))
    assert told_B.item() == pytest.approx(told.item())  # sampling starts at the last timestep
    encoders = family.encoders(base, t5=True, device="cpu")
    sizes_B6 = torch.tensor([[96.0, 80.0, 8.0, 4.0, 64.0, 56.0]])
    with torch.no_grad():
        found = family.predict(family.denoiser(base), shown, told_B, family.texts(encoders, PROMPTS[:1]), sizes_B6)
    assert torch.allclose(found, answer, atol=1e-4)
    assert answer.std() > 1e-3


def test_a_class_that_is_not_known_is_refused_by_name():
    with pytest.raises(ModelError, match="a KandinskyPipeline cannot be fine-tuned here; expected one of"):
        family_of("KandinskyPipeline")


def test_a_recipe_sets_how_the_denoiser_computes(sd3_pipeline: Path):
    family = family_of("StableDiffusion3Pipeline")
    plain, lean = family.denoiser(sd3_pipeline).eval(), family.denoiser(sd3_pipeline).eval()
    family.prepare(plain, TrainingRecipe(steps=1, learning_rate=1e-3))
    family.prepare(lean, TrainingRecipe(steps=1, learning_rate=1e-3, gradient_checkpointing=True, compile=True))
    assert plain.training and lean.training
    assert (plain.is_gradient_checkpointing, lean.is_gradient_checkpointing) == (False, True)
    assert plain._compiled_call_impl is None and lean._compiled_call_impl is not None
