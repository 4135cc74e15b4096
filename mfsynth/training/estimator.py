"""Training of a plain supervised depth network: images in, valid depth pixels as the target."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mfsynth.datasets import Loader
from mfsynth.errors import MfsynthError
from mfsynth.models.estimators.embedded import DepthEstimator, load_estimator
from mfsynth.models.few_steps.student import weights_digest
from mfsynth.sources.survey import first_with_depth
from mfsynth.sources.tolerance import Tolerance
from mfsynth.storage.atomic import staged_folder
from mfsynth.training.cpu import fast_on
from mfsynth.training.data import (
    Mixture,
    TrainingBatch,
    focal_of,
    loaded_batches,
    open_mixture,
    render_scenes,
    runs_of,
    survey_parts,
    treatment,
)
from mfsynth.training.data.batches import batches
from mfsynth.training.estimator_config import EstimatorConfig
from mfsynth.training.estimator_losses import log_depth_loss, metric_log_depth_loss
from mfsynth.training.identity import Identity, items_of, settings_of
from mfsynth.training.lost_samples import LostSamples
from mfsynth.training.noise import torch_seed
from mfsynth.training.optimisers import MAX_GRADIENT_NORM, zero_gradients
from mfsynth.training.processes import join_processes
from mfsynth.training.progress import STEPS_PER_LINE, Log, Progress, quiet
from mfsynth.training.skipped_steps import SkippedSteps
from mfsynth.training.state import TrainingState

# Of a training's images, to tell what the middle of their cameras is.
_FOCALS_LOOKED_AT = 256


def middle_focal(mixture: Mixture, seed: int) -> float:
    """The median focal length, in units of the width, of images that a metric training sees.

    Raises:
        MfsynthError: A part of the data has no metres, no depth, or no camera; or none of the first
            samples has a camera.
    """
    for number, part in enumerate(mixture.parts):
        item = first_with_depth(part.source, _FOCALS_LOOKED_AT)
        if item is None:
            raise MfsynthError(
                f"data.{number}: metric is set, and no depth is found there; leave this part out"
            )
        lacking = "camera" if item.intrinsics is None else ""
        lacking = lacking if item.facts.unit == "metres" else "metres"
        if lacking:
            raise MfsynthError(
                f"data.{number}: metric is set, and {item.name or 'its first image'} has no "
                f"{lacking}; leave this part out, or metric"
            )
    focals = [focal_of(mixture.sample(seed, index)) for index in range(_FOCALS_LOOKED_AT)]
    known = [focal for focal in focals if math.isfinite(focal)]
    if not known:
        raise MfsynthError(
            f"metric is set, and none of the first {len(focals)} samples of data has a camera, "
            "without which images teach nothing; give sources their camera, or leave metric out"
        )
    return float(np.median(known))


def start_as(model: DepthEstimator, name: str) -> None:
    """Give an estimator another's weights; levels that the other lacks change nothing at first.

    Args:
        model: As it was built.
        name: `embedded`, or a folder that `mfsynth train` wrote.

    Raises:
        MfsynthError: There is no such estimator, its weights are not whole, or it has other sizes.
    """
    try:
        other = load_estimator(name)
    except MfsynthError as error:
        raise MfsynthError(f"initial: {error}") from error
    sizes = model.config
    theirs, ours = list(other.config.widths), list(sizes.widths)
    if ours[: len(theirs)] != theirs or other.config.blocks != sizes.blocks:
        raise MfsynthError(
            f"initial: {name} has widths {theirs} and blocks {other.config.blocks}; set "
            f"estimator.widths to these, and further levels after them if you want some, and "
            "estimator.blocks to the same"
        )
    model.load_state_dict(other.state_dict(), strict=False)
    further = range(len(theirs) - 1, len(ours) - 1)
    added = {f"enlarge.{level}." for level in further}
    # What residual blocks add is zero where these are.
    added |= {f"up.{level}.{block}.conv2." for level in further for block in range(sizes.blocks)}
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            if weight_name.startswith(tuple(added)):
                weight.zero_()


Data = Mixture | Loader
"""What an estimator learns from: of a loader, in numpy's arrays, fitted to the network's size."""


class EstimatorTrainer:
    """The loop; resumed, it sees what an uninterrupted one would have seen.

    In several processes each has its part of a step's samples, and the weights are those of one
    process, but for the order of sums.

    Args:
        config: Of the training.
        processes: That train together; see `join_processes`.
        data: To learn from.
        focal: Of a metric training, what a camera that isn't known is taken for; see
            `middle_focal`.

    Attributes:
        model: What is trained.
        state: The step, the weights, and their moving average.

    Raises:
        MfsynthError: The samples of a step can't be shared by the processes, or a focal length is
            missing or of no use.
    """

    def __init__(
        self,
        config: EstimatorConfig,
        processes: Accelerator,
        data: Data,
        focal: float | None = None,
    ) -> None:
        if bool(config.metric) != (focal is not None):
            raise MfsynthError(
                "metric: such a training wants the focal length of cameras that aren't known, and "
                "no other does; see `middle_focal`, or train by `mfsynth train`"
            )
        torch.manual_seed(torch_seed(config.seed))
        self._config = config
        self._processes = processes
        self._data = data
        self._batch_size = share_of_step(config, processes)
        self._in_bfloat16 = config.precision == "bfloat16"
        self._device = processes.device
        sizes = config.estimator
        self.model = DepthEstimator(sizes.widths, sizes.blocks, config.size, focal)
        if config.initial is not None:
            start_as(self.model, config.initial)
        self.model.to(self._device)
        self.model.to(memory_format=torch.channels_last)
        self._forward: nn.Module = self.model
        if processes.num_processes > 1:
            self._forward = DistributedDataParallel(self.model, gradient_as_bucket_view=True)
        trained = dict(self.model.named_parameters())
        self._optimiser = torch.optim.AdamW(
            trained.values(), config.learning_rate, weight_decay=config.weight_decay
        )
        # A loader's state says of which samples it is.
        items = {} if isinstance(data, Loader) else items_of(data)
        # What it starts as may move, but must not change.
        settings = {**settings_of(config, but={"initial"}), "items": items}
        if config.initial is not None:
            settings["initial"] = weights_digest(self.model)
        identity = Identity(settings)
        self._skipped = SkippedSteps("learning_rate")
        self.state = TrainingState(trained, (self._optimiser,), identity)

    def run(self, log: Log) -> None:
        """Train to the configured step, saving checkpoints.

        Args:
            log: Takes lines about the progress.

        Raises:
            MfsynthError: The loss is no number, or its gradient stays none; a sample can't be read,
                or none has valid depth.
        """
        config, state = self._config, self.state
        progress = Progress(state.step, config.steps)
        stream, lost = self._stream(log), LostSamples(state.step, config.steps)
        with fast_on(self._device):
            while state.step < config.steps:
                batch = next(stream)
                loss = self._train_step(batch)
                lost.add(batch, loss)
                progress.add({"depth": loss})
                is_saved = state.step % config.checkpoint_every == 0 or state.step == config.steps
                if state.step % STEPS_PER_LINE == 0 or is_saved:
                    log(progress.line(state.step))
                if is_saved:
                    lost.require_others(state.step)
                    self.save()
        lost.say(self._data if isinstance(self._data, Loader) else None, log)

    def _stream(self, log: Log) -> Iterator[TrainingBatch]:
        """This process's batches, from the present step on."""
        config, processes, data = self._config, self._processes, self._data
        if isinstance(data, Loader):
            return loaded_batches(data)
        return batches(
            data,
            config.seed,
            self._batch_size,
            range(self.state.step, config.steps),
            rank=processes.process_index,
            ranks=processes.num_processes,
            workers=config.workers or 0,
            start_method="spawn",
            log=log,
        )

    def _train_step(self, batch: TrainingBatch) -> float:
        images = batch.rgb.to(self._device).permute(0, 3, 1, 2) / 127.5 - 1
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._in_bfloat16):
            prediction = self._forward(images)
        loss = self.losses(prediction.float(), batch).mean()
        # Gradients are averaged over the processes, too, and all of them stop together.
        of_all = self._processes.reduce(loss.detach(), "mean")
        if not of_all.isfinite():
            raise MfsynthError(
                f"the loss is infinite or NaN at step {self.state.step}; lower learning_rate, and "
                "begin anew in another output"
            )
        loss.backward()
        self._update()
        return of_all.item()

    def losses(self, prediction: Tensor, batch: TrainingBatch) -> Tensor:
        """What is to become small: (B,), of the network's output, float32 (B, H, W)."""
        depth = batch.depth.to(self._device)
        if self.model.config.focal is None:
            return log_depth_loss(prediction, depth)
        return metric_log_depth_loss(prediction, depth, batch.focals.to(self._device))

    def _update(self) -> None:
        config, state = self._config, self.state
        # The same in all processes, as their gradients are.
        norm = torch.nn.utils.clip_grad_norm_(state.trained.values(), MAX_GRADIENT_NORM).item()
        warm = min(1.0, (state.step + 1) / max(1, config.warmup_steps))
        for group in self._optimiser.param_groups:
            group["lr"] = config.learning_rate * warm * (1 - state.step / config.steps)
        state.step += 1
        if not self._skipped.leaves_out(norm, state.step):
            self._optimiser.step()
            state.update_average(config.ema)
        zero_gradients(state.optimisers)

    def save(self) -> None:
        """Replace the checkpoint in the output by the present state, all at once."""
        if isinstance(self._data, Loader):
            self.state.loader = self._data.state_dict()
        self.state.save(self._config.output, is_main=self._processes.is_main_process)
        self._processes.wait_for_everyone()

    def resume(self) -> bool:
        """Take up the newest checkpoint in the output; False where there is none.

        Raises:
            MfsynthError: It is damaged, or of other settings or data.
        """
        if self.state.resume(self._config.output) is None:
            return False
        if isinstance(self._data, Loader):
            try:
                self._data.load_state_dict(self.state.loader or {})
            except MfsynthError as error:
                raise MfsynthError(
                    f"{self._config.output}: {error}; or give this training another output"
                ) from error
        return True

    def export(self, folder: Path) -> None:
        """Write the averaged weights, in bfloat16; the trained ones stay as they are."""
        model = deepcopy(self.model)
        model.load_state_dict(self.state.average)
        model = model.to(memory_format=torch.contiguous_format).bfloat16()
        with staged_folder(folder, over=True) as staged:
            model.save_pretrained(staged)


