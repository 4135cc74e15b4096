"""The card of a model that came out of a training: whose licence it has, and what made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import CARD, UNKNOWN_LICENCE, card_licence
from mfsynth.training.config import TrainConfig
from mfsynth.training.initial_model import InitialModel
from mfsynth.training.pretrained import flux2_folder

_TEXT = """---
{front_matter}
---

# {name}

A Modality Forcing model in diffusers' layout (`ModalityForcingPipeline`): text to paired images and
depth, images to depth, depth to images, at {size}×{size} pixels. Trained by `mfsynth train`.

- Started from: {start}.
- Steps: {image_steps:,} of text to image, {joint_steps:,} of image and depth; seed {seed}.
- Samples a step: {batch} in every process.
- Licence of the weights: {licence}. The data that they make must carry it.
"""


def licence_fields(config: TrainConfig) -> dict[str, str]:
    """The licence, as front matter: of the model that training starts from, where there is one.

    Raises:
        MfsynthError: `licence` says something else than that model's card.
    """
    start, fields = _start(config)
    named = fields.get("license")
    if named is None:
        return {"license": config.licence or UNKNOWN_LICENCE}
    if config.licence not in (None, named):
        raise MfsynthError(
            f"licence {config.licence}: the card of {start} says {named}; leave it out"
        )
    return fields


def write_card(config: TrainConfig, folder: Path) -> None:
    """Write the card beside the weights."""
    fields: dict[str, Any] = {**licence_fields(config)}
    start, _ = _start(config)
    optimiser = config.optimiser
    front_matter = ModelCardData(
        **fields,
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["rgb-d", "depth-estimation", "modality-forcing"],
    ).to_yaml()
    text = _TEXT.format(
        front_matter=front_matter,
        name=config.name,
        size=config.size,
        start=start,
        image_steps=optimiser.image_steps,
        joint_steps=optimiser.joint_steps,
        seed=config.seed,
        batch=optimiser.batch_size * optimiser.accumulate,
        licence=fields["license"],
    )
    (folder / CARD).write_text(text, encoding="utf-8")


def _start(config: TrainConfig) -> tuple[str, dict[str, str]]:
    """What training started from, in words, and the licence fields of its card."""
    if config.initial is not None:
        path, name = InitialModel.find(config.initial).path, config.initial
    elif config.pretrained is not None:
        path, name = flux2_folder(config.pretrained), config.pretrained.id
    else:
        return "random weights", {}
    # Where a folder was on one machine is nobody else's business.
    return Path(name).name if Path(name).is_dir() else name, card_licence(path)
