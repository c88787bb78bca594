"""What one forward and backward pass keeps in memory, measured on a denoiser that has no memory.

The real modules run on the meta device, where tensors have shapes and no contents, and every tensor they make is
counted from its making to its last use: what is saved for backward, what is recomputed, what only passes through.
Two things of a CUDA device that the meta device lacks are put in their place: attention that keeps no map, and
autocast. Not counted, because no tensor shows it: kernels' workspace and what the allocator cannot use.
"""

import weakref
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ModelMixin, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.checkpoint import checkpoint

from alchemist_hub.errors import TrainingError
from alchemist_hub.training import objective

Attention = Literal["sdpa", "xformers", "plain"]

# What autocast does on CUDA, of the functions that the denoisers call.
_IN_BFLOAT16 = {
    F.conv2d, F.linear, F.scaled_dot_product_attention, torch.baddbmm, torch.bmm, torch.matmul, Tensor.matmul,
}  # fmt: skip
_IN_FLOAT32 = {F.group_norm, F.layer_norm, F.softmax, Tensor.pow, Tensor.softmax, torch.pow, torch.rsqrt, torch.softmax}


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes beyond weights, optimiser and average at the fullest moment, with and without gradients of weights."""

    alone: int
    with_gradients: int  # those that backward had made by then


def measure(
    denoiser: ModelMixin, inputs: Mapping[str, Any], *, attention: Attention, autocast: bool, checkpointing: bool
) -> Activations:
    """Return what one forward and backward pass of `denoiser`, on the meta device, keeps.

    "xformers" keeps what "sdpa" keeps: both save queries, keys, values, output and one number a row.
    """
    _prepare(denoiser, attention=attention, autocast=autocast, checkpointing=checkpointing)
    counter = _Counter([*denoiser.parameters(), *denoiser.buffers()])
    hooks = [weight.register_post_accumulate_grad_hook(counter.claim) for weight in denoiser.parameters()]
    try:
        with counter:
            with _Cuda(autocast=autocast, reuse=True):
                output_BChw = denoiser(**inputs, return_dict=False)[0]
            target_BChw = torch.empty_like(output_BChw, dtype=torch.float32)
            objective.weighted_mse(output_BChw, target_BChw, target_BChw.new_empty(len(target_BChw))).sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
        denoiser.zero_grad()
    return Activations(alone=counter.peak, with_gradients=counter.peak_with_gradients)


def _prepare(denoiser: ModelMixin, *, attention: Attention, autocast: bool, checkpointing: bool) -> None:
    denoiser.train()
    if isinstance(denoiser, UNet2DConditionModel):
        denoiser.set_attn_processor(AttnProcessor() if attention == "plain" else AttnProcessor2_0())
    elif attention == "plain":
        raise TrainingError(f"a {type(denoiser).__name__} has no plain attention; choose sdpa")
    denoiser.disable_gradient_checkpointing()
    if checkpointing:
        again = partial(_Cuda, autocast=autocast, reuse=False)
        denoiser.enable_gradient_checkpointing(
            partial(checkpoint, use_reentrant=False, context_fn=lambda: (nullcontext(), again()))
        )


class _Counter(TorchDispatchMode):
    """Counts the bytes of living tensors, but for those given; gradients of weights apart from the rest."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = self.peak_with_gradients = 0
        self._now = self._gradients = 0
        self._alive: dict[int, weakref.ref] = {}
        for tensor in known:
            self._alive[id(tensor.untyped_storage())] = weakref.ref(tensor.untyped_storage())

    def claim(self, weight: Tensor) -> None:
        """Count the gradient of `weight`, just made, as a gradient from now on."""
        size = weight.grad.untyped_storage().nbytes()
        self._gradients += size
        self._now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in self._alive:
                self._add(tensor.untyped_storage())
        self.peak = max(self.peak, self._now)
        self.peak_with_gradients = max(self.peak_with_gradients, self._now + self._gradients)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()

        def gone(_: weakref.ref) -> None:
            self._now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, gone)
        self._now += size


class _Cuda(TorchFunctionMode):
    """Makes the meta device do what CUDA does: memory-efficient attention and, if asked, autocast to bfloat16.

    `reuse` keeps the bfloat16 copy of a weight as long as the mode lasts, as autocast does during a forward pass.
    """

    def __init__(self, *, autocast: bool, reuse: bool) -> None:
        super().__init__()
        self._autocast = autocast
        self._copies: dict[Tensor, Tensor] | None = {} if reuse else None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self._autocast and func in _IN_BFLOAT16:
            args, kwargs = tree_map_only(Tensor, self._lowered, (args, kwargs))
        elif self._autocast and func in _IN_FLOAT32:
            args, kwargs = tree_map_only(Tensor, Tensor.float, (args, kwargs))
        if func is F.scaled_dot_product_attention and kwargs.get("attn_mask") is None:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args[:3])[0]
        return func(*args, **kwargs)

    def _lowered(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.float32:
            return tensor
        if self._copies is None or not (tensor.is_leaf and tensor.requires_grad):
            return tensor.bfloat16()
        if tensor not in self._copies:
            self._copies[tensor] = tensor.bfloat16()
        return self._copies[tensor]
