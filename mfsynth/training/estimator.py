"""Training of a plain supervised depth network: images in, valid depth pixels as the target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from mfsynth.config import load_settings
from mfsynth.config.base import Items, Settings
from mfsynth.config.documents import read_yaml
from mfsynth.config.resources import resolve_resource
from mfsynth.errors import MfsynthError
from mfsynth.models.estimators.embedded import DepthEstimator
from mfsynth.training.checkpoints import (
    AVERAGE,
    MODEL,
    OPTIMISER,
    latest_checkpoint,
    optimiser_state,
    read_part,
    restore_optimisers,
    write_checkpoint,
)
from mfsynth.training.cpu import fast_on
from mfsynth.training.data import (
    Mixture,
    PartSettings,
    batches,
    open_mixture,
    render_scenes,
)
from mfsynth.training.losses import MIN_VALID_PIXELS
from mfsynth.training.progress import Log, Progress

PROGRESS_EVERY = 50
_MAX_GRADIENT_NORM = 1.0


class NetworkConfig(Settings):
    """Sizes of a `DepthEstimator`; see there."""

    widths: Annotated[Items[int], Field(min_length=1)]
    blocks: int = Field(gt=0)


class EstimatorConfig(Settings):
    """Everything that decides the training of an estimator.

    The rate warms up, then falls linearly to nothing.

    Attributes:
        name: Of the estimator.
        seed: Of weights and data.
        size: Rows and columns of the images.
        data: The parts of the training set.
        estimator: Sizes of the network.
        steps: To take.
        batch_size: Samples of a step.
        learning_rate: Of AdamW.
        warmup_steps: See above.
        weight_decay: Of all weights.
        ema: Memory of the weights' moving average, which is the network that comes out.
        checkpoint_every: Steps.
        output: Folder of checkpoints and of the finished network.
    """

    name: str
    seed: int
    size: int = Field(gt=0)
    data: Annotated[Items[PartSettings], Field(min_length=1)]
    estimator: NetworkConfig
    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    checkpoint_every: int = Field(gt=0)
    output: Annotated[Path, Field(strict=False)]


def describes_estimator(name_or_path: str) -> bool:
    """Whether a training configuration is that of an estimator: it has a part of that name.

    Raises:
        MfsynthError: There is no such file, or it is no YAML.
    """
    values = read_yaml(resolve_resource("configs/train", name_or_path), "configuration")
    return isinstance(values, dict) and "estimator" in values


def load_estimator_config(name_or_path: str, overrides: Sequence[str] = ()) -> EstimatorConfig:
    """Load the configuration of an estimator's training, as `load_train_config` does."""
    return load_settings(EstimatorConfig, "configs/train", name_or_path, overrides)


def log_depth_loss(prediction: Tensor, depth: Tensor) -> Tensor:
    """Mean |e − ē| over valid pixels, e = prediction − ln depth; 0 where none is valid.

    A constant scale of an image's depth changes nothing.

    Args:
        prediction: (B, H, W) log depth.
        depth: (B, H, W) in any unit; 0 marks invalid pixels.

    Returns:
        (B,); divided by 64 pixels at least, so that a few don't weigh as much as many.
    """
    valid = depth > 0
    count = valid.sum(dim=(1, 2), keepdim=True)
    errors = torch.where(valid, prediction - torch.where(valid, depth, 1.0).log(), 0.0)
    mean = errors.sum(dim=(1, 2), keepdim=True) / count.clamp(min=1)
    deviations = torch.where(valid, (errors - mean).abs(), 0.0)
    return deviations.sum(dim=(1, 2)) / count[:, 0, 0].clamp(min=MIN_VALID_PIXELS)


