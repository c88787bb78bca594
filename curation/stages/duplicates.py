"""Near-duplicates: one cluster for all copies of a picture, and the best of them to keep.

A cascade, cheap to dear. Exact copies share their key already. `Fingerprint` gives every sample a hash of 64 bits,
`Landmarks` those of places in it; whole hashes within a few bits, or one landmark in common, as they are or in a
mirror, make candidates; only candidates' pixels are read and compared. Verified pairs are joined to connected
components, and against chaining every member has to be a copy of its own keeper. Memory: key, hashes and score of each
sample, the candidates that failed, and the pictures compared last.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import RecipeError
from curation.images import decode
from curation.stages.alignment import Picture, same_picture
from curation.stages.base import Reduction
from curation.stages.candidates import near_pairs
from curation.stages.fingerprint import ODD

PICTURES = 512  # kept in memory, about 0.2 MB each
WHOLE = {"tables": 128, "bucket": 8}  # of the search among whole hashes
PART = {"radius": 8, "tables": 10, "bucket": 4}  # among landmarks, eight times as many; a picture has several chances


class Duplicates(Reduction):
    """Writes `duplicate_keeper` (a key, the sample's own if it is kept), `duplicate_cluster` (its size), `is_keeper`.

    The keeper of a cluster has the best `iqa`; ties go to the smaller key.
    """

    name = "duplicates"
    version = "2"
    reads = ("phash", "landmarks", "iqa")
    writes = pa.schema(
        [
            pa.field("duplicate_keeper", pa.string()),
            pa.field("duplicate_cluster", pa.int64()),
            pa.field("is_keeper", pa.bool_()),
        ]
    )

    def __init__(self, *, radius: int = 11) -> None:
        """`radius`: how many of the 64 bits of two candidates' whole hashes may differ."""
        if not 0 <= radius <= 20:
            raise RecipeError(f"Duplicates(radius={radius}): expected 0 to 20 bits")
        self.radius = radius

    def config(self) -> dict[str, Any]:
        return {"radius": self.radius}

    def open(self, read_image: Callable[[str], bytes]) -> None:
        self._picture = lru_cache(maxsize=PICTURES)(lambda key: Picture.of(decode(read_image(key))))

    def __call__(self, table: pa.Table) -> pa.Table:
        keys = table["img_key"].to_pylist()
        quality = table["iqa"].to_numpy(zero_copy_only=False).astype(np.float64)
        worth = np.nan_to_num(quality, nan=-np.inf)
        keeper = np.arange(len(keys))
        for component in self._components(table, keys):
            members = sorted(component, key=lambda row: (-worth[row], keys[row]))
            keeper[members] = self._keepers(members, keys)
        columns = ([keys[row] for row in keeper], np.bincount(keeper)[keeper], keeper == np.arange(len(keys)))
        for field, column in zip(self.writes, columns, strict=True):
            table = table.append_column(field, pa.array(column, field.type))
        return table

    def _components(self, table: pa.Table, keys: list[str]) -> Iterator[np.ndarray]:
        """Yield the rows of each connected component of verified pairs, components of one left out."""
        joined = _Joined(len(keys))
        failed: set[tuple[int, int, bool]] = set()
        for i, j, in_mirror in self.candidates(table):
            pair = (min(i, j), max(i, j), in_mirror)
            if joined.root(i) == joined.root(j) or pair in failed:
                continue
            if self._same(keys[i], keys[j], in_mirror):
                joined.join(i, j)
            else:
                failed.add(pair)
        yield from joined.components()

    def candidates(self, table: pa.Table) -> Iterator[tuple[int, int, bool]]:
        """Yield (row, row, seen in a mirror) of hashes alike: of whole pictures first, then of landmarks.

        `table` needs the columns of `Fingerprint` and `Landmarks` only.
        """
        rows = np.flatnonzero(table["phash"].is_valid().to_numpy(zero_copy_only=False))
        marks, owners = _landmarks(table["landmarks"])
        searches = (
            (rows, table["phash"].drop_null().to_numpy(), {"radius": self.radius, **WHOLE}),
            (owners, marks, PART),
        )
        for of_hash, hashes, options in searches:
            i, j, in_mirror = near_pairs(hashes, odd=ODD, **options)
            columns = of_hash[i], of_hash[j], in_mirror
            different = columns[0] != columns[1]
            yield from zip(*(column[different].tolist() for column in columns), strict=True)

    def _keepers(self, members: list[int], keys: list[str]) -> list[int]:
        """Return the keeper of each member, best first: the first keeper that it is a verified copy of, else itself."""
        chosen: list[int] = []
        for row in members:
            keepers = [keeper for keeper in dict.fromkeys(chosen) if self._either_way(keys[keeper], keys[row])]
            chosen.append(keepers[0] if keepers else row)
        return chosen

    def _either_way(self, first: str, second: str) -> bool:
        return self._same(first, second, False) or self._same(first, second, True)

    def _same(self, first: str, second: str, in_mirror: bool) -> bool:
        picture = self._picture(first)
        return same_picture(picture.mirrored() if in_mirror else picture, self._picture(second))


def _landmarks(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Every landmark's hash (M,) and the row that it is of."""
    counts = pc.fill_null(pc.binary_length(column), 0).to_numpy() // 8
    marks = np.frombuffer(b"".join(column.drop_null().to_pylist()), "<u8")
    return marks, np.repeat(np.arange(len(column), dtype=np.int32), counts)


class _Joined:
    """Rows joined into components (union-find): a pair already joined through others needs no comparison."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count)

    def root(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = int(self._parent[row])
        return row

    def join(self, one: int, other: int) -> None:
        self._parent[self.root(other)] = self.root(one)

    def components(self) -> Iterator[np.ndarray]:
        """Yield the rows of each component of two or more."""
        roots = np.array([self.root(row) for row in range(len(self._parent))], dtype=np.int64)
        order = np.argsort(roots, kind="stable")
        for component in np.split(order, np.flatnonzero(np.diff(roots[order])) + 1):
            if len(component) > 1:
                yield component
