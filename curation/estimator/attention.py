"""How strongly each prompt token is attended to, layer by layer: norms of attention from picture to text (paper, 3).

Two kinds of layers hold it. In the cross-attention of a UNet the text alone is attended to. In the joint attention of
an SD3 transformer picture and text share one softmax; its picture-to-text block is taken.

Shapes: B pictures, H heads, Q positions of the picture, S of the text, T = Q + S, D head width, K recorded tokens,
L layers, N the two norms of `NORMS`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from diffusers.models.attention_processor import Attention
from torch.nn.functional import scaled_dot_product_attention

NORMS = ("probability", "value")  # of the softmax map; of the map times the token's value vector


class StopPass(Exception):
    """Ends a forward pass early: every wanted layer has been recorded. Control flow, never an error."""


class Recorder:
    """What the wanted layers left behind in one forward pass."""

    def __init__(self, tokens: Sequence[int], layers: Sequence[str], *, stop: bool) -> None:
        self.tokens_K = torch.as_tensor(tokens, dtype=torch.long)
        self.layers = tuple(layers)
        self.stop = stop
        self._norms: dict[str, torch.Tensor] = {}

    def record(self, layer: str, probability_BHQK: torch.Tensor, value_BHKD: torch.Tensor) -> None:
        """Keep the norms of one layer. Raises StopPass if it was the last one wanted and the rest may be skipped."""
        self._norms[layer] = token_norms(probability_BHQK, value_BHKD)
        if self.stop and len(self._norms) == len(self.layers):
            raise StopPass

    def take(self) -> torch.Tensor:
        """Return norms_BNLK of the pass that just ran and forget them."""
        norms_BNLK = torch.stack([self._norms[layer] for layer in self.layers], dim=2)
        self._norms = {}
        return norms_BNLK


def token_norms(probability_BHQK: torch.Tensor, value_BHKD: torch.Tensor) -> torch.Tensor:
    """Return norms_BNK: each token's L2 norm over heads and the picture, plain and weighted by its value."""
    energy_BHK = probability_BHQK.float().square().sum(dim=2)
    weight_BHK = value_BHKD.float().square().sum(dim=3)
    return torch.stack([energy_BHK.sum(1).sqrt(), (energy_BHK * weight_BHK).sum(1).sqrt()], dim=1)


class PlaceRecorder(Recorder):
    """Keeps where the norms of one pass come from, too: a value for each position of the picture."""

    def __init__(self, tokens: Sequence[int], layers: Sequence[str], *, stop: bool) -> None:
        super().__init__(tokens, layers, stop=stop)
        self.places: dict[str, torch.Tensor] = {}  # layer -> places_BNKQ

    def record(self, layer: str, probability_BHQK: torch.Tensor, value_BHKD: torch.Tensor) -> None:
        self.places[layer] = token_places(probability_BHQK, value_BHKD)
        super().record(layer, probability_BHQK, value_BHKD)


def token_places(probability_BHQK: torch.Tensor, value_BHKD: torch.Tensor) -> torch.Tensor:
    """Return places_BNKQ, whose mean over the Q positions of the picture is `token_norms`.

    A norm is the root of a sum of squares over heads and positions; a position has Q times its share in that sum.
    """
    energy_BHKQ = probability_BHQK.float().square().transpose(2, 3)
    weight_BHK1 = value_BHKD.float().square().sum(dim=3)[..., None]
    energy_BNKQ = torch.stack([energy_BHKQ.sum(1), (energy_BHKQ * weight_BHK1).sum(1)], dim=1)
    norm_BNK1 = energy_BNKQ.sum(-1, keepdim=True).sqrt()
    return energy_BNKQ * energy_BNKQ.shape[-1] / norm_BNK1.clamp_min(1e-12)


class CrossProcessor:
    """Cross-attention for one prompt shared by the batch: its keys and values are computed once, not B times."""

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
        query_BHQD, key_1HSD, value_1HSD = (
            _heads(attn, projection, states)
            for projection, states in ((attn.to_q, hidden_states), (attn.to_k, text_1SC), (attn.to_v, text_1SC))
        )
        logits_BHQS = query_BHQD.float() @ key_1HSD.float().transpose(-1, -2) * attn.scale
        probability_BHQS = logits_BHQS.softmax(dim=-1)
        if self.layer in self.recorder.layers:
            tokens_K = self.recorder.tokens_K.to(hidden_states.device)
            self.recorder.record(self.layer, probability_BHQS[..., tokens_K], value_1HSD[:, :, tokens_K])
        mixed = (probability_BHQS.to(value_1HSD.dtype) @ value_1HSD).transpose(1, 2).flatten(2)
        out = attn.to_out[1](attn.to_out[0](mixed))
        return (out + hidden_states if attn.residual_connection else out) / attn.rescale_output_factor


