"""How a loaded pipeline is laid out on a device: attention, compilation, memory, precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    attention_backend,
    dispatch_attention_fn,
)

from mfsynth.errors import MfsynthError
from mfsynth.models.acceleration.compilation import compile_blocks, compiles
from mfsynth.models.acceleration.offloading import offload_groups
from mfsynth.models.acceleration.quantization import check_fp8, fp8_config, quantize_body
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

if TYPE_CHECKING:
    from mfsynth.models.pipeline import ModalityForcingPipeline


@dataclass(frozen=True, slots=True)
class Acceleration:
    """What makes a model faster or smaller.

    Attributes:
        attention: Name of a diffusers attention backend, such as `native`, `flash`, `_flash_3` or
            `sage`; None leaves it as it is.
        compile: Whether blocks are compiled; the first batch of every shape then takes longer.
            `auto`: on a GPU.
        offload: `group` keeps the transformer in main memory and brings over block by block.
        quantization: `fp8` for 8-bit floats in the transformer's body; changes samples a little.
            Only fast with `compile`.
    """

    attention: str | None = None
    compile: bool | Literal["auto"] = False
    offload: Literal["none", "group"] = "none"
    quantization: Literal["none", "fp8"] = "none"


def accelerate(
    pipeline: ModalityForcingPipeline, settings: Acceleration, device: torch.device | str
) -> None:
    """Put a pipeline on a device, in place and once, with whatever makes it faster or smaller.

    To be called instead of `pipeline.to(device)`, on a pipeline in main memory with its adapters
    fused, so that the full-precision model need not fit on the device. The text encoder stays
    where it is; `offloading.on_device` brings what is needed of it over while prompts are encoded.
    The autoencoder decodes a batch at once on a GPU, and one image at a time on a CPU, where memory
    that is not there ends the process.

    Args:
        pipeline: As loaded, on the CPU.
        settings: What to do.
        device: `cpu` or a CUDA device.

    Raises:
        MfsynthError: Settings that the device, the installation or one another rule out.
    """
    device = torch.device(device)
    transformer = pipeline.transformer
    _check(settings, device, transformer.dtype)
    compiled = compiles(settings.compile, device)
    if settings.attention is not None:
        _set_attention(transformer, settings.attention, device)
    if settings.quantization == "fp8":
        quantize_body(transformer, fp8_config(), device)
    # Before any hook: hooks decide what runs, which is nothing to compile.
    if compiled:
        compile_blocks(transformer)
    if settings.offload == "group":
        offload_groups(transformer, device)
    else:
        transformer.to(device)
    if pipeline.vae is not None:
        pipeline.vae.to(device)
        if device.type == "cpu":
            pipeline.vae.enable_slicing()


def _check(settings: Acceleration, device: torch.device, dtype: torch.dtype) -> None:
    if settings.offload == "group" and device.type != "cuda":
        raise MfsynthError(
            f"runtime.offload: group offloading needs a GPU, not {device.type}; set it to none"
        )
    if settings.offload == "group" and settings.quantization == "fp8":
        raise MfsynthError(
            "runtime.offload: 8-bit weights cannot be offloaded in groups; set it to none, or "
            "model.quantization to none"
        )
    if settings.quantization == "fp8":
        check_fp8(device, dtype)


def _set_attention(
    transformer: ModalityForcingTransformer2DModel, name: str, device: torch.device
) -> None:
    place = "runtime.attention"
    names = [backend.value for backend in AttentionBackendName]
    if name not in names:
        raise MfsynthError(f"{place}: {name!r} is none of {', '.join(names)}")
    config = transformer.config
    trial = torch.zeros(
        *(1, 16, config.num_attention_heads, config.attention_head_dim),
        device=device,
        dtype=transformer.dtype,
    )
    try:
        # It restores what was active before, and so leaves nothing behind where it fails.
        with attention_backend(AttentionBackendName(name)):
            dispatch_attention_fn(trial, trial, trial)
    # Exception: missing packages, kernels that are not to be had or do not fit the device, the
    # type or the size of heads: every backend has errors of its own for them.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise MfsynthError(f"{place}: {name} does not work here ({reason}); use native") from error
    transformer.set_attention_backend(name)
