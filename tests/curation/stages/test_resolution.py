"""Resolution from the header."""

import numpy as np
import pyarrow as pa

from curation.stages.resolution import Resolution


def test_area_is_width_times_height_and_null_without_a_readable_image(samples) -> None:
    table = Resolution()(samples([np.zeros((30, 70, 3), np.uint8), None, np.zeros((8, 9, 3), np.uint8)]))
    assert table["area"].to_pylist() == [2100, None, 72]


def test_an_area_beyond_32_bits_is_exact(samples) -> None:
    table = samples([np.zeros((8, 8, 3), np.uint8)])
    huge = pa.array([60_000], pa.int32())
    table = table.set_column(table.schema.get_field_index("width"), "width", huge)
    table = table.set_column(table.schema.get_field_index("height"), "height", huge)
    assert Resolution()(table)["area"].to_pylist() == [3_600_000_000]
