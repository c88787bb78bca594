"""Pictures on disk: painted once, found again, never mixed up."""

import io
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_models import tiny_pipeline

from alchemist_hub import sampling
from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import generate
from alchemist_hub.evaluation.generate import Settings, Share

PROMPTS = ["a photo of mars", "a sketch of the sea"]
SETTINGS = Settings(seeds=(0, 7), steps=2, guidance=3.0, batch=3)


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def test_every_prompt_gets_every_seed_and_the_index_says_where(v_pipeline, tmp_path):
    index = generate.paint(v_pipeline, PROMPTS, SETTINGS, tmp_path)
    assert index.select(["prompt_index", "seed"]).to_pylist() == [
        {"prompt_index": row, "seed": seed} for row in (0, 1) for seed in (0, 7)
    ]
    assert index["prompt"].to_pylist() == [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    folder = tmp_path / generate.folder_name(generate.checkpoint_id(v_pipeline), SETTINGS)
    assert pq.read_table(folder / generate.INDEX).equals(index)
    for file in index["file"].to_pylist():
        with Image.open(tmp_path / file) as image:
            assert image.size == (64, 64)


def test_every_prompt_has_noise_of_its_own_and_sampling_by_its_seed_paints_the_picture(v_pipeline, tmp_path):
    index = generate.paint(v_pipeline, PROMPTS, SETTINGS, tmp_path)
    noise = index["noise_seed"].to_pylist()
    assert len(set(noise)) == 4 and noise == [generate.noise_seed(text, seed) for text in PROMPTS for seed in (0, 7)]
    assert all(0 <= seed < 2**31 for seed in noise)
    alone = sampling.generate(sampling.load(v_pipeline), [PROMPTS[1]], [noise[3]], steps=2, guidance=3.0)[0]
    with Image.open(tmp_path / index["file"][3].as_py()) as image:
        difference = max(abs(a - b) for a, b in zip(image.tobytes(), alone.tobytes(), strict=True))
    assert difference <= 1  # batched and alone round differently


def test_resume_paints_only_what_is_missing(v_pipeline, tmp_path):
    told: list[int] = []
    generate.paint(v_pipeline, PROMPTS, SETTINGS, tmp_path)
    before = stamps(tmp_path)
    lost = next(tmp_path.rglob(generate.picture_name(PROMPTS[1], 7)))
    lost.unlink()
    generate.paint(v_pipeline, [*PROMPTS, "the moon"], SETTINGS, tmp_path, on_done=told.append)
    after = stamps(tmp_path)
    assert {name for name in before if after[name] != before[name]} == {lost.name}
    assert len(after) == 6
    assert told == [3, 3]  # found, then painted: the lost one and the new prompt's two


def test_other_weights_or_settings_never_meet_old_pictures(v_pipeline, tmp_path):
    other = tiny_pipeline(tmp_path / "other", seed=1)
    files = [
        generate.paint(checkpoint, PROMPTS[:1], settings, tmp_path)["file"].to_pylist()
        for checkpoint, settings in (
            (v_pipeline, SETTINGS),
            (other, SETTINGS),
            (v_pipeline, Settings(seeds=(0, 7), steps=2, guidance=1.0)),
        )
    ]
    assert len(set().union(*files)) == 6


def test_training_notes_beside_the_components_do_not_change_the_identity(tmp_path):
    folder = tiny_pipeline(tmp_path / "tuned")
    before = generate.checkpoint_id(folder)
    (folder / "training.json").write_text("{}")
    assert generate.checkpoint_id(folder) == before
    (folder / "unet" / "extra.txt").write_text("other")
    assert generate.checkpoint_id(folder) != before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_broken_picture_is_painted_again(damage, v_pipeline, tmp_path):
    generate.paint(v_pipeline, PROMPTS, SETTINGS, tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    broken = sorted(whole)[1]
    data = bytearray(whole[broken])
    data[len(data) // 2] ^= 1
    broken.write_bytes({"cut": data[:-20], "flipped": data, "empty": b"", "text": b"no picture"}[damage])
    told: list[int] = []
    generate.paint(v_pipeline, PROMPTS, SETTINGS, tmp_path, on_done=told.append)
    assert told == [3, 1]
    assert {path: path.read_bytes() for path in whole if path != broken} == {p: whole[p] for p in whole if p != broken}
    assert levels_apart(broken, whole[broken]) <= 1


def levels_apart(path: Path, data: bytes) -> int:
    with Image.open(path) as found, Image.open(io.BytesIO(data)) as expected:
        return max(abs(a - b) for a, b in zip(found.tobytes(), expected.tobytes(), strict=True))


def test_shares_are_all_pictures_once_and_the_same_in_any_batch(v_pipeline, tmp_path):
    generate.paint(v_pipeline, PROMPTS, SETTINGS, tmp_path / "one")
    single = replace(SETTINGS, batch=1)
    for index in (2, 0, 1):
        generate.paint(v_pipeline, PROMPTS, single, tmp_path / "three", share=Share(index=index, of=3))
    names = [{path.name for path in (tmp_path / part).rglob("*.png")} for part in ("one", "three")]
    assert names[0] == names[1] and len(names[0]) == 4
    for path in (tmp_path / "one").rglob("*.png"):
        assert levels_apart(tmp_path / "three" / path.relative_to(tmp_path / "one"), path.read_bytes()) <= 1


def test_another_share_neither_loads_nor_paints_what_is_not_its_own(v_pipeline, tmp_path):
    waited: list[str] = []
    share = Share(index=1, of=2, wait=lambda: waited.append("waited"))
    index = generate.paint(v_pipeline, PROMPTS, SETTINGS, tmp_path, share=share)
    assert waited == ["waited"] and index.num_rows == 4
    assert [path.name for path in sorted(tmp_path.rglob("*.png"))] == sorted(
        generate.picture_name(text, 7) for text in PROMPTS
    )
    assert not list(tmp_path.rglob(generate.INDEX))


def test_another_precision_has_another_place(v_pipeline, tmp_path):
    half = replace(SETTINGS, dtype="bfloat16", seeds=(0,))
    (file,) = generate.paint(v_pipeline, PROMPTS[:1], half, tmp_path)["file"].to_pylist()
    assert "-bfloat16/" in file
    assert generate.is_whole(tmp_path / file)


def test_bad_input_is_one_clear_error(v_pipeline, tmp_path):
    with pytest.raises(EvaluationError, match="0 prompts"):
        generate.paint(v_pipeline, [], SETTINGS, tmp_path)
    with pytest.raises(ModelError, match="does not exist"):
        generate.paint(tmp_path / "absent", PROMPTS, SETTINGS, tmp_path)