def share_of_step(config: EstimatorConfig, processes: Accelerator) -> int:
    """How many of a step's samples each process has.

    Raises:
        MfsynthError: They can't be shared.
    """
    share, rest = divmod(config.batch_size, processes.num_processes)
    if rest:
        raise MfsynthError(
            f"batch_size {config.batch_size} can't be shared by {processes.num_processes} "
            "processes; give a multiple of their number"
        )
    return share


def train_estimator(config: EstimatorConfig, log: Log) -> Path:
    """Render, train, export; run again after an interruption, it goes on where it was.

    Started in several processes by `accelerate launch` or `torchrun`, they train together.

    Returns:
        The folder of the finished network, `<output>/model`.
    """
    processes = join_processes()
    if not processes.is_main_process:
        log = quiet
    with processes.local_main_process_first():
        render_scenes(config.data, config.size, log)
        mixture = _mixture(config)
        survey_parts(mixture, log)
    focal = middle_focal(mixture, config.seed) if config.metric else None
    folder = train_on(
        config, _loader(config, processes, mixture, log) or mixture, processes, log, focal
    )
    processes.end_training()
    return folder


def _mixture(config: EstimatorConfig) -> Mixture:
    mixture = open_mixture(config.data, config.size, config.size)
    if config.on_error is not None and runs_of(mixture) is None:
        raise MfsynthError(
            "on_error: is for data of runs alone; of others max_skipped says how much may be broken"
        )
    if config.on_error != "skip":
        return mixture
    # Whoever looks into it before the loader does, does as that.
    parts = (replace(part, tolerance=Tolerance(1.0)) for part in mixture.parts)
    return replace(mixture, parts=tuple(parts))


