"""Weights on the accelerator only while they are needed there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mfsynth.models.transformer import ModalityForcingTransformer2DModel


@contextmanager
def on_device(module: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Have a module on a device for a while, then back where it was.

    Its weights are not copied back: the originals are kept, and must not be trained inside.

    Args:
        module: All of it on one device, such as a text encoder.
        device: Where it is needed; nothing happens where it is there already.
    """
    target = torch.device(device)
    home: list[tuple[dict[str, Any], str, Tensor, Tensor]] = [
        (store, name, tensor, tensor.data)
        for part in module.modules()
        for store in (part._parameters, part._buffers)
        for name, tensor in store.items()
        if tensor is not None
    ]
    if all(tensor.device.type == target.type for _, _, tensor, _ in home):
        yield
        return
    try:
        module.to(target)
        yield
    finally:
        for store, name, tensor, data in home:
            # A change of device may change a parameter in place or put another in its stead.
            tensor.data = data
            store[name] = tensor
        if target.type == "cuda":
            torch.cuda.empty_cache()


def offload_groups(transformer: ModalityForcingTransformer2DModel, device: torch.device) -> None:
    """Keep the transformer in main memory and bring one block at a time to the device.

    On CUDA the next block comes over while one computes. A 12 B model then needs a few GB of the
    GPU's memory, and 24 GB of pinned main memory.
    """
    transformer.enable_group_offload(
        onload_device=device,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )
    _forward_once(transformer, device)


def _forward_once(transformer: ModalityForcingTransformer2DModel, device: torch.device) -> None:
    """Run the model on one token of each kind.

    In its first forward, group offloading learns the order of the blocks to fetch ahead, with
    hooks that it takes off afterwards. That forward must have depth tokens, and no other hooks.
    """
    config = transformer.config

    def tokens(channels: int) -> Tensor:
        return torch.zeros(1, 1, channels, device=device, dtype=transformer.dtype)

    level = torch.ones(1, device=device)
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        transformer(
            rgb=tokens(config.in_channels),
            depth=tokens(config.depth_channels),
            text=tokens(config.joint_attention_dim),
            rgb_timestep=level,
            depth_timestep=level,
            grid=(1, 1),
            guidance=level if config.guidance_embeds else None,
        )
