"""Column names and schemas: what a sample is on its way through the funnel."""

import hashlib

import pyarrow as pa

OK = "ok"
UNDECODABLE = "undecodable"
UNAVAILABLE = "unavailable"  # a URL that could not, or may not, be downloaded
QUARANTINED = "quarantined"  # workers died on it

SAMPLE = pa.schema(
    [
        pa.field("img_key", pa.string(), nullable=False),  # hex SHA-256 of the image bytes, first 32 characters
        pa.field("url", pa.string()),  # where it came from: a URL, or the path below the source folder
        pa.field("text", pa.string()),  # the caption as found
        pa.field("extra", pa.string()),  # JSON of the source's further columns, kept to the end
        pa.field("image", pa.binary()),  # the file's bytes, undecoded
        pa.field("status", pa.string(), nullable=False),  # "ok", or why this row carries no scores
        pa.field("detail", pa.string()),  # one line behind a status that is not "ok"
        pa.field("width", pa.int32()),  # pixels, from the header
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),
    ]
)

# What the ledger keeps of a sample: where it is registered (`slice`: its place in the source), and where it is scored.
REGISTERED = pa.schema([column for column in SAMPLE if column.name != "image"] + [pa.field("slice", pa.string())])
SCORED = pa.schema([SAMPLE.field("img_key"), SAMPLE.field("status"), SAMPLE.field("detail")])


def img_key(image: bytes) -> str:
    """Return the key of a sample: hex SHA-256 of its image bytes, truncated to 32 characters."""
    return hashlib.sha256(image).hexdigest()[:32]
