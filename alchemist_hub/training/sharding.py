"""Several processes on one model: the denoiser's weights, their gradients, moments and averages are split among them.

Every process draws the same batch from (seed, step) and takes its own rows of it; gradients are averaged over the
processes, so a step is the step that one process would have made. What is stored is always whole and named as in one
process: a snapshot of two is resumed by one and the other way round.

The splitting is torch's `fully_shard` (FSDP2), along the first axis of each parameter. accelerate connects the
processes and says which is which; its own wrapping of a model is not used, since on CPUs it replicates the model and
does not split it. Each function here does the plain thing when there is one process.
"""

import os
from collections.abc import Mapping
from datetime import timedelta

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from diffusers.models.attention import BasicTransformerBlock, JointTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

# What is gathered at once: the blocks that hold nearly all weights of a UNet and of an SD3 transformer.
_BLOCKS = (BasicTransformerBlock, ResnetBlock2D, JointTransformerBlock)


def new_accelerator() -> Accelerator:
    """Return what knows this process's device and place among the processes that torchrun or accelerate started."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerator(
        cpu=launched and not torch.cuda.is_available(),  # else accelerate leaves processes on CPUs unconnected
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],  # the others wait while one encodes
    )


def shard(model: nn.Module, accelerator: Accelerator) -> None:
    """Split the parameters of `model` among the processes, in place; they keep their names.

    To be called when the model is on its device and before its optimiser is made. Gradients are summed in float32.
    """
    if accelerator.num_processes == 1:
        return
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    precision = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for block in [*(module for module in model.modules() if isinstance(module, _BLOCKS)), model]:
        fully_shard(block, mesh=mesh, mp_policy=precision)


def split_again(model: nn.Module) -> None:
    """Give up the whole weights that a forward pass without a backward one leaves behind: they may be out of date."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def clip(model: nn.Module, max_norm: float) -> float:
    """Scale the gradients of `model` down to a norm of `max_norm`; return the norm they had, over all processes."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def whole(tensors: Mapping[str, Tensor], accelerator: Accelerator) -> dict[str, Tensor]:
    """Return `tensors` unsplit and on the CPU in the main process, and none in the others; all have to call it."""
    gathered = {}
    for name, tensor in tensors.items():  # one at a time: only the main process can hold them all
        if isinstance(tensor, DTensor):
            tensor = tensor.detach().to(accelerator.device).full_tensor()
        if accelerator.is_main_process:
            gathered[name] = tensor.detach().cpu()
    return gathered


def parts(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole `tensors` as this process holds them: the inverse of `whole`.

    `tensors` are named as `weights` are, or as "weight/what" for the state of an optimiser, and are split like them.
    Every process reads the same tensors, from a folder they share; nothing is sent.
    """
    return {name: _part(tensor, weights[name.split("/")[0]]) for name, tensor in tensors.items()}


@torch.no_grad()
def load(weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Write whole `tensors` into `weights`, of which this process may hold a part."""
    for name, weight in weights.items():
        local(weight).copy_(local(_part(tensors[name], weight)))


def local(tensor: Tensor) -> Tensor:
    """Return the part of `tensor` that this process holds, sharing its memory: all of it unless it is split."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _part(tensor: Tensor, weight: Tensor) -> Tensor:
    if not isinstance(weight, DTensor) or tensor.ndim == 0:  # a step count is everyone's
        return tensor
    tensor = tensor.to(weight.device)
    return distribute_tensor(tensor, weight.device_mesh, weight.placements, src_data_rank=None)
