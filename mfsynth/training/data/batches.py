"""Batches of a mixture, made by data loading workers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mfsynth.errors import MfsynthError
from mfsynth.training.data.mixture import Mixture
from mfsynth.training.data.resize_crop import SkippedItem, TrainingSample
from mfsynth.training.invalid_depth import fill_invalid

StartMethod = Literal["fork", "spawn", "forkserver"]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBatch:
    """Samples side by side.

    Attributes:
        rgb: uint8 (B, H, W, 3).
        depth: float32 (B, H, W), 0 = invalid; all 0 exactly for samples without depth.
        captions: B strings.
        focals: float32 (B,): focal length in units of the image's width; nan where the camera isn't
            known.
        skipped: Items that can't be read, in whose place others are.
        filled: float32 (B, H, W), depth as by `fill_invalid`; None where nobody asked for it.
    """

    rgb: Tensor
    depth: Tensor
    captions: tuple[str, ...]
    focals: Tensor
    skipped: tuple[SkippedItem, ...] = ()
    filled: Tensor | None = None

    def pin_memory(self) -> TrainingBatch:
        """The same, from where a GPU copies while this process goes on."""
        return replace(
            self,
            rgb=self.rgb.pin_memory(),
            depth=self.depth.pin_memory(),
            filled=None if self.filled is None else self.filled.pin_memory(),
        )

    @property
    def has_depth(self) -> Tensor:
        """Bool (B,): whether a sample has a valid depth anywhere."""
        return self.depth.flatten(1).any(dim=1)


def collate(samples: Sequence[TrainingSample]) -> TrainingBatch:
    """Put samples of one size into a batch."""
    return TrainingBatch(
        rgb=torch.from_numpy(np.stack([sample.rgb for sample in samples])),
        depth=torch.from_numpy(
            np.stack(
                [
                    np.zeros(sample.rgb.shape[:2], np.float32)
                    if sample.depth is None
                    else sample.depth
                    for sample in samples
                ]
            )
        ),
        captions=tuple(sample.caption for sample in samples),
        focals=torch.tensor([focal_of(sample) for sample in samples]),
        skipped=tuple(one for sample in samples for one in sample.skipped),
    )


def focal_of(sample: TrainingSample) -> float:
    """Focal length in units of the image's width; nan where the camera isn't known."""
    camera = sample.intrinsics
    return math.nan if camera is None else camera.fx / sample.rgb.shape[1]


def batches(
    mixture: Mixture,
    seed: int,
    batch_size: int,
    steps: Iterable[int],
    *,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 0,
    start_method: StartMethod | None = None,
    filled: bool = False,
    pinned: bool = False,
    log: Callable[[str], None] | None = None,
) -> Iterator[TrainingBatch]:
    """The batch of each step.

    Row r of step s on rank k of K is sample ((s · K) + k) · batch_size + r of the mixture's
    stream: it depends on nothing else, so a run resumed at a step sees what an uninterrupted one
    would have seen, with any number of workers.

    Args:
        mixture: What to draw from.
        seed: Of the stream.
        batch_size: Samples of this rank in a step.
        steps: For example range(resumed, last).
        rank: This process among those that train together.
        ranks: How many train together.
        workers: Processes that load ahead; 0 for this process itself.
        start_method: How they start; None for torch's way. Simulator images rendered on demand
            need spawn where this process has rendered before.
        filled: Whether depth is to be there filled, too.
        pinned: Whether a GPU is to get them.
        log: Takes a line for each item that is left out, for it can't be read.

    Raises:
        MfsynthError: More items can't be read than the mixture's tolerance has; one line, also
            from a worker.
    """
    loader = DataLoader(
        _Stream(mixture, seed),
        batch_sampler=_Rows(steps, batch_size, rank, ranks),
        num_workers=workers,
        collate_fn=_CollateOrFail(filled),
        multiprocessing_context=start_method if workers else None,
        worker_init_fn=_be_one_thread,
        pin_memory=pinned,
    )
    skipped: dict[SkippedItem, None] = {}
    for batch in loader:
        if isinstance(batch, MfsynthError):
            raise batch
        for one in batch.skipped:
            if one not in skipped:
                skipped[one] = None
                mixture.require_few(skipped)
                if log is not None:
                    log(f"left out, {len(skipped)} so far: {one.what.reason}")
        yield batch


class _Stream(torch.utils.data.Dataset[TrainingSample | MfsynthError]):
    """Errors are values here: raised in a worker, they would come with a traceback for text."""

    def __init__(self, mixture: Mixture, seed: int) -> None:
        self._mixture = mixture
        self._seed = seed

    def __getitem__(self, index: int) -> TrainingSample | MfsynthError:
        try:
            return self._mixture.sample(self._seed, index)
        except MfsynthError as error:
            return error


@dataclass(frozen=True, slots=True)
class _CollateOrFail:
    filled: bool

    def __call__(
        self, rows: Sequence[TrainingSample | MfsynthError]
    ) -> TrainingBatch | MfsynthError:
        samples: list[TrainingSample] = []
        for row in rows:
            if isinstance(row, MfsynthError):
                return row
            samples.append(row)
        batch = collate(samples)
        return replace(batch, filled=fill_invalid(batch.depth)) if self.filled else batch


@dataclass(frozen=True, slots=True)
class _Rows:
    steps: Iterable[int]
    batch_size: int
    rank: int
    ranks: int

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = (step * self.ranks + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def _be_one_thread(worker: int) -> None:
    # OpenCV's thread pool doesn't survive a fork, and workers share the cores anyway.
    cv2.setNumThreads(0)
