"""Reuse of what the blocks did in earlier denoising steps, but never where depth forms."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import FirstBlockCacheConfig
from diffusers.hooks import HookRegistry, ModelHook
from torch import Tensor

from mfsynth.errors import MfsynthError
from mfsynth.models.transformer import ModalityForcingTransformer2DModel

_HOOK = "modality_forcing_step_cache"


class _StepHook(ModelHook):
    """Gives the cache its context, and empties it where a forward must not reuse anything."""

    def __init__(self, depth_level: float) -> None:
        super().__init__()
        self._depth_level = depth_level
        self._shapes: list[tuple[int, ...] | None] | None = None

    def new_forward(
        self, module: ModalityForcingTransformer2DModel, *args: Any, **kwargs: Any
    ) -> Any:
        forward = inspect.signature(type(module).forward)
        given = forward.bind(module, *args, **kwargs).arguments
        # Residuals of another batch, or of one without depth tokens, have other shapes.
        shapes = [
            None if given[name] is None else tuple(given[name].shape)
            for name in ("rgb", "depth", "text")
        ]
        if shapes != self._shapes or self._forms(given["depth_timestep"]):
            module._reset_stateful_cache()
        self._shapes = shapes
        with module.cache_context("denoise"):
            return self.fn_ref.original_forward(*args, **kwargs)

    def _forms(self, depth_timestep: Tensor | None) -> bool:
        if depth_timestep is None:
            return False
        # At level 0 depth is given, not made.
        forming = (depth_timestep > 0) & (depth_timestep < self._depth_level)
        return bool(forming.any())


@contextmanager
def step_cache(
    transformer: ModalityForcingTransformer2DModel, threshold: float, *, depth_level: float = 0.95
) -> Iterator[None]:
    """Skip all triple- and single-stream blocks but the first where a step changes little.

    First Block Cache of diffusers: the first block always runs; where its update is nearly that of
    the last full step, the update of all further blocks is taken from that step. The depth decoder
    and the heads always run. The rule sees the mean over the batch, so with a cache a sample
    depends a little on its batch.

    Enter it for one roll-out: what is kept belongs to its batch, and is dropped at the end.

    Args:
        transformer: The model; called inside as usual, by any sampler.
        threshold: Relative mean change of the first block's update, up to which further blocks are
            skipped; 0 skips none.
        depth_level: Noise level of depth under which every step runs in full: there depth forms.
            With log2_alpha = 5 the default keeps the last 8 of 50 steps full.

    Raises:
        MfsynthError: A threshold that is not a number of at least 0.
    """
    if not threshold >= 0:
        raise MfsynthError(f"step cache threshold is {threshold}; use a number of at least 0")
    transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    registry.register_hook(_StepHook(depth_level), _HOOK)
    try:
        yield
    finally:
        registry.remove_hook(_HOOK, recurse=False)
        transformer.disable_cache()
