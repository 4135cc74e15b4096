"""The training loop, the same in one process and in many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mfsynth.errors import MfsynthError
from mfsynth.training.build import ModelComponents
from mfsynth.training.checkpoints import (
    AVERAGE,
    BASE,
    MODEL,
    OPTIMISER,
    latest_checkpoint,
    optimiser_state,
    read_part,
    restore_optimisers,
    write_checkpoint,
)
from mfsynth.training.config import OptimiserConfig
from mfsynth.training.cpu import fast_on
from mfsynth.training.data import Mixture, TrainingBatch, batches, collate
from mfsynth.training.joint_model import swapped_weights
from mfsynth.training.losses import health_probe
from mfsynth.training.noise import NoiseRecipe, sample_generators
from mfsynth.training.objective import NoisyBatch, Objective
from mfsynth.training.optimisers import (
    MAX_GRADIENT_NORM,
    build_optimisers,
    is_depth,
    learning_rate_factor,
    rates,
    zero_gradients,
)
from mfsynth.training.optimisers import step as move_weights
from mfsynth.training.processes import distribute, gather_full, shard_like
from mfsynth.training.progress import Log, Progress
from mfsynth.training.sampling import GridSampler, first_with_depth
from mfsynth.training.tensorboard import Board

# The probe's images are the stream's first with depth, at a level where their depth's own noisy
# pixels tell little.
PROBE_IMAGES, PROBE_LEVEL = 16, 0.9

# A step of no finite gradient is left out; that many in a row won't mend themselves.
MAX_SKIPPED_STEPS = 10

PROGRESS_EVERY = 50

Numbered = tuple[Sequence[int], TrainingBatch]
"""A batch, with the numbers of its samples in the training stream."""


class Trainer:
    """Trains a model, and its text encoder where that isn't frozen, in as many processes as join.

    Checkpoints hold the trained weights, their moving average, the optimisers and the step; every
    sample draws its noise from the seed and its number in the stream. So a resumed run sees what
    an uninterrupted one would have seen, and N processes see what one with N times the batch does.
    """

    def __init__(
        self,
        parts: ModelComponents,
        config: OptimiserConfig,
        recipe: NoiseRecipe,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        self.model = parts.model
        if config.gradient_checkpointing:
            self.model.transformer.enable_gradient_checkpointing()
        self._forward = distribute(self.model, config, accelerator)
        # After sharding, which takes block by block there: the whole may not fit.
        parts.to(accelerator.device)
        self._accelerator = accelerator
        self._config = config
        self._recipe = recipe
        self._seed = seed
        self._objective = Objective(parts, config, recipe, seed, accelerator.device)
        self.step = 0
        self._skipped = 0
        self._gradient_norm = 0.0
        self._trained = self.model.trained()
        self.average = {name: p.detach().clone() for name, p in self._trained.items()}
        self._optimisers = build_optimisers(self._trained, config)
        self._base: dict[str, Tensor] | None = None
        if config.distillation is not None and not config.image_steps:
            self._base = self._image_weights()

    def run(
        self,
        data: Mixture,
        folder: Path,
        log: Log,
        board: Board | None = None,
        sampler: GridSampler | None = None,
    ) -> None:
        """Train to the configured step, saving checkpoints.

        Args:
            data: What to train on.
            folder: Of the checkpoints.
            log: Takes lines about the progress.
            board: Takes scalars and pictures, in the main process.
            sampler: Makes the pictures, at every checkpoint and in all processes.

        Raises:
            MfsynthError: The loss stays infinite or NaN, or a sample can't be read.
        """
        config = self._config
        progress = Progress(self.step, config.steps)
        stream = self._stream(data)
        with fast_on(self._accelerator.device):
            while self.step < config.steps:
                if self.step == config.image_steps > 0:
                    self._start_depth()
                progress.add(self._train_step([next(stream) for _ in range(config.accumulate)]))
                is_saved = self.step % config.checkpoint_every == 0 or self.step == config.steps
                if self.step % PROGRESS_EVERY == 0 or is_saved:
                    self._write_scalars(progress, board)
                    log(progress.line(self.step))
                if is_saved:
                    self.save(folder)
                    self._evaluate(data, log, board, sampler)

    def _write_scalars(self, progress: Progress, board: Board | None) -> None:
        if board is None:
            return
        config = self._config
        batch = config.batch_size * config.accumulate * self._accelerator.num_processes
        values = {f"loss/{name}": mean for name, mean in progress.means().items()}
        values |= {f"learning_rate/{name}": rate for name, rate in rates(self._optimisers).items()}
        values["gradient_norm"] = self._gradient_norm
        values["samples_per_second"] = batch / progress.seconds(self.step)
        board.scalars(self.step, values)

    def _evaluate(
        self, data: Mixture, log: Log, board: Board | None, sampler: GridSampler | None
    ) -> None:
        """Probe the model, and sample from its average."""
        if self.step > self._config.image_steps and (probe := self.probe(data)):
            log(f"step {self.step} health probe {probe:.2f} (1: blind to RGB)")
            if board is not None:
                board.scalars(self.step, {"health_probe": probe})
        if sampler is not None:
            with swapped_weights(self.model, self.average), self._objective.precision():
                grids = sampler.grids()
            if board is not None:
                board.images(self.step, grids)

    def _stream(self, data: Mixture) -> Iterator[Numbered]:
        """This process's batches."""
        config, processes = self._config, self._accelerator
        steps = range(self.step * config.accumulate, config.steps * config.accumulate)
        loaded = batches(
            data,
            self._seed,
            config.batch_size,
            steps,
            rank=processes.process_index,
            ranks=processes.num_processes,
            workers=config.workers,
            start_method="spawn",
        )
        for step, batch in zip(steps, loaded, strict=True):
            first = (step * processes.num_processes + processes.process_index) * config.batch_size
            yield range(first, first + config.batch_size), batch

    def _image_weights(self) -> dict[str, Tensor]:
        """What makes the model, with depth left out, the text-to-image model that it is now.

        With adapters, nothing: they are left out, too.
        """
        if self.model.has_adapters:
            return {}
        return {name: value.clone() for name, value in self.average.items() if not is_depth(name)}

    def _start_depth(self) -> None:
        if self._config.distillation is not None:
            self._base = self._image_weights()
        self.model.transformer.init_depth_from_rgb()
        for name, parameter in self._trained.items():
            if is_depth(name):
                self.average[name].copy_(parameter.detach())

    def probe(self, data: Mixture) -> float | None:
        """Whether i2d looks at the image: see `health_probe`; None where hardly any has depth."""
        samples = first_with_depth(data, self._seed, PROBE_IMAGES)
        if len(samples) < 2:
            return None
        batch = collate(samples)
        count = len(samples)
        level = torch.full((count,), PROBE_LEVEL)
        objective = self._objective
        clean = objective.encode_images(batch)
        depth = objective.noisy_depth(batch, level, sample_generators(self._seed, range(count)))
        text = objective.encode_text([""] * count, torch.ones(count, dtype=torch.bool))
        grid = objective.grid(batch)

        def depth_loss(rgb: Tensor) -> Tensor:
            given = NoisyBatch(rgb, rgb, torch.zeros_like(depth.t), text, depth, grid)
            return objective.depth_loss(objective.predict(given), given).mean()

        return health_probe(depth_loss, clean)

    def _train_step(self, loaded: Sequence[Numbered]) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.step)
        drawn = torch.rand((), generator=generator).item() < self._config.image_only_share
        image_only = drawn or self.step < self._config.image_steps
        prepared = [
            self._objective.prepare(batch, numbers, image_only) for numbers, batch in loaded
        ]
        counts = self._total([batch.generated() for batch in prepared])
        counts = {name: count.clamp(min=1) for name, count in counts.items()}
        sums: list[dict[str, Tensor]] = []
        for number, batch in enumerate(prepared, start=1):
            is_last = number == len(prepared)
            with nullcontext() if is_last else self._accelerator.no_sync(self._forward):
                losses = self._losses(batch)
                shares = [loss / counts[name] for name, loss in losses.items()]
                # Gradients are averaged over the processes, and each has its share of the mean.
                (torch.stack(shares).sum() * self._accelerator.num_processes).backward()
            sums.append({name: loss.detach() for name, loss in losses.items()})
        self._update()
        return {name: (total / counts[name]).item() for name, total in self._total(sums).items()}

    def _losses(self, batch: NoisyBatch) -> dict[str, Tensor]:
        return self._objective.losses(self._forward, batch, self.average, self._base)

    def _total(self, parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Sums over this step's batches in all processes."""
        names = list(parts[0])
        sums = torch.stack([torch.stack([part[name] for part in parts]).sum() for name in names])
        return dict(zip(names, self._accelerator.reduce(sums, "sum"), strict=True))

    def _update(self) -> None:
        norm = gather_full(nn.utils.clip_grad_norm_(self._trained.values(), MAX_GRADIENT_NORM))
        factor = learning_rate_factor(self.step, self._config)
        self.step += 1
        self._gradient_norm = norm.item()
        finite = math.isfinite(self._gradient_norm)
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped == MAX_SKIPPED_STEPS:
            raise MfsynthError(
                f"the gradient was infinite or NaN in {MAX_SKIPPED_STEPS} steps in a row, to step "
                f"{self.step}; lower the learning rates and run again from the last checkpoint"
            )
        if finite:
            move_weights(self._optimisers, factor)
            self._update_average()
        zero_gradients(self._optimisers)

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early on, a short memory: the random initial weights must not linger in the average.
        decay = min(self._config.ema, (1 + self.step) / (10 + self.step))
        for name, parameter in self._trained.items():
            self.average[name].lerp_(parameter.detach(), 1 - decay)

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in `folder` by the present state, all at once."""
        parts = {
            MODEL: {name: parameter.detach() for name, parameter in self._trained.items()},
            AVERAGE: self.average,
            OPTIMISER: optimiser_state(self._optimisers, self._trained),
        }
        # A pretrained base is there again when training is started again.
        if self._base and self._config.image_steps:
            parts[BASE] = self._base
        write_checkpoint(folder, self.step, parts, self._accelerator.is_main_process)
        self._accelerator.wait_for_everyone()

    def resume(self, folder: Path) -> bool:
        """Take up the newest checkpoint in `folder`; False where there is none."""
        latest = latest_checkpoint(folder)
        if latest is None:
            return False
        self.step, checkpoint = latest
        with torch.no_grad():
            for name, value in read_part(checkpoint, MODEL):
                self._trained[name].copy_(shard_like(value, self._trained[name]))
            for name, value in read_part(checkpoint, AVERAGE):
                self.average[name].copy_(shard_like(value, self._trained[name]))
            base = {
                n: shard_like(value, self._trained[n]) for n, value in read_part(checkpoint, BASE)
            }
        self._base = base or self._base
        restore_optimisers(self._optimisers, self._trained, read_part(checkpoint, OPTIMISER))
        return True
