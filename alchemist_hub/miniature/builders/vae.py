"""The miniature's autoencoder: an `AutoencoderKL` whose encoder starts as an exact patch PCA.

Shapes: images X are (B,3,64,64) in [-1,1], latents Z are (B,C,8,8).

The best linear code of 8x8 patches is known in closed form, so the encoder is not learned from nothing: its
convolutions gather each patch and project it, its residual branches start at zero, and its one group norm and its one
activation are held in their linear range. Latent channels are scaled by the fourth root of their variance: coarse
channels stay stronger than fine ones, as in pixels, and on average they have variance one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional

from alchemist_hub.miniature.builders.fit import Fitting, fit

CHANNELS = 20  # latent channels
PATCH = 8
WIDTHS = (24, 48, 96, 96)
GROUPS = 8
POSTERIOR_STD = 0.05  # of every latent
FORGIVEN_STD = 0.5  # the decoder learns to forgive errors of the latents up to this size: a denoiser makes them


@dataclass(frozen=True)
class PatchCode:
    """A linear code of patches: `latent = (patch - mean) @ basis`, patch in (row, column, colour) order."""

    mean: np.ndarray  # (192,)
    basis: np.ndarray  # (192, C)


def fit_patch_code(images: np.ndarray, *, channels: int = CHANNELS) -> PatchCode:
    """Fit the code to uint8 images (N,64,64,3): principal directions, scaled as the module says."""
    patches = to_patches(images.astype(np.float32) / 127.5 - 1).reshape(-1, 3 * PATCH * PATCH)
    mean = patches.mean(0)
    variance, directions = np.linalg.eigh(np.cov((patches - mean).T))
    variance, directions = variance[::-1][:channels], directions[:, ::-1][:, :channels]
    scale = variance**-0.25
    scale /= np.sqrt((variance * scale**2).mean())
    return PatchCode(mean=mean.astype(np.float32), basis=(directions * scale).astype(np.float32))


def to_patches(images: np.ndarray) -> np.ndarray:
    """(N,H,W,3) -> (N,H/8,W/8,192)."""
    count, height, width, _ = images.shape
    grid = images.reshape(count, height // PATCH, PATCH, width // PATCH, PATCH, 3)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(count, height // PATCH, width // PATCH, -1)


def encode_patches(code: PatchCode, images: np.ndarray) -> torch.Tensor:
    """Return the latents (N,C,8,8) of uint8 images: what the encoder computes, as one matrix product."""
    latents = (to_patches(images.astype(np.float32) / 127.5 - 1) - code.mean) @ code.basis
    return torch.from_numpy(latents.transpose(0, 3, 1, 2).copy())


def new_vae(code: PatchCode) -> AutoencoderKL:
    """Return an autoencoder whose encoder is `code` and whose decoder is untrained."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=code.basis.shape[1],
        norm_num_groups=GROUPS,
        sample_size=64,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )
    with torch.no_grad():
        _set_encoder(vae, code)
    return vae


def _set_encoder(vae: AutoencoderKL, code: PatchCode) -> None:
    encoder = vae.encoder
    for block in (*encoder.down_blocks, encoder.mid_block):
        for resnet in block.resnets:
            _only_shortcut(resnet)
    _copy_channels(encoder.conv_in, count=3)
    _gather_2x2(encoder.down_blocks[0].downsamplers[0].conv, channels=3)
    _gather_2x2(encoder.down_blocks[1].downsamplers[0].conv, channels=12)
    slots, constants, empty = _slots(code.basis.shape[1])
    _project(encoder.down_blocks[2].downsamplers[0].conv, code, slots, constants)
    _linear_head(vae, slots, empty)


def _only_shortcut(resnet: nn.Module) -> None:
    nn.init.zeros_(resnet.conv2.weight)
    nn.init.zeros_(resnet.conv2.bias)
    if resnet.conv_shortcut is not None:
        _copy_channels(resnet.conv_shortcut, count=resnet.conv_shortcut.in_channels)


def _copy_channels(conv: nn.Conv2d, *, count: int) -> None:
    conv.weight.zero_()
    conv.bias.zero_()
    middle = conv.kernel_size[0] // 2
    for channel in range(count):
        conv.weight[channel, channel, middle, middle] = 1


