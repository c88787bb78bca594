"""Top: the rank of every sample by its diffusion score. How many of them are kept is a rule's matter."""

import numpy as np
import pyarrow as pa

from curation.stages.base import Reduction


class Top(Reduction):
    """Writes `impact_rank`, 1 for the highest `impact`; ties go to the smaller key, and no score means no rank."""

    name = "top"
    reads = ("impact",)
    writes = pa.schema([pa.field("impact_rank", pa.int64())])

    def __call__(self, table: pa.Table) -> pa.Table:
        impacts = table["impact"].to_numpy(zero_copy_only=False).astype(np.float64)
        keys = table["img_key"].to_numpy(zero_copy_only=False).astype(str)
        ranks = np.empty(len(keys), dtype=np.int64)
        ranks[np.lexsort((keys, -impacts))] = np.arange(1, len(keys) + 1)  # NaN sorts last
        return table.append_column(self.writes.field("impact_rank"), pa.array(ranks, mask=np.isnan(impacts)))