def _loader(
    config: EstimatorConfig, processes: Accelerator, mixture: Mixture, log: Log
) -> Loader | None:
    """Of a mixture of runs alone."""
    pairs = runs_of(mixture)
    if pairs is None:
        return None
    number = sum(len(part.source) for part in mixture.parts)
    log(f"by mfsynth's loader: {number:,} pairs")
    return pairs.loader(
        share_of_step(config, processes),
        seed=config.seed,
        rank=processes.process_index,
        world_size=processes.num_processes,
        augment=[treatment(mixture, config.seed)],
        workers=config.workers,
        on_error=config.on_error or "raise",
        require_depth=False,
    )


def train_on(
    config: EstimatorConfig,
    data: Data,
    processes: Accelerator,
    log: Log,
    focal: float | None = None,
) -> Path:
    """Train on data that is open, or go on where an interrupted training was, and export.

    Args:
        config: Of the training.
        data: To learn from, of this process.
        processes: That train together.
        log: Takes lines about the progress.
        focal: As of `EstimatorTrainer`.

    Returns:
        The folder of the finished network, `<output>/model`.

    Raises:
        MfsynthError: A checkpoint is of other settings or data, or `run` failed.
    """
    trainer = EstimatorTrainer(config, processes, data, focal)
    if trainer.resume():
        log(f"resumed at step {trainer.state.step} from {config.output}")
    size = trainer.state.size
    log(f"{size / 1e6:.2f} M parameters to train, processes: {processes.num_processes}")
    trainer.run(log)
    folder = config.output / "model"
    if processes.is_main_process:
        trainer.export(folder)
        log(f"model: {folder}")
    processes.wait_for_everyone()
    return folder
