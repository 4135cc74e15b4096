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
from mfsynth.training.config import OptimiserConfig
from mfsynth.training.cpu import fast_on
from mfsynth.training.data import Mixture, TrainingBatch, batches
from mfsynth.training.errors_by_level import no_errors, scalars
from mfsynth.training.health import health_probe
from mfsynth.training.joint_model import swapped_weights
from mfsynth.training.noise import NoiseConfig
from mfsynth.training.objective import BatchLosses, NoisyBatch, Objective
from mfsynth.training.optimisers import (
    MAX_GRADIENT_NORM,
    build_optimisers,
    is_depth,
    learning_rate_factor,
    rates,
    zero_gradients,
)
from mfsynth.training.optimisers import step as move_weights
from mfsynth.training.processes import distribute, gather_full
from mfsynth.training.progress import STEPS_PER_LINE, Log, Progress
from mfsynth.training.sample_grids import GridSampler
from mfsynth.training.state import TrainingState
from mfsynth.training.tensorboard import Board

# A step of no finite gradient is left out; that many in a row won't mend themselves.
MAX_SKIPPED_STEPS = 10

Numbered = tuple[Sequence[int], TrainingBatch]
"""A batch, with the numbers of its samples in the training stream."""


class Trainer:
    """Trains a model, and its text encoder where that isn't frozen, in as many processes as join.

    Checkpoints hold the trained weights, their moving average, the optimisers and the step; every
    sample draws its noise from the seed and its number in the stream. So a resumed run sees what
    an uninterrupted one would have seen, and N processes see what one with N times the batch does.

    Args:
        components: The models; they are placed, and sharded where the configuration says so.
        config: Steps, rates and losses.
        noise: How noise levels are drawn.
        seed: Of data and noise.
        processes: That train together.

    Attributes:
        model: What is trained.
        state: The step, the weights, and their moving average.
    """

    def __init__(
        self,
        components: ModelComponents,
        config: OptimiserConfig,
        noise: NoiseConfig,
        seed: int,
        processes: Accelerator,
    ) -> None:
        self.model = components.model
        if config.gradient_checkpointing:
            self.model.transformer.enable_gradient_checkpointing()
        self._forward = distribute(self.model, config, processes)
        # After sharding, which takes block by block there: the whole may not fit.
        components.to(processes.device)
        self._processes = processes
        self._config = config
        self._seed = seed
        self._objective = Objective(components, config, noise, seed, processes.device)
        trained = self.model.trained()
        self.state = TrainingState(trained, build_optimisers(trained, config))
        self._skipped = 0
        self._gradient_norm = 0.0
        # Of this process, since the last line.
        self._by_level = no_errors(processes.device)
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
        config, state = self._config, self.state
        progress = Progress(state.step, config.steps)
        stream = self._stream(data)
        with fast_on(self._processes.device):
            while state.step < config.steps:
                if state.step == config.image_steps > 0:
                    self._start_depth()
                progress.add(self._train_step([next(stream) for _ in range(config.accumulate)]))
                is_saved = state.step % config.checkpoint_every == 0 or state.step == config.steps
                if state.step % STEPS_PER_LINE == 0 or is_saved:
                    self._write_scalars(progress, board)
                    log(progress.line(state.step))
                if is_saved:
                    self.save(folder)
                    self._evaluate(data, log, board, sampler)

    def _write_scalars(self, progress: Progress, board: Board | None) -> None:
        # In all processes, of which one has a board.
        by_level = self._processes.reduce(self._by_level, "sum")
        self._by_level = torch.zeros_like(self._by_level)
        if board is None:
            return
        config, state = self._config, self.state
        batch = config.batch_size * config.accumulate * self._processes.num_processes
        values = {f"loss/{name}": mean for name, mean in progress.means().items()}
        values |= {f"learning_rate/{name}": rate for name, rate in rates(state.optimisers).items()}
        values |= scalars(by_level)
        values["gradient_norm"] = self._gradient_norm
        values["samples_per_second"] = batch / progress.seconds(state.step)
        board.scalars(state.step, values)

    def _evaluate(
        self, data: Mixture, log: Log, board: Board | None, sampler: GridSampler | None
    ) -> None:
        """Probe the model, and sample from its average."""
        step = self.state.step
        if step > self._config.image_steps:
            probe = health_probe(self._objective, data, self._seed)
            if probe is not None:
                log(f"step {step} health probe {probe:.2f} (1: blind to RGB)")
                if board is not None:
                    board.scalars(step, {"health_probe": probe})
        if sampler is not None:
            with swapped_weights(self.model, self.state.average), self._objective.precision():
                grids = sampler.grids()
            if board is not None:
                board.images(step, grids)

    def _stream(self, data: Mixture) -> Iterator[Numbered]:
        """This process's batches."""
        config, processes = self._config, self._processes
        first, depth_starts, last = (
            step * config.accumulate for step in (self.state.step, config.image_steps, config.steps)
        )
        phases = (
            (range(first, depth_starts), data.images_alone()),
            (range(max(first, depth_starts), last), data),
        )
        for steps, mixture in phases:
            if not steps:
                continue
            loaded = batches(
                mixture,
                self._seed,
                config.batch_size,
                steps,
                rank=processes.process_index,
                ranks=processes.num_processes,
                workers=config.workers,
                start_method="spawn",
            )
            for step, batch in zip(steps, loaded, strict=True):
                row = (step * processes.num_processes + processes.process_index) * config.batch_size
                yield range(row, row + config.batch_size), batch

    def _image_weights(self) -> dict[str, Tensor]:
        """What makes the model, with depth left out, the text-to-image model that it is now.

        With adapters, nothing: they are left out, too.
        """
        if self.model.has_adapters:
            return {}
        average = self.state.average
        return {name: value.clone() for name, value in average.items() if not is_depth(name)}

    def _start_depth(self) -> None:
        if self._config.distillation is not None:
            self._base = self._image_weights()
        self.model.transformer.init_depth_from_rgb()
        for name, parameter in self.state.trained.items():
            if is_depth(name):
                self.state.average[name].copy_(parameter.detach())

    def _train_step(self, loaded: Sequence[Numbered]) -> dict[str, float]:
        step = self.state.step
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        drawn = torch.rand((), generator=generator).item() < self._config.image_only_share
        image_only = drawn or step < self._config.image_steps
        prepared = [
            self._objective.prepare(batch, numbers, image_only) for numbers, batch in loaded
        ]
        counts = self._total([batch.generated() for batch in prepared])
        counts = {name: count.clamp(min=1) for name, count in counts.items()}
        sums: list[dict[str, Tensor]] = []
        for number, batch in enumerate(prepared, start=1):
            is_last = number == len(prepared)
            with nullcontext() if is_last else self._processes.no_sync(self._forward):
                losses = self._losses(batch)
                shares = [loss / counts[name] for name, loss in losses.sums.items()]
                # Gradients are averaged over the processes, and each has its share of the mean.
                (torch.stack(shares).sum() * self._processes.num_processes).backward()
            sums.append({name: loss.detach() for name, loss in losses.sums.items()})
            self._by_level += losses.by_level
        self._update()
        return {name: (total / counts[name]).item() for name, total in self._total(sums).items()}

    def _losses(self, batch: NoisyBatch) -> BatchLosses:
        return self._objective.losses(self._forward, batch, self.state.average, self._base)

    def _total(self, values: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Sums over this step's batches in all processes."""
        names = list(values[0])
        sums = torch.stack([torch.stack([of[name] for of in values]).sum() for name in names])
        return dict(zip(names, self._processes.reduce(sums, "sum"), strict=True))

    def _update(self) -> None:
        state = self.state
        norm = gather_full(nn.utils.clip_grad_norm_(state.trained.values(), MAX_GRADIENT_NORM))
        factor = learning_rate_factor(state.step, self._config)
        state.step += 1
        self._gradient_norm = norm.item()
        finite = math.isfinite(self._gradient_norm)
        self._skipped = 0 if finite else self._skipped + 1
        if self._skipped == MAX_SKIPPED_STEPS:
            raise MfsynthError(
                f"the gradient was infinite or NaN in {MAX_SKIPPED_STEPS} steps in a row, to step "
                f"{state.step}; lower the learning rates and run again from the last checkpoint"
            )
        if finite:
            move_weights(state.optimisers, factor)
            state.update_average(self._config.ema)
        zero_gradients(state.optimisers)

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in `folder` by the present state, all at once."""
        # A pretrained base is there again when training is started again.
        base = self._base if self._config.image_steps else None
        self.state.save(folder, is_main=self._processes.is_main_process, base=base)
        self._processes.wait_for_everyone()

    def resume(self, folder: Path) -> bool:
        """Take up the newest checkpoint in `folder`; False where there is none."""
        base = self.state.resume(folder)
        if base is None:
            return False
        self._base = base or self._base
        return True
