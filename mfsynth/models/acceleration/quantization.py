"""Eight-bit weights for the transformer's body, through torchao."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mfsynth.errors import MfsynthError
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

# Nearly all of the weights and of the work. The rest decides what a token is and what comes out of
# it (embedders, modulations, depth decoder, heads), and stays as precise as it is.
_BODY = ("transformer_blocks.", "single_transformer_blocks.")

_FP8_CAPABILITY = (8, 9)


def _in_body(module: nn.Module, name: str) -> bool:
    """Whether a module, by its name in the transformer, is a linear layer of the body."""
    return isinstance(module, nn.Linear) and name.startswith(_BODY)


def quantize_body(
    transformer: ModalityForcingTransformer2DModel, config: Any, device: torch.device
) -> None:
    """Quantise the linear layers of the triple- and single-stream blocks, in place.

    Args:
        transformer: The model, anywhere.
        config: How, as torchao says it, e.g. `fp8_config()`.
        device: Where to quantise, layer by layer, and to leave the whole model. The full-precision
            model need not fit there.
    """
    from torchao.quantization import quantize_

    quantize_(transformer, config, filter_fn=_in_body, device=device)


def fp8_config() -> Any:
    """8-bit floats (e4m3) for weights and, chosen anew in every forward, for activations.

    A scale for every row of a weight and every token. For weights in bfloat16.

    Raises:
        MfsynthError: Torchao is not installed.
    """
    try:
        from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow
    except ImportError as error:
        raise MfsynthError(
            "model.quantization: fp8 needs torchao; install mfsynth[gpu], or set it to none"
        ) from error
    return Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())


def check_fp8(device: torch.device, dtype: torch.dtype) -> None:
    """Refuse 8-bit floats where they cannot be multiplied.

    Raises:
        MfsynthError: No GPU, one without 8-bit floats, or weights in another type than bfloat16.
    """
    place = "model.quantization"
    if device.type != "cuda":
        raise MfsynthError(f"{place}: fp8 needs a GPU, not {device.type}; set it to none")
    capability = torch.cuda.get_device_capability(device)
    if capability < _FP8_CAPABILITY:
        has, needs = (".".join(map(str, pair)) for pair in (capability, _FP8_CAPABILITY))
        raise MfsynthError(
            f"{place}: fp8 needs compute capability {needs}, this GPU has {has}; set it to none"
        )
    if dtype is not torch.bfloat16:
        raise MfsynthError(f"{place}: fp8 needs model.dtype bfloat16, not {dtype}")
