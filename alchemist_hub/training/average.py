"""The exponential moving average of the weights, which becomes the tuned model: on the device or in host memory."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from alchemist_hub.training import sharding

Where = Literal["device", "host"]


class Average:
    """The running mean of named weights, in float32 whatever they are, split among processes as they are.

    On the "device" it lies beside the weights; on the "host" it costs the device nothing: the weights pass through one
    pinned buffer, one parameter at a time.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, where: Where) -> None:
        target = {} if where == "device" else {"device": "cpu"}
        self._means = {
            name: weight.detach().to(dtype=torch.float32, copy=True, **target) for name, weight in weights.items()
        }
        self._buffers: dict[torch.dtype, Tensor] = {}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], decay: float) -> None:
        """Move the mean towards `weights`: mean = decay mean + (1 - decay) weights."""
        for name, mean in self._means.items():
            mean, weight = sharding.local(mean), sharding.local(weights[name])
            near = weight if weight.device == mean.device else self._fetched(weight)
            mean.lerp_(near.float(), 1 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """Return the mean itself, not a copy, named as the weights are."""
        return self._means

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from whole `tensors`."""
        sharding.load(self._means, tensors)

    def _fetched(self, weight: Tensor) -> Tensor:
        """A copy of `weight` in the host's buffer, good until the next one; pinned, since only then is it fast."""
        buffer = self._buffers.get(weight.dtype)
        if buffer is None or buffer.numel() < weight.numel():
            buffer = torch.empty(weight.numel(), dtype=weight.dtype, pin_memory=weight.is_cuda)
            self._buffers[weight.dtype] = buffer
        return buffer[: weight.numel()].view(weight.shape).copy_(weight)  # blocking: it is read at once
