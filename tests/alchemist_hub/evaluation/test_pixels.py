"""Pictures to network inputs, against transformers' own processor and PIL."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from alchemist_hub.evaluation import pixels


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("size", [(224, 224), (300, 200), (101, 333), (64, 64), (225, 224)])
def test_a_centred_picture_is_what_clips_own_processor_makes(size):
    theirs = CLIPImageProcessorPil()(images=[picture(*size)], return_tensors="pt").pixel_values
    ours = pixels.normalised([picture(*size)], pixels.centred, 224, pixels.CLIP)
    assert ours.shape == (1, 3, 224, 224)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_a_squashed_picture_keeps_its_borders_and_is_normalised_by_imagenet():
    image = Image.new("RGB", (300, 100), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 100, 100))  # a crop to the middle would lose the blue third
    values = pixels.normalised([image], pixels.squashed, 30, pixels.IMAGENET)[0]
    left, right = values[:, 15, 2].numpy(), values[:, 15, 27].numpy()
    np.testing.assert_allclose(left, [(0 - 0.485) / 0.229, (0 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-5)
    np.testing.assert_allclose(right, [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0 - 0.406) / 0.225], rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from(["RGB", "L", "RGBA", "P"]))
def test_any_shape_and_mode_fits(width, height, mode):
    image = picture(width, height).convert(mode)
    for fit in (pixels.centred, pixels.squashed):
        assert pixels.normalised([image, image], fit, 16, pixels.CLIP).shape == (2, 3, 16, 16)
