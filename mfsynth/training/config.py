"""Typed training configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mfsynth.config import load_settings
from mfsynth.training.data import SourceSettings
from mfsynth.training.invalid_depth import InvalidDepth
from mfsynth.training.recipe import NoiseRecipe


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TransformerConfig(_Section):
    """Sizes of the transformer and of the text encoder that is trained with it."""

    patch: int = Field(gt=0)
    rgb_bands: tuple[int, int]
    layers: int = Field(gt=0)
    single_layers: int = Field(gt=0)
    depth_decoder_layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    rope_axes: tuple[int, int, int, int]
    rope_theta: int = Field(gt=1)
    text_length: int = Field(gt=0)
    text_layers: int = Field(gt=0)
    text_channels: int = Field(gt=0)


class DistillationConfig(_Section):
    """Weights of the self-distillation term where depth is noise, and where it is clean."""

    noisy_depth: float = Field(ge=0)
    clean_depth: float = Field(ge=0)


class OptimiserConfig(_Section):
    """Two phases: text-to-image first, then image and depth together.

    Muon moves the matrices of the blocks, AdamW the rest. Both rates warm up at the start of each
    phase, stay, and fall linearly over the last `decay_share` of the second. A step takes
    `accumulate` batches of `batch_size` samples.
    """

    image_steps: int = Field(ge=0)
    joint_steps: int = Field(gt=0)
    image_only_share: float = Field(ge=0, lt=1)
    batch_size: int = Field(gt=0)
    accumulate: int = Field(default=1, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    gradient_checkpointing: bool = False
    muon_learning_rate: float = Field(gt=0)
    adamw_learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    decay_share: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    edge_weight: float = Field(ge=0)
    distillation: DistillationConfig | None = None
    text_dropout: float = Field(ge=0, le=1)
    invalid_depth: InvalidDepth = "nearest"
    checkpoint_every: int = Field(gt=0)

    @model_validator(mode="after")
    def _base_to_distil(self) -> Self:
        if self.distillation is not None and not self.image_steps:
            raise ValueError("distillation needs a base model; give image_steps, or leave it out")
        return self

    @property
    def steps(self) -> int:
        """Of both phases."""
        return self.image_steps + self.joint_steps


class TrainConfig(_Section):
    """Everything that decides an embedded-size training.

    Attributes:
        name: Of the model.
        seed: Of weights, data and noise.
        size: Rows and columns of the images.
        data: The parts of the training set.
        transformer: Sizes of the model.
        noise: How noise levels are drawn.
        optimiser: Steps, rates and losses.
        output: Folder of checkpoints and of the finished model.
    """

    name: str
    seed: int
    size: int = Field(gt=0)
    data: Annotated[tuple[SourceSettings, ...], Field(min_length=1)]
    transformer: TransformerConfig
    noise: NoiseRecipe
    optimiser: OptimiserConfig
    output: Path


def load_train_config(name_or_path: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Load a training configuration: the name of one in configs/train/, a path, or a URL.

    Raises:
        MfsynthError: One line that names the file, the key, and what to do.
    """
    return load_settings(TrainConfig, "configs/train", name_or_path, overrides)
