"""Recaption: the text a picture should have been published with, written by an image-to-text model.

Three kinds of model are driven, told apart by the files they ship: a chat model (its processor has a chat template)
is asked `instruction`; a captioning model with a processor (BLIP, GIT) is shown the picture; an encoder-decoder with
an image processor and a tokenizer likewise.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    ProcessorMixin,
)

from curation.stages import weights
from curation.stages.base import Resources
from curation.stages.captions import INSTRUCTION, Caption, Captioner

UNUSED = ("encoder.pooler.",)  # an encoder-decoder attends to every patch, and many are saved without the pooler


class Recaption(Captioner):
    """A captioner on this machine."""

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

    def captions(self, images: list[np.ndarray]) -> list[Caption]:
        if not images:
            return []
        inputs = self._inputs(images).to(self.network.device)
        with torch.inference_mode():
            tokens = self.network.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False, num_beams=1)
        if "input_ids" in inputs and not self.network.config.is_encoder_decoder:
            tokens = tokens[:, inputs["input_ids"].shape[1] :]  # what follows the question
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        ends = set(self._tokenizer.all_special_ids)  # of a finished answer: its end, or what fills the batch up
        return [
            Caption(text=text, is_cut=last not in ends)
            for text, last in zip(texts, tokens[:, -1].tolist(), strict=True)
        ]

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
