"""What makes training on a CPU faster and changes no result."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 2**31 - 1


@contextmanager
def fast_on(device: torch.device) -> Iterator[None]:
    """Train on a device as fast as it can; on others than CPUs, nothing is different."""
    if device.type != "cpu":
        yield
        return
    _keep_freed_memory()
    # A CPU's fused attention has a slow backward: with as few tokens as a CPU can train on, matrix
    # products and a softmax take less time, in the precision of the rest.
    in_float32 = not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(not in_float32)


def _keep_freed_memory() -> None:
    """Have the process keep freed memory for its next allocation; nothing happens without glibc.

    Each step allocates the same large tensors. By default they are mapped and unmapped every time,
    and a good part of a step goes into the kernel's clearing of pages.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM_THRESHOLD, _LARGEST)
    mallopt(_TOP_PAD, 2**28)
