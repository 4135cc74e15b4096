"""The released model without its weights, on the meta device: shapes, devices, work, in seconds.

Nothing is computed there, but every operation says what shape comes out, refuses tensors of another
device, and can be counted. `benchmarks/sampling.py --flops` and `tests/models` use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from diffusers import AutoencoderKLFlux2
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3Config, Qwen3ForCausalLM

from mfsynth.models.acceleration.accelerate import Acceleration, accelerate
from mfsynth.models.locations import RELEASED_SIZE, RELEASED_TEXT_LAYERS, RELEASED_TEXT_LENGTH
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.transformer import (
    ModalityForcingTransformer2DModel,
    ModalityForcingTransformerOutput,
)
from mfsynth.training.small_text_encoder import build_tokenizer

META = torch.device("meta")

_QWEN3_8B = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
}


def released_text_encoder() -> Any:
    """Qwen3 8B in bfloat16."""
    with META:
        return Qwen3ForCausalLM(Qwen3Config(**_QWEN3_8B)).to(torch.bfloat16).eval()


def released_pipeline() -> ModalityForcingPipeline:
    """The 12 B transformer and Qwen3 8B in bfloat16, the autoencoder in float32, as in a run."""
    with META:
        transformer = ModalityForcingTransformer2DModel()
        vae = AutoencoderKLFlux2().eval()
    transformer.cast_body(torch.bfloat16)
    pipeline = ModalityForcingPipeline(
        transformer,
        released_text_encoder(),
        build_tokenizer(["a cup on a table"]),
        vae,
        text_encoder_layers=RELEASED_TEXT_LAYERS,
        max_text_length=RELEASED_TEXT_LENGTH,
        mixes_without_depth=True,
        height=RELEASED_SIZE,
        width=RELEASED_SIZE,
    )
    accelerate(pipeline, Acceleration(attention="native"), META)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextmanager
def on_meta() -> Iterator[None]:
    """Have no part of a forward ask for what the meta device has not."""
    with (
        # It knows no such device.
        mock.patch.object(torch, "autocast", return_value=nullcontext()),
        # It asks whether a mask is true everywhere.
        mock.patch("transformers.masking_utils.fast_all", return_value=False),
    ):
        yield


@dataclass(frozen=True, slots=True)
class Work:
    """What the transformer did.

    Attributes:
        with_depth: Samples that went through it with depth tokens, a guided step's twice.
        without_depth: The same without.
        flops: Of them; a multiplication and its addition are two.
    """

    with_depth: int = 0
    without_depth: int = 0
    flops: float = 0.0


WorkOf = Callable[[Callable[[], Any]], tuple[Work, Any]]


@contextmanager
def counting(transformer: ModalityForcingTransformer2DModel) -> Iterator[WorkOf]:
    """Have what counts the transformer's work in a function, and gives it with what that returns.

    Of every shape of inputs one forward is traced.
    """
    forward: Callable[..., ModalityForcingTransformerOutput] = transformer.forward
    known: dict[tuple[int, int, bool], tuple[float, ModalityForcingTransformerOutput]] = {}
    work = Work()

    def once(**inputs: Any) -> ModalityForcingTransformerOutput:
        nonlocal work
        rows, tokens = inputs["rgb"].shape[:2]
        has_depth = inputs["depth"] is not None
        shape = (rows, tokens, has_depth)
        if shape not in known:
            known[shape] = flops_of(lambda: forward(**inputs))
        flops, output = known[shape]
        work = Work(
            work.with_depth + rows * has_depth,
            work.without_depth + rows * (not has_depth),
            work.flops + flops,
        )
        return output

    def work_of(function: Callable[[], Any]) -> tuple[Work, Any]:
        nonlocal work
        work = Work()
        result = function()
        return work, result

    with mock.patch.object(transformer, "forward", once):
        yield work_of


def flops_of(function: Callable[[], Any]) -> tuple[float, Any]:
    """Count what a function computes on the meta device; with what it returns."""
    with FlopCounterMode(display=False) as counter:
        result = function()
    return float(counter.get_total_flops()), result