class JointProcessor:
    """Joint attention: what the picture needs for its norms comes first, all else only if the pass goes on."""

    def __init__(self, layer: str, recorder: Recorder) -> None:
        self.layer = layer
        self.recorder = recorder

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what diffusers' own processor returns for the picture (B, Q, C) and the text (B, S, C)."""
        positions, length = hidden_states.shape[1], encoder_hidden_states.shape[1]
        query_BHQD = _heads(attn, attn.to_q, hidden_states, attn.norm_q)
        text_key_BHSD = _heads(attn, attn.add_k_proj, encoder_hidden_states, attn.norm_added_k)
        text_value_BHSD = _heads(attn, attn.add_v_proj, encoder_hidden_states)
        key_BHTD = torch.cat([_heads(attn, attn.to_k, hidden_states, attn.norm_k), text_key_BHSD], dim=2)
        tokens_K = self.recorder.tokens_K.to(hidden_states.device)
        self.recorder.record(
            self.layer, probabilities(query_BHQD, key_BHTD, positions + tokens_K), text_value_BHSD[:, :, tokens_K]
        )
        text_query_BHSD = _heads(attn, attn.add_q_proj, encoder_hidden_states, attn.norm_added_q)
        mixed_BHTD = scaled_dot_product_attention(
            torch.cat([query_BHQD, text_query_BHSD], dim=2),
            key_BHTD,
            torch.cat([_heads(attn, attn.to_v, hidden_states), text_value_BHSD], dim=2),
        )
        picture, text = mixed_BHTD.transpose(1, 2).flatten(2).split([positions, length], dim=1)
        return attn.to_out[1](attn.to_out[0](picture)), text if attn.context_pre_only else attn.to_add_out(text)


def probabilities(query_BHQD: torch.Tensor, key_BHTD: torch.Tensor, columns_K: torch.Tensor) -> torch.Tensor:
    """Return probability_BHQK: the columns `columns_K` of the softmax map over T keys, which is never held whole.

    Attention mixes values by their probabilities, so unit vectors in the place of values bring out the probabilities
    themselves, and the fused kernels do it in pieces. D columns fit into one call.
    """
    width = query_BHQD.shape[-1]
    found = []
    for group in columns_K.split(width):
        unit_TD = key_BHTD.new_zeros(key_BHTD.shape[2], width)
        unit_TD[group, torch.arange(len(group), device=group.device)] = 1
        mixed_BHQD = scaled_dot_product_attention(query_BHQD, key_BHTD, unit_TD.expand_as(key_BHTD))
        found.append(mixed_BHQD[..., : len(group)])
    return torch.cat(found, dim=-1)


def _heads(
    attn: Attention, projection: torch.nn.Module, states: torch.Tensor, norm: torch.nn.Module | None = None
) -> torch.Tensor:
    """Return the projection of `states` (B, positions, C) by heads (B, H, positions, D), normalised."""
    split = projection(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
    return split if norm is None else norm(split)


def text_attention(model: torch.nn.Module) -> dict[str, Attention]:
    """Return the layers in which the picture attends to the text, by module name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Attention) and (module.is_cross_attention or _is_joint(module))
    }


def _is_joint(module: Attention) -> bool:
    return module.added_kv_proj_dim is not None


@contextmanager
def recording(
    model: torch.nn.Module,
    tokens: Sequence[int],
    layers: Sequence[str] | None = None,
    *,
    stop: bool = False,
    kind: type[Recorder] = Recorder,
) -> Iterator[Recorder]:
    """Record `tokens` at `layers` (default: all) in every pass inside the block; the processors are put back after.

    With `stop` a pass ends in StopPass once the deepest wanted layer is recorded. Every cross-attention layer then
    expects the same text for the whole batch. `kind`: what is kept of the probabilities.
    """
    modules = text_attention(model)
    recorder = kind(tokens, tuple(modules) if layers is None else layers, stop=stop)
    before = {name: module.processor for name, module in modules.items()}
    for name, module in modules.items():
        if not _is_joint(module):
            module.set_processor(CrossProcessor(name, recorder))
        elif name in recorder.layers:
            module.set_processor(JointProcessor(name, recorder))
    try:
        yield recorder
    finally:
        for name, module in modules.items():
            module.set_processor(before[name])
