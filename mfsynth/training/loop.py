"""The training loop, the same in one process and in many, whatever it is that is learnt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from mfsynth.training.config import LoopConfig
from mfsynth.training.cpu import fast_on
from mfsynth.training.identity import Identity, loop_settings
from mfsynth.training.joint_model import JointModel, swapped_weights
from mfsynth.training.optimisers import (
    MAX_GRADIENT_NORM,
    Optimisers,
    learning_rate_factor,
    rates,
    zero_gradients,
)
from mfsynth.training.optimisers import step as move_weights
from mfsynth.training.processes import gather_full
from mfsynth.training.progress import STEPS_PER_LINE, Log, Progress
from mfsynth.training.skipped_steps import SkippedSteps
from mfsynth.training.state import TrainingState
from mfsynth.training.tensorboard import Board

_Data = TypeVar("_Data")
_Loaded = TypeVar("_Loaded")
_Prepared = TypeVar("_Prepared")


class Sampler(Protocol):
    """Makes pictures with the model that is trained."""

    def grids(self, step: int, /) -> dict[str, NDArray[np.uint8]]:
        """Pictures (H, W, 3) by their tags, of the model as it is after so many steps."""


class TrainingLoop(ABC, Generic[_Data, _Loaded, _Prepared]):
    """Moves weights by the gradients of losses, in as many processes as join, and keeps them safe.

    Checkpoints hold the trained weights, their moving average, the optimisers and the step. What
    is learnt is a subclass's: how batches are loaded and prepared, and their losses.

    Args:
        model: What is trained, placed and distributed.
        forward: What to call for its forwards with gradients.
        optimisers: Of its trained weights.
        config: Steps and rates.
        processes: That train together.
        beside: What decides the weights beside these, as JSON values; see `Identity`.

    Attributes:
        model: What is trained.
        state: The step, the weights, and their moving average.
    """

    def __init__(
        self,
        model: JointModel,
        forward: Any,
        optimisers: Optimisers,
        config: LoopConfig,
        processes: Accelerator,
        beside: Mapping[str, Any],
    ) -> None:
        self.model = model
        settings = {**beside, "optimiser": loop_settings(config, processes.num_processes)}
        self.state = TrainingState(model.trained(), optimisers, Identity(settings, config))
        self._forward = forward
        self._loop = config
        self._processes = processes
        self._skipped = SkippedSteps("the learning rates")
        self._gradient_norm = 0.0

    @abstractmethod
    def _stream(self, data: _Data, log: Log) -> Iterator[_Loaded]:
        """This process's batches, from the present step on; what is left out is logged."""

    @abstractmethod
    def _prepare(self, loaded: Sequence[_Loaded], step: int) -> list[_Prepared]:
        """Make every random choice of a step's batches, on the device."""

    @abstractmethod
    def _counts(self, batch: _Prepared) -> dict[str, Tensor]:
        """Of each loss, how many samples it is taken over."""

    @abstractmethod
    def _loss_sums(self, batch: _Prepared) -> dict[str, Tensor]:
        """The sum over a batch's samples of each loss, with gradient."""

    @abstractmethod
    def _precision(self) -> AbstractContextManager[Any]:
        """The precision of forwards."""

    def _begin_step(self) -> None:
        """Change what is trained, where a phase ends."""

    def _more_scalars(self) -> dict[str, float]:
        """What else goes to the board; called in all processes."""
        return {}

    def _kept(self) -> Mapping[str, Tensor] | None:
        """Weights beside the trained ones that a resumed training needs again."""
        return None

    def _restore(self, kept: dict[str, Tensor]) -> None:
        """Take up what `_kept` gave."""

    def run(
        self,
        data: _Data,
        folder: Path,
        log: Log,
        board: Board | None = None,
        sampler: Sampler | None = None,
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
        config, state = self._loop, self.state
        progress = Progress(state.step, config.total_steps)
        stream = self._stream(data, log)
        with fast_on(self._processes.device):
            prepared = self._next(stream, state.step)
            while state.step < config.total_steps:
                self._begin_step()
                losses, prepared = self._train_step(prepared, stream)
                progress.add(losses)
                is_last = state.step == config.total_steps
                is_saved = is_last or state.step % config.checkpoint_every == 0
                if state.step % STEPS_PER_LINE == 0 or is_saved:
                    self._write_scalars(progress, board)
                    log(progress.line(state.step))
                if is_saved:
                    self.save(folder)
                    self._evaluate(data, log, board, sampler)

    def _write_scalars(self, progress: Progress, board: Board | None) -> None:
        more = self._more_scalars()
        if board is None:
            return
        config, state = self._loop, self.state
        batch = config.batch_size * config.accumulate * self._processes.num_processes
        values = {f"loss/{name}": mean for name, mean in progress.means().items()}
        values |= {f"learning_rate/{name}": rate for name, rate in rates(state.optimisers).items()}
        values |= more
        values["gradient_norm"] = self._gradient_norm
        values["samples_per_second"] = batch / progress.seconds(state.step)
        board.scalars(state.step, values)

    def _evaluate(
        self, data: _Data, log: Log, board: Board | None, sampler: Sampler | None
    ) -> None:
        """Sample from the average of the weights."""
        if sampler is not None:
            with swapped_weights(self.model, self.state.average), self._precision():
                grids = sampler.grids(self.state.step)
            if board is not None:
                board.images(self.state.step, grids)

    def _next(self, stream: Iterator[_Loaded], step: int) -> list[_Prepared]:
        """What a step takes; nothing after the last."""
        if step >= self._loop.total_steps:
            return []
        return self._prepare([next(stream) for _ in range(self._loop.accumulate)], step)

    def _train_step(
        self, prepared: Sequence[_Prepared], stream: Iterator[_Loaded]
    ) -> tuple[dict[str, float], list[_Prepared]]:
        """Take a step; its mean losses, and what the next one takes."""
        counts = self._total([self._counts(batch) for batch in prepared])
        counts = {name: count.clamp(min=1) for name, count in counts.items()}
        totals: list[dict[str, Tensor]] = []
        for number, batch in enumerate(prepared, start=1):
            is_last = number == len(prepared)
            with nullcontext() if is_last else self._processes.no_sync(self._forward):
                sums = self._loss_sums(batch)
                shares = [loss / counts[name] for name, loss in sums.items()]
                # Gradients are averaged over the processes, and each has its share of the mean.
                (torch.stack(shares).sum() * self._processes.num_processes).backward()
            totals.append({name: loss.detach() for name, loss in sums.items()})
        losses = self._total(totals)
        # While a GPU is at the gradients, which the update waits for.
        following = self._next(stream, self.state.step + 1)
        self._update()
        return {name: (total / counts[name]).item() for name, total in losses.items()}, following

    def _total(self, values: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Sums over this step's batches in all processes."""
        names = list(values[0])
        sums = torch.stack([torch.stack([of[name] for of in values]).sum() for name in names])
        return dict(zip(names, self._processes.reduce(sums, "sum"), strict=True))

    def _update(self) -> None:
        state = self.state
        norm = gather_full(nn.utils.clip_grad_norm_(state.trained.values(), MAX_GRADIENT_NORM))
        factor = learning_rate_factor(state.step, self._loop)
        state.step += 1
        self._gradient_norm = norm.item()
        if not self._skipped.leaves_out(self._gradient_norm, state.step):
            move_weights(state.optimisers, factor)
            state.update_average(self._loop.ema)
        zero_gradients(state.optimisers)

    def save(self, folder: Path) -> None:
        """Replace the checkpoint in `folder` by the present state, all at once."""
        self.state.save(folder, is_main=self._processes.is_main_process, base=self._kept())
        self._processes.wait_for_everyone()

    def resume(self, folder: Path) -> bool:
        """Take up the newest checkpoint in `folder`; False where there is none.

        Raises:
            MfsynthError: It is damaged, or of other settings.
        """
        kept = self.state.resume(folder)
        if kept is None:
            return False
        self._restore(kept)
        return True
