"""Recaption: the text a picture should have been published with, written by an image-to-text model.

Three kinds of model are driven, told apart by the files they ship: a chat model (its processor has a chat template)
is asked `instruction`; a captioning model with a processor (BLIP, GIT) is shown the picture; an encoder-decoder with
an image processor and a tokenizer likewise.
"""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    ProcessorMixin,
)

from curation.images import decode_table
from curation.records import OK
from curation.stages import weights
from curation.stages.base import Resources, Stage

EMPTY = "empty"
REFUSED = "refused"
INSTRUCTION = (
    "Write the prompt that a person would type to get this picture from a text-to-image model: "
    "one moderately descriptive sentence, plain words, no introduction."
)
UNUSED = ("encoder.pooler.",)  # an encoder-decoder attends to every patch, and many are saved without the pooler
_REFUSAL = re.compile(
    r"^(i['’]?m (sorry|unable|not able)|i am (sorry|unable|not able)|sorry\b|i (can['’]?t|cannot|can not|won['’]?t)\b"
    r"|as an ai\b|unfortunately,? i\b|i apologi[sz]e\b)",
    re.IGNORECASE,
)


class Recaption(Stage):
    """Writes `prompt`, and `recaption_status`: "ok", or "empty" or "refused", where the prompt is the text as found."""

    name = "recaption"
    reads = ("image", "text")
    writes = pa.schema([pa.field("prompt", pa.string()), pa.field("recaption_status", pa.string())])
    resources = Resources(batch=16)

    def __init__(self, model: str | Path, *, instruction: str = INSTRUCTION, max_tokens: int = 77) -> None:
        """`model`: a `from_pretrained` folder or a Hub id; `max_tokens`: longest prompt, in the model's own tokens."""
        self.model = str(model)
        self.instruction = instruction
        self.max_tokens = max_tokens

    def config(self) -> dict[str, Any]:
        return {"model": self._identity, "instruction": self.instruction, "max_tokens": self.max_tokens}

    @cached_property
    def _identity(self) -> str:
        return weights.identity(self.model)

    def open(self) -> None:
        """Load processor, tokenizer and weights. Raises RecipeError if they cannot be read."""
        self.network = weights.load(AutoModelForImageTextToText, self.model, unused=UNUSED)
        with weights.reading(self.model):
            processor = AutoProcessor.from_pretrained(self.model)
            whole = isinstance(processor, ProcessorMixin)
            self._processor = processor if whole else AutoImageProcessor.from_pretrained(self.model)
            self._tokenizer = processor.tokenizer if whole else AutoTokenizer.from_pretrained(self.model)
        self._tokenizer.padding_side = "left"  # generation continues at the end of every row

    def __call__(self, table: pa.Table) -> pa.Table:
        images = decode_table(table)
        captions = iter(self._captions([image for image in images if image is not None]))
        outcomes = [
            (None, None) if image is None else outcome(next(captions), text)
            for image, text in zip(images, table["text"].to_pylist(), strict=True)
        ]
        for position, field in enumerate(self.writes):
            table = table.append_column(field, pa.array([row[position] for row in outcomes], field.type))
        return table

    def _captions(self, images: list[np.ndarray]) -> list[str]:
        if not images:
            return []
        inputs = self._inputs(images).to(self.network.device)
        with torch.inference_mode():
            tokens = self.network.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False, num_beams=1)
        if "input_ids" in inputs and not self.network.config.is_encoder_decoder:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]  # what follows the question
        return self._tokenizer.batch_decode(tokens, skip_special_tokens=True)

    def _inputs(self, images: list[np.ndarray]) -> Any:
        if getattr(self._processor, "chat_template", None) is None:
            return self._processor(images=images, input_data_format="channels_last", return_tensors="pt")
        question = [{"type": "image"}, {"type": "text", "text": self.instruction}]
        prompt = self._processor.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        return self._processor(
            images=[[image] for image in images],
            text=[prompt] * len(images),
            padding=True,
            return_tensors="pt",
        )


def outcome(caption: str, text: str | None) -> tuple[str | None, str]:
    """Return (prompt, status) for what the model wrote; the text as found stands in for an unusable answer."""
    prompt = " ".join(caption.split()).strip("\"'“” ")
    if not prompt:
        return text, EMPTY
    if _REFUSAL.match(prompt):
        return text, REFUSED
    return prompt, OK
