"""What is trained: the joint transformer, and the text encoder where it is trained with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mfsynth.models.text import encode_tokens

Text = Tensor | Mapping[str, Tensor]
"""(B, L, C) hidden states, or the tokens of an encoder that is trained: (B, L) int64 each."""


class Prediction(NamedTuple):
    """What a forward predicts: a tuple, for wrappers that take outputs apart.

    Attributes:
        rgb: (B, N, C) float32, velocity or clean tokens.
        depth: (B, N, p²) float32, clean tokens; None without depth.
    """

    rgb: Tensor
    depth: Tensor | None


class JointModel(nn.Module):
    """Text encoder and transformer as one module, so that one forward reaches every weight."""

    def __init__(
        self, transformer: Any, text_encoder: Any = None, text_layers: tuple[int, ...] = ()
    ) -> None:
        """Take the text encoder in only where it is trained, with the hidden states to use."""
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder
        self._text_layers = text_layers

    def forward(
        self,
        rgb: Tensor,
        t_rgb: Tensor,
        text: Text,
        grid: tuple[int, int],
        depth: Tensor | None = None,
        t_depth: Tensor | None = None,
        depth_valid: Tensor | None = None,
    ) -> Prediction:
        """Predict both modalities; arguments as those of the transformer."""
        if not isinstance(text, Tensor):
            text = encode_tokens(self.text_encoder, dict(text), self._text_layers)
        output = self.transformer(
            rgb=rgb,
            depth=depth,
            text=text,
            rgb_timestep=t_rgb,
            depth_timestep=t_depth,
            grid=grid,
            depth_valid=depth_valid,
        )
        return Prediction(output.rgb.float(), output.depth)

    @property
    def has_adapters(self) -> bool:
        """Whether adapters are trained in place of the text-to-image weights."""
        return hasattr(self.transformer, "peft_config")

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


@contextmanager
def swapped_weights(model: JointModel, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Give parameters other values for a while, which take the parameters' meanwhile.

    It costs no memory but for one tensor, and works where a process has a part of each. No graph
    over these parameters may wait for its backward pass.

    Args:
        model: Whose parameters.
        values: Of some parameters, by name.
    """
    parameters = {name: p for name, p in model.named_parameters() if name in values}

    @torch.no_grad()
    def exchange() -> None:
        for name, parameter in parameters.items():
            kept = parameter.clone()
            parameter.copy_(values[name])
            values[name].copy_(kept)

    exchange()
    try:
        yield
    finally:
        exchange()


@contextmanager
def without_adapters(model: JointModel) -> Iterator[None]:
    """Have a model's adapters off for a while; nothing happens where it has none."""
    if not model.has_adapters:
        yield
        return
    model.transformer.disable_adapters()
    try:
        yield
    finally:
        model.transformer.enable_adapters()
