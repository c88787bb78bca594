"""Resolution, from the header: what a file offers before a single pixel is decoded."""

import pyarrow as pa
import pyarrow.compute as pc

from curation.records import OK
from curation.stages.base import Stage


class Resolution(Stage):
    """Writes `area`, width times height in pixels; null where the sample has no readable image."""

    name = "resolution"
    reads = ("width", "height")
    writes = pa.schema([pa.field("area", pa.int64())])

    def __call__(self, table: pa.Table) -> pa.Table:
        area = pc.multiply(table["width"].cast(pa.int64()), table["height"].cast(pa.int64()))
        readable = pc.equal(table["status"], OK)
        return table.append_column(self.writes.field("area"), pc.if_else(readable, area, pa.scalar(None, pa.int64())))
