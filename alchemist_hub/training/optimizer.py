"""The optimisers: AdamW in 32 bits, and AdamW whose two moments take one byte each.

The update arithmetic and the 8-bit format are bitsandbytes' (blocks of 256 values that share a scale, arXiv
2110.02861). What is added here is what weights in bfloat16 need: rounding that is right on average. At a learning rate
of 1e-6 nearest rounding loses all but a few percent of the updates, since each is far below half a unit of the last
place.
"""

import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.distributed.tensor import DTensor

from alchemist_hub.errors import TrainingError
from alchemist_hub.training.draws import seeded
from alchemist_hub.training.sharding import local

Kind = Literal["adamw", "adamw8bit"]

_BLOCK = 256  # values that share a scale; fixed in bitsandbytes' kernels
_SHARDS = 16  # the number of processes up to which a shard of a parameter begins where a block begins


def new_optimizer(
    kind: Kind,
    parameters: Iterable[tuple[str, Tensor]],
    *,
    learning_rate: float,
    weight_decay: float,
    seed: int,
) -> torch.optim.Optimizer:
    """Return the optimiser of `parameters` (as `named_parameters` gives them); `seed` decides the rounding of weights.

    Raises `TrainingError` where "adamw8bit" lacks its package.
    """
    named = list(parameters)
    if kind == "adamw8bit":
        return AdamW8bit(named, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
    fused = all(weight.device.type != "mps" for _, weight in named)
    return torch.optim.AdamW([weight for _, weight in named], lr=learning_rate, weight_decay=weight_decay, fused=fused)


class AdamW8bit(torch.optim.Optimizer):
    """AdamW with moments in 8 bits; weights in bfloat16 are rounded stochastically, as (seed, name, step) says.

    Each parameter is updated as a float32 copy, one at a time, so the extra memory is that of the largest one. The
    state of a parameter is flat tensors that can be stored and put back exactly: `step`, the moments `state1` and
    `state2` (uint8, or float32 for a small parameter) and the scales of their blocks, `absmax1` and `absmax2`.
    """

    def __init__(
        self, parameters: Iterable[tuple[str, Tensor]], *, learning_rate: float, weight_decay: float, seed: int
    ) -> None:
        named = list(parameters)
        self._kernels = _kernels()
        self._maps_of: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self._names = [name for name, _ in named]
        self._seed = seed
        defaults = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": weight_decay}
        super().__init__([weight for _, weight in named], defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        (group,) = self.param_groups
        for name, weight in zip(self._names, group["params"], strict=True):
            if weight.grad is not None:
                state = self.state[weight] or self._new_state(weight)
                state["step"] += 1
                self._update(name, weight, state, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put back what `state_dict` returned, in the types it has: torch would cast the bytes to the weights' type."""
        (group,) = self.param_groups
        (saved,) = state_dict["param_groups"]
        group.update({key: value for key, value in saved.items() if key != "params"})
        for index, entry in state_dict["state"].items():
            weight = group["params"][index]
            devices = {what: "cpu" if what == "step" else weight.device for what in entry}
            self.state[weight] = {what: value.detach().to(devices[what], copy=True) for what, value in entry.items()}

    def _update(self, name: str, weight: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        target, gradient, step = local(weight), local(weight.grad), int(state["step"])
        if target.numel() == 0:  # one of several processes may hold nothing of a small parameter
            return
        value = target.float().contiguous()  # float32 weights are not copied
        self._adamw(value, gradient.float().contiguous(), {key: local(item) for key, item in state.items()}, group)
        if target.dtype == torch.bfloat16:
            shard = weight.device_mesh.get_local_rank() if isinstance(weight, DTensor) else 0
            stochastic_round_(target, value, _on(target.device, seeded(self._seed, "round", name, step, shard)))
        elif value.data_ptr() != target.data_ptr():
            target.copy_(value)

    def _adamw(self, value: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """Move the float32 `value` and the moments in `state` by one step, in place."""
        (beta1, beta2), eps, rate, decay = group["betas"], group["eps"], group["lr"], group["weight_decay"]
        step, first, second = int(state["step"]), state["state1"], state["state2"]
        if first.dtype == torch.float32:
            self._kernels.optimizer_update_32bit(
                "adam", gradient, value, first, beta1, eps, step, rate, second, beta2, weight_decay=decay
            )
            return
        maps, scales = self._maps(value.device), (state["absmax1"], state["absmax2"])
        unused = (0.0, 0.0)  # a third beta and alpha, of other optimisers
        self._kernels.optimizer_update_8bit_blockwise(
            "adam", gradient, value, first, second, beta1, beta2, *unused, eps, step, rate, *maps, *scales, decay
        )

    def _maps(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The values that the codes of the two moments stand for."""
        if device not in self._maps_of:
            maps = (self._kernels.create_dynamic_map(signed=signed).to(device) for signed in (True, False))
            self._maps_of[device] = tuple(maps)
        return self._maps_of[device]

    def _new_state(self, weight: Tensor) -> dict[str, Tensor]:
        eight = in_blocks(weight.shape)
        moments = {"dtype": torch.uint8 if eight else torch.float32, "memory_format": torch.contiguous_format}
        state = {"step": torch.zeros(())}
        state |= {what: torch.zeros_like(weight, **moments) for what in ("state1", "state2")}
        if eight:
            state |= {what: _zero_scales(weight) for what in ("absmax1", "absmax2")}
        self.state[weight] = state
        return state


def in_blocks(shape: torch.Size) -> bool:
    """Return whether the moments of a parameter of this shape are kept in 8 bits.

    They are where no block would cross from one process into another if up to 16 shared the rows: the state is then
    the same however many processes hold it. Of each of the five models that is 99.9% of the parameters.
    """
    return len(shape) > 0 and shape[0] % _SHARDS == 0 and math.prod(shape) % (_SHARDS * _BLOCK) == 0


@torch.no_grad()
def stochastic_round_(target: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Write float32 `value` into bfloat16 `target`, up or down with the probabilities that make the mean exact.

    A bfloat16 is the upper half of a float32, so 16 random bits added to the lower half carry into the upper one just
    that often; what bfloat16 can represent is not changed. Both are on the device of `generator` and of one shape.
    """
    noise = torch.randint(0, 2**16, value.shape, dtype=torch.int32, device=value.device, generator=generator)
    bits = noise.add_(value.view(torch.int32)).bitwise_and_(-(2**16))
    return target.copy_(bits.view(torch.float32))


def _zero_scales(weight: Tensor) -> Tensor:
    scales = torch.zeros(local(weight).numel() // _BLOCK, device=weight.device)
    if not isinstance(weight, DTensor):
        return scales
    if _SHARDS % weight.device_mesh.size():
        raise TrainingError(f"{weight.device_mesh.size()} processes; adamw8bit can share a model among 2, 4, 8 or 16")
    return DTensor.from_local(scales, weight.device_mesh, weight.placements, run_check=False)


def _on(device: torch.device, generator: Generator) -> Generator:
    """A generator on `device` that is seeded as `generator` is: random bits for billions of weights are drawn there."""
    if generator.device == device:
        return generator
    return Generator(device).manual_seed(generator.initial_seed())


def _kernels() -> ModuleType:
    try:
        import bitsandbytes.functional
    except ImportError as error:
        raise TrainingError(
            "the optimiser adamw8bit needs bitsandbytes, which is not installed; run: pip install 'alchemist-hub[gpu]'"
        ) from error
    return bitsandbytes.functional
