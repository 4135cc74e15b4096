"""The components of a released checkpoint, opened as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mfsynth.models.locations import (
    RELEASED_SIZE,
    RELEASED_TEXT_ENCODER,
    RELEASED_TEXT_LAYERS,
    RELEASED_TEXT_LENGTH,
    find_model,
)
from mfsynth.models.released.checkpoint import Checkpoint, open_checkpoint
from mfsynth.models.released.text_encoders import find_text_encoder


def released_components(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    text_encoder: str | Path = RELEASED_TEXT_ENCODER,
    revision: str | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """Load a released checkpoint, each tensor straight in its place.

    Args:
        source: Folder, `model.safetensors` with its `config.json` beside it, or hub id.
        dtype: Of the weights in memory; depth head and autoencoder are float32 always.
        text_encoder: Folder or hub id of the text encoder and its tokenizer.
        revision: Of a source on the hub; None for its newest.
        local_files_only: Whether what is on the hub must already be on this machine.

    Returns:
        The constructor's arguments of `ModalityForcingPipeline`.

    Raises:
        MfsynthError: The source is not a whole checkpoint of the released layout, or the text
            encoder does not fit it.
    """
    folder = find_model(str(source), revision, local_files_only=local_files_only)
    checkpoint = open_checkpoint(folder)
    text = find_text_encoder(
        text_encoder, checkpoint.text_channels, local_files_only=local_files_only
    )
    return {
        "transformer": checkpoint.transformer.load(dtype),
        "vae": checkpoint.vae.load(torch.float32),
        "text_encoder": text.load(dtype),
        "tokenizer": text.tokenizer,
        **pipeline_config(checkpoint),
    }


def pipeline_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The arguments of `ModalityForcingPipeline` that are no components."""
    return {
        "text_encoder_layers": RELEASED_TEXT_LAYERS,
        "max_text_length": RELEASED_TEXT_LENGTH,
        "rgb_shift_mu": checkpoint.rgb_shift_mu,
        "depth_shift_mu": checkpoint.depth_shift_mu,
        "mixes_without_depth": True,
        "height": RELEASED_SIZE,
        "width": RELEASED_SIZE,
    }