class EstimatorTrainer:
    """The loop, in one process; resumed, it sees what an uninterrupted one would have seen."""

    def __init__(self, config: EstimatorConfig) -> None:
        torch.manual_seed(config.seed)
        self._config = config
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        sizes = config.estimator
        self.model = DepthEstimator(sizes.widths, sizes.blocks, config.size).to(self._device)
        self.model.to(memory_format=torch.channels_last)
        self._trained = dict(self.model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self._trained.items()}
        self._optimiser = torch.optim.AdamW(
            self._trained.values(), config.learning_rate, weight_decay=config.weight_decay
        )
        self.step = 0

    def run(self, data: Mixture, log: Log) -> None:
        """Train to the configured step, saving checkpoints.

        Raises:
            MfsynthError: The loss is no number, or a sample can't be read.
        """
        with fast_on(self._device):
            self._run(data, log)

    def _run(self, data: Mixture, log: Log) -> None:
        config = self._config
        progress = Progress(self.step, config.steps)
        for batch in batches(data, config.seed, config.batch_size, range(self.step, config.steps)):
            images = batch.rgb.to(self._device).permute(0, 3, 1, 2) / 127.5 - 1
            images = images.contiguous(memory_format=torch.channels_last)
            loss = log_depth_loss(self.model(images), batch.depth.to(self._device)).mean()
            if not loss.isfinite():
                raise MfsynthError(
                    f"the loss is infinite or NaN at step {self.step}; lower learning_rate and "
                    "run again from the last checkpoint"
                )
            loss.backward()
            self._update()
            progress.add({"depth": loss.item()})
            is_saved = self.step % config.checkpoint_every == 0 or self.step == config.steps
            if self.step % PROGRESS_EVERY == 0 or is_saved:
                log(progress.line(self.step))
            if is_saved:
                self._save()

    def _update(self) -> None:
        config = self._config
        torch.nn.utils.clip_grad_norm_(self._trained.values(), _MAX_GRADIENT_NORM)
        warm = min(1.0, (self.step + 1) / max(1, config.warmup_steps))
        for group in self._optimiser.param_groups:
            group["lr"] = config.learning_rate * warm * (1 - self.step / config.steps)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        for name, parameter in self._trained.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    def _save(self) -> None:
        parts = {
            MODEL: {name: parameter.detach() for name, parameter in self._trained.items()},
            AVERAGE: self.average,
            OPTIMISER: optimiser_state((self._optimiser,), self._trained),
        }
        write_checkpoint(self._config.output, self.step, parts, is_main=True)

    def resume(self) -> bool:
        """Take up the newest checkpoint in the output; False where there is none."""
        latest = latest_checkpoint(self._config.output)
        if latest is None:
            return False
        self.step, checkpoint = latest
        with torch.no_grad():
            for name, value in read_part(checkpoint, MODEL):
                self._trained[name].copy_(value)
            for name, value in read_part(checkpoint, AVERAGE):
                self.average[name].copy_(value)
        restore_optimisers((self._optimiser,), self._trained, read_part(checkpoint, OPTIMISER))
        return True

    def export(self, folder: Path) -> None:
        """Write the averaged weights, in bfloat16."""
        with torch.no_grad():
            for name, value in self.average.items():
                self._trained[name].copy_(value)
        self.model.to(memory_format=torch.contiguous_format).bfloat16().save_pretrained(folder)


def train_estimator(config: EstimatorConfig, log: Log) -> Path:
    """Render, train, export; run again after an interruption, it goes on where it was.

    Returns:
        The folder of the finished network, `<output>/model`.
    """
    render_scenes(config.data, config.size, log)
    mixture = open_mixture(config.data, config.size, config.size)
    trainer = EstimatorTrainer(config)
    if trainer.resume():
        log(f"resumed at step {trainer.step} from {config.output}")
    parameters = sum(p.numel() for p in trainer.average.values())
    log(f"{parameters / 1e6:.2f} M parameters to train")
    trainer.run(mixture, log)
    folder = config.output / "model"
    trainer.export(folder)
    log(f"model: {folder}")
    return folder