def _gather_2x2(conv: nn.Conv2d, *, channels: int) -> None:
    """Make a stride-2 convolution collect the 2x2 pixels of each channel: output 4*channel + 2*row + column."""
    conv.weight.zero_()
    conv.bias.zero_()
    for channel in range(channels):
        for tap in range(4):
            conv.weight[4 * channel + tap, channel, tap // 2, tap % 2] = 1


SIGNAL = 1e-3  # size of a latent beside the constants that hold the group norm still
LIFT, GAIN = 40.0, 2.0  # the activation sees LIFT plus or minus ten times GAIN at most: linear to one part in 10^7


def _slots(channels: int) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Return, per latent, its channel; per group, its two constant channels; per latent, an empty channel beside it."""
    size, used = WIDTHS[-1] // GROUPS, -(-channels // GROUPS)
    slots = [size * (k // used) + k % used for k in range(channels)]
    constants = [(size * g + used, size * g + used + 1) for g in range(GROUPS)]
    return slots, constants, [size * (k // used) + used + 2 for k in range(channels)]


def _project(conv: nn.Conv2d, code: PatchCode, slots: list[int], constants: list[tuple[int, int]]) -> None:
    """Make the last stride-2 convolution project the gathered 4x4 blocks of a patch on the code."""
    conv.weight.zero_()
    conv.bias.zero_()
    basis = torch.from_numpy(code.basis).reshape(PATCH, PATCH, 3, -1)
    offset = torch.from_numpy(code.mean @ code.basis)
    for row in range(PATCH):
        for column in range(PATCH):
            inner = 2 * (row // 2 % 2) + column // 2 % 2  # tap of the second gathering
            outer = 2 * (row % 2) + column % 2  # tap of the first
            for colour in range(3):
                source = 4 * (4 * colour + outer) + inner
                conv.weight[slots, source, row // 4, column // 4] = SIGNAL * basis[row, column, colour]
    conv.bias[slots] = -SIGNAL * offset
    for plus, minus in constants:
        conv.bias[plus], conv.bias[minus] = 1.0, -1.0


def _linear_head(vae: AutoencoderKL, slots: list[int], empty: list[int]) -> None:
    """Undo group norm and activation: constants of +1 and -1 fix each group's deviation, an empty channel its mean."""
    encoder, size = vae.encoder, WIDTHS[-1] // GROUPS
    deviation = (2 / size) ** 0.5
    encoder.conv_norm_out.weight.fill_(GAIN * deviation / SIGNAL)
    encoder.conv_norm_out.bias.fill_(LIFT)
    encoder.conv_out.weight.zero_()
    encoder.conv_out.bias.zero_()
    channels = len(slots)
    for k, (slot, hole) in enumerate(zip(slots, empty, strict=True)):
        encoder.conv_out.weight[k, slot, 1, 1] = 1 / GAIN
        encoder.conv_out.weight[k, hole, 1, 1] = -1 / GAIN
    encoder.conv_out.bias[channels:] = 2 * float(np.log(POSTERIOR_STD))
    vae.quant_conv.weight.copy_(torch.eye(2 * channels)[..., None, None])
    vae.quant_conv.bias.zero_()


CROP = 32  # pixels a side of a training crop: a quarter of a picture costs a quarter, and varies more


def train_decoder(
    checkpoint_folder: Path,
    vae: AutoencoderKL,
    images: np.ndarray,
    *,
    steps: int,
    batch: int = 16,
    learning_rate: float = 2e-3,
    seed: int = 0,
) -> AutoencoderKL:
    """Train the decoder of `vae` on uint8 `images` (N,64,64,3), mean squared error; the encoder stays as it is.

    Crops first, whole pictures for the last fifth of the steps. Resumes from `checkpoint_folder`; returns `vae` with
    the averaged weights.
    """
    torch.manual_seed(seed)
    decoder = nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    decoder.to(memory_format=torch.channels_last)

    def loss_at(step: int, generator: torch.Generator) -> torch.Tensor:
        whole = step >= 0.8 * steps
        pixels = _crops(images, generator, batch // 4 if whole else batch, 64 if whole else CROP)
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mean
        errors = _forgiven(len(latents), generator) * torch.randn(latents.shape, generator=generator)
        return functional.mse_loss(vae.decode(latents + errors).sample, pixels)

    fitting = Fitting(
        title="training the decoder",
        steps=steps,
        rate=learning_rate,
        seed=seed,
        decay=0.995,
        weight_decay=0.0,
        clip=0.5,
    )
    fit(checkpoint_folder, decoder, fitting, loss_at)
    return vae.to(memory_format=torch.contiguous_format).eval()


def _forgiven(count: int, generator: torch.Generator) -> torch.Tensor:
    """Return the deviation (B,1,1,1) of each picture's latent errors: small for half of them, up to the worst."""
    many = FORGIVEN_STD * torch.rand(count, 1, 1, 1, generator=generator)
    return torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.5, POSTERIOR_STD, many)


def _crops(images: np.ndarray, generator: torch.Generator, count: int, side: int) -> torch.Tensor:
    """Return `count` random crops (B,3,side,side) in [-1,1], on the grid of patches, half of them mirrored."""
    chosen = torch.randint(len(images), (count,), generator=generator).numpy()
    row, column = (PATCH * int(torch.randint((64 - side) // PATCH + 1, (), generator=generator)) for _ in range(2))
    crops = images[chosen][:, row : row + side, column : column + side]
    if torch.rand((), generator=generator) < 0.5:
        crops = crops[:, :, ::-1]
    return torch.from_numpy(crops.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


@torch.inference_mode()
def reconstruction_psnr(vae: AutoencoderKL, images: np.ndarray) -> np.ndarray:
    """Return the peak signal-to-noise ratio (N,), in dB, of each uint8 image (N,64,64,3) encoded and decoded."""
    ratios = []
    for start in range(0, len(images), 64):
        pixels = torch.from_numpy(images[start : start + 64].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
        decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample.clamp(-1, 1)
        ratios.append(-10 * torch.log10(((decoded - pixels) ** 2).mean((1, 2, 3)) / 4 + 1e-10))
    return torch.cat(ratios).numpy()
