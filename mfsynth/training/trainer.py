"""Trains a Modality Forcing model: images alone first, then images and depth together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from mfsynth.models.acceleration.compilation import compile_blocks, compiles
from mfsynth.training.build import ModelComponents
from mfsynth.training.config import NoiseConfig, OptimiserConfig
from mfsynth.training.data import Mixture, TrainingBatch
from mfsynth.training.data.batches import batches
from mfsynth.training.errors_by_level import no_errors, scalars
from mfsynth.training.health import health_probe
from mfsynth.training.identity import settings_of
from mfsynth.training.loop import Sampler, TrainingLoop
from mfsynth.training.noise import torch_seed
from mfsynth.training.objective import BatchLosses, NoisyBatch, Objective
from mfsynth.training.optimisers import build_optimisers, is_depth, sees_depth_level
from mfsynth.training.processes import distribute
from mfsynth.training.progress import Log
from mfsynth.training.tensorboard import Board

Numbered = tuple[Sequence[int], TrainingBatch]
"""A batch, with the numbers of its samples in the training stream."""


class Trainer(TrainingLoop[Mixture, Numbered, NoisyBatch]):
    """Trains a model, and its text encoder where that isn't frozen.

    Every sample draws its noise from the seed and its number in the stream. So a resumed run sees
    what an uninterrupted one would have seen, and N processes see what one with N times the batch
    does.

    Args:
        components: The models; they are placed, and sharded where the configuration says so.
        config: Steps, rates and losses.
        noise: How noise levels are drawn.
        seed: Of data and noise.
        processes: That train together.
        beside: What else decides the weights, as JSON values: what the models and the data are.
    """

    def __init__(
        self,
        components: ModelComponents,
        config: OptimiserConfig,
        noise: NoiseConfig,
        seed: int,
        processes: Accelerator,
        beside: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        model = components.model
        if config.gradient_checkpointing:
            model.transformer.enable_gradient_checkpointing()
        if compiles(bool(config.compile), processes.device, "optimiser.compile"):
            compile_blocks(model.transformer)
        forward = distribute(model, config, processes)
        # After sharding, which takes block by block there: the whole may not fit.
        components.to(processes.device)
        super().__init__(
            model,
            forward,
            build_optimisers(model.trained(), config),
            config,
            processes,
            {**beside, "seed": seed, "noise": settings_of(noise)},
        )
        self._config = config
        self._seed = seed
        self._objective = Objective(components, config, noise, seed, processes.device)
        # Of this process, since the last line.
        self._by_level = no_errors(processes.device)
        initial = components.initial
        self._mixes = initial is not None and initial.mixes_without_depth
        self._base: dict[str, Tensor] | None = None
        if config.distillation is not None and not config.image_steps:
            self._base = self._image_weights()

    def _begin_step(self) -> None:
        if self.state.step == self._config.image_steps > 0:
            self._start_depth()

    def _more_scalars(self) -> dict[str, float]:
        by_level = self._processes.reduce(self._by_level, "sum")
        self._by_level = torch.zeros_like(self._by_level)
        return dict(scalars(by_level))

    def _evaluate(
        self, data: Mixture, log: Log, board: Board | None, sampler: Sampler | None
    ) -> None:
        """Probe the model, and sample from its average."""
        step = self.state.step
        # Compiled blocks would be compiled again for batches of other sizes.
        with torch.compiler.set_stance("force_eager"):
            if step > self._config.image_steps:
                probe = health_probe(self._objective, data, self._seed)
                if probe is not None:
                    log(f"step {step} health probe {probe:.2f} (1: blind to RGB)")
                    if board is not None:
                        board.scalars(step, {"health_probe": probe})
            super()._evaluate(data, log, board, sampler)

    def _stream(self, data: Mixture, log: Log) -> Iterator[Numbered]:
        """This process's batches."""
        config, processes = self._config, self._processes
        first, depth_starts, last = (
            step * config.accumulate
            for step in (self.state.step, config.image_steps, config.total_steps)
        )
        phases = (
            (range(first, depth_starts), data.images_alone(), False),
            (range(max(first, depth_starts), last), data, True),
        )
        for steps, mixture, has_depth in phases:
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
                filled=has_depth,
                pinned=processes.device.type == "cuda",
                log=log,
            )
            for step, batch in zip(steps, loaded, strict=True):
                row = (step * processes.num_processes + processes.process_index) * config.batch_size
                yield range(row, row + config.batch_size), batch

    def _image_weights(self) -> dict[str, Tensor]:
        """What makes the model, with depth left out, the text-to-image model that it is now.

        With adapters, what RGB sees of depth's level at most: they are left out, too.
        """

        def is_used(name: str) -> bool:
            if is_depth(name):
                return self._mixes and sees_depth_level(name)
            return not self.model.has_adapters

        average = self.state.average
        return {name: value.clone() for name, value in average.items() if is_used(name)}

    def _start_depth(self) -> None:
        if self._config.distillation is not None:
            self._base = self._image_weights()
        self.model.transformer.init_depth_from_rgb()
        for name, parameter in self.state.trained.items():
            if is_depth(name):
                self.state.average[name].copy_(parameter.detach())

    def _prepare(self, loaded: Sequence[Numbered], step: int) -> list[NoisyBatch]:
        generator = torch.Generator().manual_seed(torch_seed(self._seed * 1_000_003 + step))
        drawn = torch.rand((), generator=generator).item() < self._config.image_only_share
        image_only = drawn or step < self._config.image_steps
        return [self._objective.prepare(batch, numbers, image_only) for numbers, batch in loaded]

    def _counts(self, batch: NoisyBatch) -> dict[str, Tensor]:
        return batch.generated()

    def _loss_sums(self, batch: NoisyBatch) -> dict[str, Tensor]:
        losses = self._losses(batch)
        self._by_level += losses.by_level
        return losses.sums

    def _losses(self, batch: NoisyBatch) -> BatchLosses:
        return self._objective.losses(self._forward, batch, self.state.average, self._base)

    def _precision(self) -> torch.autocast:
        return self._objective.precision()

    def _kept(self) -> Mapping[str, Tensor] | None:
        # A pretrained base is there again when training is started again.
        return self._base if self._config.image_steps else None

    def _restore(self, kept: dict[str, Tensor]) -> None:
        self._base = kept or self._base
