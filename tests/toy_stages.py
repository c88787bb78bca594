"""Toy judges with side effects that tests can count, importable from worker processes, and a pool for them."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.images import decode_table, to_jpeg
from curation.plan import Recipe, Step
from curation.stages.base import Reduction, Resources, Rule, Stage
from curation.stages.top import Top


def append(log: Path | None, lines: list[str]) -> None:
    if log:
        with log.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))


class Light(Stage):
    """Mean brightness in [0,1]. Kills its worker, or raises, on pictures whose brightness rounds to those named."""

    name = "light"
    reads = ("image",)
    writes = pa.schema([pa.field("light", pa.float32())])
    resources = Resources(batch=4)

    def __init__(self, log=None, *, kills=None, raises=None, seconds=0.0, opens="well"):
        self.log, self.kills, self.raises, self.seconds, self.opens = log, kills, raises, seconds, opens

    def open(self):
        append(self.log, ["open"])
        if self.opens == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.opens == "raises":
            raise MemoryError("no room for the model")

    def __call__(self, table):
        time.sleep(self.seconds)
        lights = [None if pixels is None else float(pixels.mean()) / 255 for pixels in decode_table(table)]
        tenths = [None if light is None else round(light, 2) for light in lights]
        if self.kills in tenths and self.kills is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.raises in tenths and self.raises is not None:
            raise ArithmeticError("cannot divide\nby that")
        append(self.log, [f"light {url}" for url in table["url"].to_pylist()])
        return table.append_column(self.writes.field(0), pa.array(lights, pa.float32()))


class Lose(Light):
    """Breaks the promise to return every row."""

    name = "lose"

    def __call__(self, table):
        return super().__call__(table).slice(1)


class Fail(Light):
    """Raises on every sample."""

    name = "fail"

    def __call__(self, table):
        raise LookupError("always")


class Glow(Light):
    """Brightness again, as the score that `curation.stages.top.Top` ranks by."""

    name = "glow"
    writes = pa.schema([pa.field("impact", pa.float32())])
    resources = Resources(batch=3)


class Glare(Light):
    """Brightness once more, for a rule against what is too bright."""

    name = "glare"
    writes = pa.schema([pa.field("glare", pa.float32())])


class Width(Stage):
    """A second segment: other resources."""

    name = "wide"
    reads = ("width",)
    writes = pa.schema([pa.field("wide", pa.int64())])
    resources = Resources(batch=3)

    def __init__(self, log=None, seconds=0.0):
        self.log, self.seconds = log, seconds

    def __call__(self, table):
        time.sleep(self.seconds)
        append(self.log, [f"wide {url}" for url in table["url"].to_pylist()])
        return table.append_column(self.writes.field(0), table["width"].cast(pa.int64()))


class Words(Stage):
    """Stands where a captioner would, to be replaced by one."""

    name = "recaption"
    reads = ("text",)
    writes = pa.schema([pa.field("prompt", pa.string())])
    resources = Resources(batch=3)

    def __call__(self, table):
        return table.append_column(self.writes.field(0), table["text"])


class Rank(Reduction):
    """1 for the brightest; looks at the pixels of the first sample."""

    name = "rank"
    reads = ("light", "width")
    writes = pa.schema([pa.field("impact_rank", pa.int64())])

    def __init__(self, log=None):
        self.log = log

    def open(self, read_image):
        self.read_image = read_image

    def __call__(self, table):
        append(self.log, [f"rank {len(table)} {self.read_image(table['img_key'][0].as_py())[:2].hex()}"])
        order = np.argsort(-table["light"].to_numpy(), kind="stable")
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(1, len(order) + 1)
        return table.append_column(self.writes.field(0), pa.array(ranks))


def recipe(log: Path | None = None, *, bright=0.2, top=0.5, seconds=0.0, **light) -> Recipe:
    return Recipe(
        name="toy",
        steps=(
            Step(
                judge=Light(log, seconds=seconds, **light),
                rules=(Rule(column="light", op=">=", threshold=bright, reason="too dark"),),
            ),
            Step(
                judge=Rank(log),
                rules=(Rule(column="impact_rank", op="<=", threshold=top, reason="not the brightest", of_pool=True),),
            ),
            Step(judge=Width(log, seconds)),
        ),
    )


def ranked_recipe(*, bright=0.2, top=5, glare=2.0) -> Recipe:
    """Like `recipe`, ranked by the stage that the real ones use."""
    return Recipe(
        name="ranked",
        steps=(
            Step(judge=Light(), rules=(Rule(column="light", op=">=", threshold=bright, reason="too dark"),)),
            Step(judge=Glare(), rules=(Rule(column="glare", op="<", threshold=glare, reason="glaring"),)),
            Step(judge=Glow()),
            Step(judge=Top(), rules=(Rule(column="impact_rank", op="<=", threshold=top, reason="not the brightest"),)),
        ),
    )


def write_pool(folder: Path, count: int = 20, *, broken: int = 2) -> Path:
    """Gray pictures, from black to almost white in `count` even steps, and `broken` truncated ones."""
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.full((16, 24, 3), round(index / count * 255), np.uint8)
        pixels[::4, ::4] ^= np.uint8(index & 1)
        (folder / f"{index:03d}.jpg").write_bytes(to_jpeg(pixels))
    for index in range(broken):
        (folder / f"broken{index}.jpg").write_bytes((folder / f"{index + 9:03d}.jpg").read_bytes()[:-90])
    return folder
