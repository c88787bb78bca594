"""The server's end of the default upload path: xorbs of compressed chunks, shards that say how files are made of them.

The layouts are those of the Xet protocol's specification. A xorb is a run of chunks, each with a header of eight bytes;
a shard is a run of records of 48 bytes: the files, a bookend, the chunks of its xorbs, a bookend. Bytes are rebuilt
when a shard arrives and must have the SHA-256 it names.
"""

import hashlib
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from hub_server.answers import Answer, Refusal, told
from hub_server.store import Blobs, write_whole

RECORD = 48  # bytes
BOOKEND = (b"\xff" * 32).ljust(RECORD, b"\0")
# What a shard starts with; its version, 2, is next.
MAGIC = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
VERIFIED, HAS_SHA256 = 1 << 31, 1 << 30  # flags of a file: one more record per term; one with the SHA-256
FOOTER_BYTES = 200  # of a shard
FOOTER = b"XETBLOB"  # starts what may follow a xorb's chunks
LZ4, GROUPED_LZ4 = 1, 2  # compression of a chunk; 0 is none

Term = tuple[str, int, int]  # xorb, first chunk, end


def hash_name(raw: bytes) -> str:
    """Write 32 bytes as the protocol does: four 64-bit numbers, each with its low byte first."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def hash_bytes(name: str) -> bytes:
    """The inverse of `hash_name`."""
    return struct.pack("<4Q", *(int(name[at : at + 16], 16) for at in range(0, 64, 16)))


def shard_of(known: bytes) -> bytes:
    """Return a shard without files: a header, these records of xorbs, a footer with offsets and without key."""
    head = MAGIC + struct.pack("<2Q", 2, FOOTER_BYTES) + BOOKEND
    end = len(head) + len(known)
    offsets = struct.pack("<9Q", 1, RECORD, len(head), end, 0, end, 0, end, 0)
    now = int(time.time())
    return head + known + offsets + bytes(32) + struct.pack("<12Q", now, now + 3600, *[0] * 9, end)


def files(shard: bytes) -> Iterator[tuple[str, list[Term], int]]:
    """Yield every file of a shard: its SHA-256, the terms it is the concatenation of, and where its records end."""
    at = RECORD  # after the header
    while shard[at : at + RECORD] != BOOKEND:
        flags, count = struct.unpack_from("<II", shard, at + 32)
        if not flags & HAS_SHA256:
            raise Refusal(400, "a file of this shard has no SHA-256")
        terms = []
        for entry in range(at + RECORD, at + RECORD * (1 + count), RECORD):
            first, end = struct.unpack_from("<II", shard, entry + 40)
            terms.append((hash_name(shard[entry : entry + 32]), first, end))
        last = at + RECORD * (1 + count * (2 if flags & VERIFIED else 1))
        at = last + RECORD
        yield hash_name(shard[last : last + 32]), terms, at


def ungrouped(data: bytes) -> bytes:
    """Interleave what was stored as all first bytes of four, all second ones, and so on."""
    out = np.empty(len(data), np.uint8)
    at = 0
    for lane in range(4):
        size = len(range(lane, len(data), 4))
        out[lane::4] = np.frombuffer(data, np.uint8, size, at)
        at += size
    return out.tobytes()


def chunks(xorb: bytes, first: int, end: int) -> Iterator[bytes]:
    """Yield the chunks `first` to `end` (exclusive) of a xorb, decompressed."""
    at = number = 0
    while number < end and at < len(xorb) and xorb[at : at + len(FOOTER)] != FOOTER:
        stored, size = int.from_bytes(xorb[at + 1 : at + 4], "little"), int.from_bytes(xorb[at + 5 : at + 8], "little")
        scheme, at = xorb[at + 4], at + 8
        if number >= first:
            data = xorb[at : at + stored]
            if scheme in (LZ4, GROUPED_LZ4):
                data = pa.decompress(data, decompressed_size=size, codec="lz4", asbytes=True)
            yield ungrouped(data) if scheme == GROUPED_LZ4 else data
        at, number = at + stored, number + 1
    if number < end:
        raise Refusal(400, f"a shard names chunk {end} of a xorb with {number}")


class Xet:
    """Xorbs in a folder; files rebuilt into `blobs`."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self.folder, self.blobs = folder, blobs

    def connection(self, url: str, token: str) -> Answer:
        """Tell the client where content goes, and the token for an hour of it."""
        expiry = int(time.time()) + 3600
        headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expiry)}
        return told({"casUrl": url, "accessToken": token, "exp": expiry}, headers=headers)

    def take_xorb(self, name: str, pieces: Iterable[bytes]) -> Answer:
        path = self.folder / name
        known = path.is_file()
        write_whole(path, pieces)
        return told({"was_inserted": not known})

    def take_shard(self, shard: bytes) -> Answer:
        end = RECORD
        for sha256, terms, after in files(shard):
            end = after
            if sha256 not in self.blobs:
                self.blobs.add(self.pieces(terms), sha256=sha256)
        known = shard[end + RECORD :]
        if known[:RECORD] != BOOKEND:  # it brought xorbs
            write_whole(self.folder / f"{hashlib.sha256(known).hexdigest()}.known", [known])
        return told({"result": 1})

    def known_chunk(self, name: str) -> Answer:
        """Answer with a shard of the xorbs around a chunk, so that the client sends none of them again."""
        for path in self.folder.glob("*.known"):
            if hash_bytes(name) in (known := path.read_bytes()):
                return Answer(body=shard_of(known), headers={"Content-Type": "application/octet-stream"})
        raise Refusal(404, "chunk not known")

    def pieces(self, terms: list[Term]) -> Iterator[bytes]:
        """Yield the bytes of a file, a chunk at a time."""
        for name, first, end in terms:
            if not (self.folder / name).is_file():
                raise Refusal(400, f"a shard names the xorb {name}, which has not arrived")
            yield from chunks((self.folder / name).read_bytes(), first, end)
