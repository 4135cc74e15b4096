"""Typed configuration of a depth estimator's training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mfsynth.config import load_settings
from mfsynth.config.base import (
    Count,
    Index,
    Items,
    LocalPath,
    NonEmpty,
    Positive,
    Settings,
    Unset,
)
from mfsynth.training.data.part_settings import PartSettings


class NetworkConfig(Settings):
    """Sizes of a `DepthEstimator`; see there."""

    widths: Annotated[Items[Annotated[int, Field(ge=8, multiple_of=8)]], Field(min_length=1)]
    blocks: Count


class EstimatorConfig(Settings):
    """Everything that decides the training of an estimator.

    The rate warms up, then falls linearly to nothing.

    Attributes:
        name: Of the estimator.
        seed: Of weights and data.
        size: Rows and columns of the images.
        data: The parts of the training set. Runs alone are read by the loader of
            `mfsynth.datasets`.
        estimator: Sizes of the network.
        initial: An estimator that it starts as: `embedded`, or a folder that `mfsynth train` wrote;
            random if unset. It may have fewer levels.
        metric: Whether it learns metres, which takes data that has them, and cameras.
        on_error: Of runs alone, what becomes of pairs that can't be read: the training ends
            (`raise`, or unset), or others take their places and they are counted (`skip`).
        precision: Of the forward, float32 if unset; weights stay in float32.
        workers: Processes that load items ahead, for every process that trains; none if unset. Of
            runs alone, threads; if unset, as many as there are cores, up to 4.
        steps: To take.
        batch_size: Samples of a step, of all processes together.
        learning_rate: Of AdamW.
        warmup_steps: See above.
        weight_decay: Of all weights.
        ema: Memory of the weights' moving average, which is the network that comes out.
        checkpoint_every: Steps.
        output: Folder of checkpoints and of the finished network.
    """

    name: str
    seed: Index
    size: Count
    data: Annotated[Items[PartSettings], Field(min_length=1)]
    estimator: NetworkConfig
    initial: Unset[NonEmpty] = None
    metric: Unset[bool] = None
    on_error: Unset[Literal["raise", "skip"]] = None
    precision: Unset[Literal["float32", "bfloat16"]] = None
    workers: Unset[Count] = None
    steps: Count
    batch_size: Count
    learning_rate: Positive
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    checkpoint_every: Count
    output: LocalPath

    @model_validator(mode="after")
    def _levels_halve_the_size(self) -> Self:
        if self.size % (of := 2 ** len(self.estimator.widths)):
            raise ValueError(
                f"size {self.size} is no multiple of {of}, which {len(self.estimator.widths)} "
                "levels (estimator.widths) halve it by; change either"
            )
        return self


def load_estimator_config(name_or_path: str, overrides: Sequence[str] = ()) -> EstimatorConfig:
    """Load the configuration of an estimator's training, as `load_train_config` does."""
    return load_settings(EstimatorConfig, "configs/train", name_or_path, overrides)
