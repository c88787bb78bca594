from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alchemist_hub.training.buckets import SDXL, Size, assign, crop_corner, enlargement, nearest, table

SIDES = st.integers(16, 4096)
SIZES = st.tuples(SIDES, SIDES)
TABLES = st.sampled_from([SDXL, table(512), table(768), table(256, step=32), ((64, 64),)])


def distance(size: Size, bucket: Size) -> float:
    """How many times wider the one is than the other, or taller."""
    one, other = size[0] / size[1], bucket[0] / bucket[1]
    return max(one / other, other / one)


@given(size=SIZES, buckets=TABLES)
def test_no_bucket_has_a_nearer_aspect_ratio(size: Size, buckets: tuple[Size, ...]):
    found = nearest(size, buckets)
    assert found in buckets
    assert distance(size, found) <= min(distance(size, bucket) for bucket in buckets) * (1 + 1e-9)


def test_the_nearest_bucket_is_counted_in_ratios_and_has_a_side_to_lie_on():
    assert nearest((1000, 1900), [(512, 512), (512, 1024)]) == (512, 1024)
    assert nearest((1900, 1000), [(512, 1024), (1024, 512)]) == (1024, 512)
    assert nearest((100, 140), [(64, 64), (64, 128)]) == (64, 64)  # 1.4 to 1; the square root of 2 divides them
    assert nearest((100, 142), [(64, 64), (64, 128)]) == (64, 128)


@given(sizes=st.lists(SIZES, min_size=1, max_size=40), buckets=TABLES, least=st.integers(1, 12))
def test_every_bucket_fills_a_pass_unless_it_is_the_only_one(sizes: list[Size], buckets, least: int):
    found = assign(sizes, buckets, least=least)
    held = Counter(found)
    assert len(found) == len(sizes)
    assert held.keys() <= set(buckets)
    assert len(held) == 1 or min(held.values()) >= least
    assert found == [nearest(size, tuple(held)) for size in sizes]


@given(sizes=st.lists(SIZES, min_size=1, max_size=40), buckets=TABLES)
def test_a_bucket_of_one_is_kept_where_one_is_enough(sizes: list[Size], buckets):
    assert assign(sizes, buckets, least=1) == [nearest(size, buckets) for size in sizes]


def test_the_emptiest_bucket_goes_first_and_may_fill_the_next():
    square, wide, wider = (64, 64), (64, 96), (64, 128)
    sizes = [square] * 4 + [wide] * 3 + [wider]
    assert assign(sizes, [square, wide, wider], least=4) == [square] * 4 + [wide] * 4


@given(size=st.integers(1, 24).map(lambda count: 64 * count), longest=st.sampled_from([1.0, 1.5, 2.0, 3.0]))
def test_a_table_holds_shapes_of_at_most_the_area_in_whole_steps(size: int, longest: float):
    found = table(size, longest=longest)
    assert (size, size) in found
    assert len(found) == len(set(found))
    assert {(width, height) for height, width in found} == set(found)
    for height, width in found:
        assert height % 64 == width % 64 == 0
        assert height * width <= size * size
        assert max(height, width) <= longest * min(height, width)
        short, long = sorted((height, width))
        assert (short + 64) * long > size * size  # the widest that fits, one way up or the other


def test_the_table_of_a_usual_size_is_what_it_would_be_by_hand():
    assert table(512) == ((384, 640), (448, 576), (512, 512), (576, 448), (640, 384))
    assert table(64) == ((64, 64),)


def test_sdxls_table_has_about_a_megapixel_everywhere_and_every_shape_turned():
    assert len(set(SDXL)) == len(SDXL) == 41
    assert {(width, height) for height, width in SDXL} == set(SDXL)
    for height, width in SDXL:
        assert height % 64 == width % 64 == 0
        assert abs(height * width / 1024**2 - 1) < 0.1
    ratios = [height / width for height, width in SDXL]
    assert ratios == sorted(ratios)
    assert (ratios[0], ratios[-1]) == (0.25, 4.0)


@pytest.mark.parametrize(
    ("size", "fits"), [((64, 96), True), ((63, 200), False), ((200, 95), False), ((96, 64), False)]
)
def test_a_picture_covers_its_bucket_with_both_sides(size: Size, fits: bool):
    assert (enlargement(size, (64, 96)) <= 1) is fits


@given(size=SIZES, buckets=TABLES)
def test_the_cut_is_in_the_middle_and_along_one_side_only(size: Size, buckets):
    bucket = nearest(size, buckets)
    top, left = crop_corner(size, bucket)
    scale = max(bucket[0] / size[0], bucket[1] / size[1])
    assert 0 in (top, left)
    for corner, side, kept in zip((top, left), size, bucket, strict=True):
        assert -0.5 <= side * scale - kept - 2 * corner <= 1.5  # the resized side is rounded, and the corner down
