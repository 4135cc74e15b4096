"""From a checkpoint in the released layout to a diffusers folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME
from huggingface_hub import ModelCardData, split_torch_state_dict_into_shards
from safetensors.torch import save_file

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import (
    CARD,
    RELEASED_LICENCE,
    RELEASED_TEXT_ENCODER,
    RELEASED_VARIANTS,
    UNKNOWN_LICENCE,
    card_licence,
    find_model,
)
from mfsynth.models.pipeline import ModalityForcingPipeline
from mfsynth.models.released.checkpoint import Checkpoint, Weights, open_checkpoint
from mfsynth.models.released.components import pipeline_config
from mfsynth.models.released.text_encoders import TextEncoder, find_text_encoder
from mfsynth.storage.atomic import staged_folder

_WEIGHTS_PATTERN = "diffusion_pytorch_model{suffix}.safetensors"
_CARD_TEXT = """---
{front_matter}
---

# Modality Forcing

A diffusers folder of mfsynth's `ModalityForcingPipeline`: text to paired images and depth, images
to depth, depth to images.

- Converted from {source}, variant `{variant}`, {mixing} mixing of the streams' noise levels. No
  weight was changed; the depth head is stored in float32.
- Text encoder: a copy of `{encoder}`, under its own licence.
- Licence of the weights: {licence}. The data that they make must carry it.
"""

Report = Callable[[str], None]


def convert(
    source: str | Path,
    destination: Path,
    *,
    text_encoder: str | Path = RELEASED_TEXT_ENCODER,
    licence: str | None = None,
    revision: str | None = None,
    max_shard_size: str = "1GB",
    report: Report = lambda _: None,
) -> None:
    """Convert a released checkpoint to a diffusers folder of `ModalityForcingPipeline`.

    Parameters keep their type, but for the depth head, which becomes float32. Everything is
    checked from headers before any data is read; then one shard and one tensor are in memory at
    most. The folder appears whole or not at all.

    Args:
        source: Folder, `model.safetensors` with its `config.json` beside it, or hub id.
        destination: The new folder.
        text_encoder: Folder or hub id of the text encoder and its tokenizer, which are copied.
        licence: Of the weights, where the source has no card that says it.
        revision: Of a source on the hub; None for its newest.
        max_shard_size: Weights in a file, as text such as "1GB".
        report: Called with a line for each step.

    Raises:
        MfsynthError: The destination exists, the source is not a whole checkpoint of the released
            layout, or the text encoder does not fit it.
    """
    if destination.exists():
        raise MfsynthError(f"{destination} exists; name a folder that does not")
    checkpoint = open_checkpoint(find_model(str(source), revision))
    text = find_text_encoder(text_encoder, checkpoint.text_channels)
    named = _licence(checkpoint, licence)
    try:
        with staged_folder(destination) as staging:
            _save(checkpoint.transformer, staging / "transformer", max_shard_size, report)
            _save(checkpoint.vae, staging / "vae", max_shard_size, report)
            report(f"text encoder: {text.name}")
            text.save(staging)
            _hollow_pipeline(checkpoint, text).save_config(staging)
            (staging / CARD).write_text(_card(checkpoint, text, named))
    except OSError as error:
        raise MfsynthError(f"{destination}: cannot be written ({error})") from error


def _hollow_pipeline(checkpoint: Checkpoint, text: TextEncoder) -> ModalityForcingPipeline:
    """The pipeline without weights, for its configuration."""
    return ModalityForcingPipeline(
        transformer=checkpoint.transformer.model,
        vae=checkpoint.vae.model,
        text_encoder=text.model,
        tokenizer=text.tokenizer,
        **pipeline_config(checkpoint),
    )


def _save(weights: Weights, folder: Path, max_shard_size: str, report: Report) -> None:
    planned = {
        name: torch.empty(shape, dtype=weights.dtype(name), device="meta")
        for name, shape in weights.shapes().items()
    }
    try:
        split = split_torch_state_dict_into_shards(
            planned, filename_pattern=_WEIGHTS_PATTERN, max_shard_size=max_shard_size
        )
    except ValueError as error:
        raise MfsynthError(f"shard size {max_shard_size!r}: {error}") from error
    weights.model.save_config(folder)
    for number, (file, names) in enumerate(split.filename_to_tensors.items(), start=1):
        save_file(dict(weights.read(names)), folder / file, metadata={"format": "pt"})
        report(f"{folder.name}: file {number} of {len(split.filename_to_tensors)}")
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True))


def _licence(checkpoint: Checkpoint, given: str | None) -> dict[str, str]:
    """The licence fields of the new card."""
    folder = checkpoint.folder
    fields = card_licence(folder.path)
    if named := fields.get("license"):
        if given not in (None, named):
            raise MfsynthError(
                f"--licence {given}: the card of {folder.name} says {named}; leave the option out"
            )
        return fields
    if given is not None:
        return {"license": given}
    is_release = checkpoint.variant in RELEASED_VARIANTS
    return {"license": RELEASED_LICENCE if is_release else UNKNOWN_LICENCE}


def _card(checkpoint: Checkpoint, text: TextEncoder, licence: Mapping[str, Any]) -> str:
    folder = checkpoint.folder
    # Where a folder was on one machine is nobody else's business.
    source = f"`{folder.path.resolve().name}`"
    if folder.commit is not None:
        source = f"`{folder.name}`, commit `{folder.commit}`"
    front_matter = ModelCardData(
        **licence,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["rgb-d", "depth-estimation", "modality-forcing"],
    ).to_yaml()
    mixing = "with" if checkpoint.transformer.model.config.cross_stream_mixing else "without"
    return _CARD_TEXT.format(
        front_matter=front_matter,
        source=source,
        variant=checkpoint.variant,
        mixing=mixing,
        encoder=text.name,
        licence=licence["license"],
    )
