"""What every captioner shares: the question, the two columns it writes, and which answers are no prompts."""

import re
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.images import decode_table
from curation.records import OK
from curation.stages.base import Stage

EMPTY = "empty"
REFUSED = "refused"
FAILED = "failed"  # the model could not be asked about this picture
INSTRUCTION = (
    "Write the prompt that a person would type to get this picture from a text-to-image model: "
    "one moderately descriptive sentence, plain words, no introduction."
)
_REFUSAL = re.compile(
    r"^(i['’]?m (sorry|unable|not able)|i am (sorry|unable|not able)|sorry\b|i (can['’]?t|cannot|can not|won['’]?t)\b"
    r"|as an ai\b|unfortunately,? i\b|i apologi[sz]e\b)",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)  # of a model that thinks aloud, the end perhaps cut off
_LAST_SENTENCE = re.compile(r".*[.!?。！？](?=[\s\"'”’)]|$)")
_LAST_PAUSE = re.compile(r".*\w(?=[,;:])")
_ALL_BUT_A_WORD = re.compile(r".*\w(?=\s)")


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What a model wrote. `is_cut`: it was stopped at its longest; `status`: not "ok" where there is no answer."""

    text: str = ""
    is_cut: bool = False
    status: str = OK


class Captioner(Stage):
    """Writes `prompt`, and `recaption_status`: "ok", or why the prompt is the text as found (the constants above)."""

    name = "recaption"
    version = "2"  # answers that were cut end at a sentence
    reads = ("image", "text")
    writes = pa.schema([pa.field("prompt", pa.string()), pa.field("recaption_status", pa.string())])

    @abstractmethod
    def captions(self, images: list[np.ndarray]) -> list[Caption]:
        """Return what the model writes about each picture, uint8 (H, W, 3)."""

    def __call__(self, table: pa.Table) -> pa.Table:
        images = decode_table(table)
        captions = iter(self.captions([image for image in images if image is not None]))
        outcomes = [
            (None, None) if image is None else outcome(next(captions), text)
            for image, text in zip(images, table["text"].to_pylist(), strict=True)
        ]
        for position, field in enumerate(self.writes):
            table = table.append_column(field, pa.array([row[position] for row in outcomes], field.type))
        return table


def outcome(caption: Caption, text: str | None) -> tuple[str | None, str]:
    """Return (prompt, status) for what the model wrote; the text as found stands in for an unusable answer."""
    prompt = " ".join(_THOUGHT.sub("", caption.text).split()).strip("\"'“” ")
    if caption.status != OK:
        return text, caption.status
    if not prompt:
        return text, EMPTY
    if _REFUSAL.match(prompt):
        return text, REFUSED
    return (without_loose_end(prompt) if caption.is_cut else prompt), OK


def without_loose_end(prompt: str) -> str:
    """Return a prompt that was stopped in mid-sentence up to its last sentence, else its last pause, else word."""
    for whole, least in ((_LAST_SENTENCE, 0.0), (_LAST_PAUSE, 0.5), (_ALL_BUT_A_WORD, 0.0)):
        found = whole.match(prompt)
        if found and len(found[0]) >= least * len(prompt):
            return found[0]
    return prompt
