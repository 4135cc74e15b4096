"""Compiled blocks, and a warm-up of the shapes that a run's batches have."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.models.transformer import (
    ModalityForcingTransformer2DModel,
    ModalityForcingTransformerOutput,
)

GRAPHS = 10
"""Compilations that batches of one size take at most: triple- and single-stream blocks with and
without depth tokens, guided and unguided, and the depth decoder, guided and unguided."""

# Batches of several sizes, images of several sizes. Past torch's own limit, 8, a block that must
# compile as one graph fails.
_RECOMPILE_LIMIT = 256


def compiles(
    setting: bool | str, device: torch.device | str, place: str = "runtime.compile"
) -> bool:
    """Whether a setting asks for compilation on a device.

    Args:
        setting: True, False, or `auto`: on a GPU, where there are a compiler and Triton.
        device: Where the model runs.
        place: Of the setting, for the error.

    Raises:
        MfsynthError: It is asked for, and there is no compiler.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    has_compiler = shutil.which(compiler) is not None
    if setting == "auto":
        on_gpu = torch.device(device).type == "cuda"
        return on_gpu and has_compiler and find_spec("triton") is not None
    if setting and not has_compiler:
        raise MfsynthError(
            f"{place}: there is no C++ compiler {compiler}; install one, or set it to false"
        )
    return bool(setting)


def compile_blocks(transformer: ModalityForcingTransformer2DModel) -> None:
    """Compile every kind of block as one graph a shape, shared by the blocks of a kind.

    Shapes are fixed in a graph, so that what it computes does not depend on which others came
    before it. For batches of one size there are at most `GRAPHS`.

    Their `forward` is compiled rather than, as by `compile_repeated_blocks`, their call, which
    would take hooks of step caches and offloading into the graph, where they cannot be.

    Args:
        transformer: The model, without hooks so far.
    """
    dynamo = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, _RECOMPILE_LIMIT)
    for module in transformer.modules():
        if type(module).__name__ in transformer._repeated_blocks:
            module.forward = torch.compile(module.forward, fullgraph=True, dynamic=False)


@contextmanager
def each_shape_once(transformer: ModalityForcingTransformer2DModel) -> Iterator[None]:
    """Compute a forward for the first of every shape of inputs only, and give it for all others.

    Any sampling inside compiles what it will need, whatever its steps are, and little more. What it
    samples is of no use.
    """
    forward: Callable[..., ModalityForcingTransformerOutput] = transformer.forward
    known: dict[tuple[tuple[str, torch.Size], ...], ModalityForcingTransformerOutput] = {}

    def once(**inputs: Any) -> ModalityForcingTransformerOutput:
        tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        shapes = tuple((name, value.shape) for name, value in tensors.items())
        if shapes not in known:
            known[shapes] = forward(**inputs)
        return known[shapes]

    # In an object's own variables hooks of offloading stand, too.
    own = transformer.__dict__
    before = own.get("forward")
    own["forward"] = once
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before
