"""Cross-attention activation norms: how strongly each prompt token is attended to, layer by layer (paper, section 3).

Shapes: B pictures, H heads, Q spatial positions, S text positions, D head width, K recorded tokens, L layers,
N the two norms of `NORMS`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers.models.attention_processor import Attention

NORMS = ("probability", "value")  # of the softmax map; of the map times the token's value vector


class StopPass(Exception):
    """Ends a forward pass early: every wanted layer has been recorded. Control flow, never an error."""


class Recorder:
    """What the cross-attention layers left behind in one forward pass."""

    def __init__(self, tokens: Sequence[int], layers: Sequence[str], *, stop: bool) -> None:
        self.tokens = torch.as_tensor(tokens, dtype=torch.long)
        self.layers = tuple(layers)
        self.stop = stop
        self._norms: dict[str, torch.Tensor] = {}

    def record(self, layer: str, probability_BHQS: torch.Tensor, value_BHSD: torch.Tensor) -> None:
        """Keep the norms of one layer. Raises StopPass if it was the last one wanted and the rest may be skipped."""
        if layer not in self.layers:
            return
        self._norms[layer] = token_norms(probability_BHQS, value_BHSD, self.tokens.to(probability_BHQS.device))
        if self.stop and len(self._norms) == len(self.layers):
            raise StopPass

    def take(self) -> torch.Tensor:
        """Return norms_BNLK of the pass that just ran and forget them."""
        norms_BNLK = torch.stack([self._norms[layer] for layer in self.layers], dim=2)
        self._norms = {}
        return norms_BNLK


def token_norms(probability_BHQS: torch.Tensor, value_BHSD: torch.Tensor, tokens_K: torch.Tensor) -> torch.Tensor:
    """Return norms_BNK: each token's L2 norm over heads and spatial positions, plain and weighted by its value."""
    energy_BHK = probability_BHQS.float().square().sum(dim=2)[..., tokens_K]
    weight_BHK = value_BHSD.float().square().sum(dim=3)[..., tokens_K]
    return torch.stack([energy_BHK.sum(1).sqrt(), (energy_BHK * weight_BHK).sum(1).sqrt()], dim=1)


class RecordingProcessor:
    """An attention processor for one prompt shared by the batch: its keys and values are computed once, not B times."""

    def __init__(self, layer: str, recorder: Recorder) -> None:
        self.layer = layer
        self.recorder = recorder

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return what diffusers' own processor returns for `hidden_states` (B, Q, C) and one text for all of them."""
        text_1SC = encoder_hidden_states[:1]
        if attn.norm_cross:
            text_1SC = attn.norm_encoder_hidden_states(text_1SC)
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projected in (attn.to_q(hidden_states), attn.to_k(text_1SC), attn.to_v(text_1SC))
        )
        probability_BHQS = (query @ key.transpose(-1, -2) * attn.scale).softmax(dim=-1)
        self.recorder.record(self.layer, probability_BHQS, value)
        mixed = (probability_BHQS @ value).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](mixed))
        return (out + hidden_states if attn.residual_connection else out) / attn.rescale_output_factor


def cross_attention(model: torch.nn.Module) -> dict[str, Attention]:
    """Return the layers in which pictures attend to text, by module name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Attention) and module.is_cross_attention
    }


@contextmanager
def recording(
    model: torch.nn.Module, tokens: Sequence[int], layers: Sequence[str] | None = None, *, stop: bool = False
) -> Iterator[Recorder]:
    """Record `tokens` at `layers` (default: all) in every pass inside the block; the processors are put back after.

    With `stop` a pass ends in StopPass once the deepest wanted layer is recorded. Every cross-attention layer then
    expects the same text for the whole batch.
    """
    modules = cross_attention(model)
    recorder = Recorder(tokens, tuple(modules) if layers is None else layers, stop=stop)
    before = {name: module.processor for name, module in modules.items()}
    for name, module in modules.items():
        module.set_processor(RecordingProcessor(name, recorder))
    try:
        yield recorder
    finally:
        for name, module in modules.items():
            module.set_processor(before[name])
