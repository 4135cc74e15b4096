"""Batches of a data set for a training: in an order that never depends on who shares the work.

```python
loader = dataset.loader(batch_size=32, seed=0, rank=rank, world_size=world_size)
for epoch in range(10):
    for batch in loader:            # one epoch
        ...
        state = loader.state_dict() # small and plain: save it with the model's
loader.load_state_dict(state)       # goes on behind the last batch that was handed out
```

Step s of an epoch hands out the positions [s·B·W, (s + 1)·B·W) of its order, B of them in a row to
each of W ranks. A state counts positions that were handed out, not those that were read ahead, so
that it is exact, also for another B or W.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from typing import Any, Literal, Protocol

import numpy as np

from mfsynth.datasets.augmentations import Augmentation
from mfsynth.datasets.collating import (
    FIELDS,
    LABELS,
    Batch,
    require_labels,
    stacked,
    tensors_of,
    to_arrays,
)
from mfsynth.datasets.frames import BufferPool, Frames
from mfsynth.datasets.order import LastTwo, Rows
from mfsynth.datasets.samples import RGBDSample
from mfsynth.errors import MfsynthError
from mfsynth.processes import usable_cores
from mfsynth.storage.digests import sha256_of_bytes

_STATE_VERSION = 1
# For a sample that can't be read: of a data set of which so many in a row can't, nothing is fine.
_SUBSTITUTES = 16


class Order(Protocol):
    """A permutation of a data set's samples, or a mixture of several."""

    def rows(self, start: int, stop: int) -> Rows:
        """Numbers of the samples at positions; it begins again behind the end of an epoch."""


class Loadable(Protocol):
    """The part of a data set that a loader needs."""

    @property
    def digest(self) -> str:
        """Of which samples these are, and in which order."""

    @property
    def reads_labels(self) -> bool:
        """Whether samples come with their labels, where they have some."""

    def __len__(self) -> int: ...

    def load(
        self, numbers: Sequence[int], frames: Frames | None = None
    ) -> list[RGBDSample | MfsynthError]:
        """Samples, perhaps in these frames; in place of one that can't be read, why."""

    def order(self, seed: int, epoch: int, block: int, shuffle: bool) -> Order:
        """In which an epoch goes through it."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What makes batches out of positions; sent to other processes.

    Attributes:
        dataset: To read from.
        seed: Of order and augmentations.
        block: Of `Order`.
        shuffle: Of `Order`.
        fields: What a batch has of its samples.
        augment: What is done to samples, one after the other.
        skips: Whether another sample takes the place of one that can't be read.
        requires_depth: Whether one without any valid depth counts as such.
        pool: Memory for batches.
        orders: Of the epochs that are gone through.
    """

    dataset: Loadable
    seed: int
    block: int
    shuffle: bool
    fields: Sequence[str]
    augment: Sequence[Augmentation]
    skips: bool
    requires_depth: bool
    pool: BufferPool = field(default_factory=BufferPool)
    orders: LastTwo[Order] = field(default_factory=LastTwo)

    def rows(self, epoch: int, start: int, stop: int) -> list[int]:
        """Numbers of the samples at positions of an epoch."""
        return self.orders.of(epoch, self._order).rows(start, stop).tolist()

    def _order(self, epoch: int) -> Order:
        return self.dataset.order(self.seed, epoch, self.block, self.shuffle)

    def batch(self, epoch: int, positions: range) -> tuple[Batch, list[str]]:
        """The batch at positions of an epoch's order, and what was skipped, in words."""
        rows = self.rows(epoch, positions.start, positions.stop)
        frames = None if self.augment else Frames(len(rows), self.pool)
        found = self.dataset.load(rows, frames)
        skipped = []
        samples = []
        for position, sample in zip(positions, map(self._usable, found), strict=True):
            if isinstance(sample, MfsynthError):
                if not self.skips:
                    raise sample
                skipped.append(str(sample))
                sample = self._substitute(epoch, position, sample)
            if self.augment:
                rng = np.random.default_rng([self.seed, epoch, position])
                for change in self.augment:
                    sample = change(sample, rng)
            samples.append(to_arrays(sample, self.fields))
        # Of a sample that was skipped, the room has what came of it.
        together = None if frames is None or skipped else frames.whole
        return stacked(samples, {} if together is None else together._asdict()), skipped

    def _usable(self, sample: RGBDSample | MfsynthError) -> RGBDSample | MfsynthError:
        """As it is; an error if it lacks a label that is wanted, or depth that is required.

        Without any, its loss may be no number.
        """
        if isinstance(sample, MfsynthError):
            return sample
        try:
            require_labels(sample, self.fields)
        except MfsynthError as error:
            return error
        if not self.requires_depth or sample.valid.any():
            return sample
        return MfsynthError(
            f"{sample.sample_id} has no valid depth; on_error='skip' takes another in its place, "
            "require_depth=False is for losses that make 0 of it"
        )

    def _substitute(self, epoch: int, position: int, error: MfsynthError) -> RGBDSample:
        # From the other end of the epoch: neighbours are likely to be lost with it.
        far = position + len(self.dataset) // 2
        for row in self.rows(epoch, far, far + _SUBSTITUTES):
            sample = self._usable(self.dataset.load([row])[0])
            if not isinstance(sample, MfsynthError):
                return sample
        raise MfsynthError(f"{_SUBSTITUTES} samples in a row can't be read; the first: {error}")


class Loader:
    """Batches of a data set; see the module. An iterator of one epoch at a time.

    Args:
        dataset: To read from; of at least `batch_size` · `world_size` samples, if its rest is
            dropped.
        batch_size: Samples in a batch of each rank.
        seed: Of order and augmentations; from 0.
        shuffle: False for the samples in their order.
        block: Neighbours that stay together in the order, and are read at once; 1 for none.
        rank: This process' number among those that share the work.
        world_size: How many share it.
        tail: What becomes of samples that don't fill a step: they are dropped, or the step is
            padded with the first ones of the epoch. All ranks have equally many batches either way.
        workers: How many read and decode; 0 for the calling thread itself.
        kind: `threads`, or `processes`, which are spawned, for augmentations in Python.
        prefetch: Batches that a worker is ahead.
        on_error: `skip` puts another sample in the place of one that can't be read, and counts it
            in `skipped`.
        require_depth: Whether a sample without any valid depth counts as one that can't be read,
            if `fields` have depth, before `augment`; False for losses that are 0 of it and not NaN.
        fields: Of `RGBDSample`, what a batch has.
        augment: What is done to samples, in order; its chance is of seed, epoch and position.
        to: `numpy`; or `torch`, as `mfsynth.datasets.to_tensors` has it.
        pin_memory: For `torch`: whether batches lie in pinned memory, where there is a GPU.

    Attributes:
        epoch: The epoch that the next batch is of, from 0.
        skipped: Samples that could not be read, in the batches handed out.
        last_skipped: Why, for the last of them; None if there is none.
    """

    def __init__(
        self,
        dataset: Loadable,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        block: int = 16,
        rank: int = 0,
        world_size: int = 1,
        tail: Literal["drop", "pad"] = "drop",
        workers: int | None = None,
        kind: Literal["threads", "processes"] = "threads",
        prefetch: int = 2,
        on_error: Literal["raise", "skip"] = "raise",
        require_depth: bool = True,
        fields: Sequence[str] = FIELDS,
        augment: Sequence[Augmentation] = (),
        to: Literal["numpy", "torch"] = "numpy",
        pin_memory: bool = False,
    ) -> None:
        numbers = {"batch_size": batch_size, "block": block, "world_size": world_size}
        numbers["prefetch"] = prefetch
        for name, number in numbers.items():
            if type(number) is not int or number < 1:
                raise MfsynthError(f"{name} is {number!r}; give a whole number from 1")
        if type(rank) is not int or not 0 <= rank < world_size:
            raise MfsynthError(f"rank is {rank!r}; give 0 to {world_size - 1} (world_size - 1)")
        for name, number in {"seed": seed, "workers": 0 if workers is None else workers}.items():
            if type(number) is not int or number < 0:
                raise MfsynthError(f"{name} is {number!r}; give a whole number from 0")
        if unknown := [
            name for name in fields if name.startswith("_") or not hasattr(RGBDSample, name)
        ]:
            raise MfsynthError(f"fields: a sample has no {unknown[0]!r:.80}")
        if not dataset.reads_labels and (labels := [f for f in fields if f in LABELS]):
            raise MfsynthError(
                f"fields: {labels[0]}, but the data set was opened without labels; open it with "
                f"labels=True, or leave {labels[0]} out"
            )
        for name, value, allowed in (
            ("tail", tail, ("drop", "pad")),
            ("kind", kind, ("threads", "processes")),
            ("on_error", on_error, ("raise", "skip")),
            ("to", to, ("numpy", "torch")),
        ):
            if value not in allowed:
                raise MfsynthError(f"{name} is {value!r}; give {' or '.join(allowed)}")
        if callable(augment):
            raise MfsynthError(f"augment is {augment!r:.200}; give a list of changes")
        if not len(dataset):
            raise MfsynthError(
                f"{dataset!r:.500} has no pair: none meets the filter or is in this part of a "
                "split, or the run has none yet"
            )
        smallest = batch_size * world_size if tail == "drop" else 1
        if len(dataset) < smallest:
            raise MfsynthError(
                f"the data set has {len(dataset)} samples, a step takes {batch_size} for each of "
                f"{world_size} ranks; take smaller batches, or tail='pad'"
            )
        self._work = Work(
            dataset,
            seed,
            block,
            shuffle,
            (*fields,),
            (*augment,),
            skips=on_error == "skip",
            requires_depth=require_depth and not {"depth", "valid"}.isdisjoint(fields),
        )
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size
        self._pads = tail == "pad"
        self._workers = min(4, usable_cores()) if workers is None else workers
        self._spawns, self._prefetch = kind == "processes", prefetch
        self._to, self._pin_memory = to, pin_memory
        self._position = 0
        self._turn = 0
        self.epoch = 0
        self.skipped = 0
        self.last_skipped: str | None = None

    def __len__(self) -> int:
        """Batches of a whole epoch, for each rank."""
        return self._steps(len(self._work.dataset))

    def __iter__(self) -> Iterator[Batch]:
        """The batches that are left of the epoch; behind the last of them the next one begins.

        An iterator that was left goes on in the next one, and raises if it is asked again itself.
        """
        self._turn += 1
        turn = self._turn
        self._go_to(self.epoch, self._position)
        left = len(self._work.dataset) - self._position
        starts = [self._position + step * self._step for step in range(self._steps(left))]
        with self._pool() as submit:
            ahead: deque[Future[tuple[Batch, list[str]]]] = deque()
            most = max(1, self._workers * self._prefetch)
            todo = iter(starts)
            for start in starts:
                while len(ahead) < most and (following := next(todo, None)) is not None:
                    ahead.append(submit(self.epoch, self._mine(following)))
                batch, skipped = _result(ahead.popleft())
                if skipped:
                    self.skipped += len(skipped)
                    self.last_skipped = skipped[-1]
                if self._to == "torch":
                    batch = tensors_of(batch, pin_memory=self._pin_memory)
                # It counts as handed out from here on: whoever saves a state has the batch.
                self._position = start + self._step
                yield batch
                if turn != self._turn:
                    raise MfsynthError(
                        "another iterator of this loader has begun, or a state was loaded: a "
                        "loader is in one place at a time; make a second one"
                    )
        self.epoch, self._position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, for `load_state_dict`; the same on every rank. Plain JSON."""
        return {
            "version": _STATE_VERSION,
            "epoch": self.epoch,
            # Without what a step was padded with: how much that is hangs on its size.
            "position": min(self._position, len(self._work.dataset)),
            "order": self._order_digest,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another loader was, of the same samples and order.

        Batch size, ranks and workers may be others.

        Raises:
            MfsynthError: The state is none, or of other samples, another seed or block.
        """
        try:
            version, epoch, position = state["version"], state["epoch"], state["position"]
            order = state["order"]
        except (KeyError, TypeError) as error:
            raise MfsynthError(f"no state of a loader: it lacks {error}") from error
        if version != _STATE_VERSION:
            raise MfsynthError(f"a state of version {version}, which this mfsynth can't read")
        if order != self._order_digest:
            raise MfsynthError(
                "the state is of other samples, or of another order: open the same runs in the "
                "same state (view, filter, split), with the same seed, shuffle and block"
            )
        size = len(self._work.dataset)
        is_count = type(epoch) is int and type(position) is int and epoch >= 0
        # Some states count the padding of a step, too.
        if not is_count or not 0 <= position <= size + max(size, self._step):
            raise MfsynthError(f"no state of a loader: epoch {epoch!r}, position {position!r}")
        self._turn += 1
        self._go_to(epoch, position)

    def _go_to(self, epoch: int, position: int) -> None:
        # Behind the last batch of an epoch the next one begins, whether or not it was asked for.
        if not self._steps(len(self._work.dataset) - position):
            epoch, position = epoch + 1, 0
        self.epoch, self._position = epoch, position

    @property
    def _step(self) -> int:
        return self._batch_size * self._world_size

    def _steps(self, samples: int) -> int:
        whole, rest = divmod(max(0, samples), self._step)
        return whole + bool(rest and self._pads)

    def _mine(self, start: int) -> range:
        first = start + self._rank * self._batch_size
        return range(first, first + self._batch_size)

    @cached_property
    def _order_digest(self) -> str:
        work = self._work
        what = [work.dataset.digest, work.seed, work.block, work.shuffle]
        return sha256_of_bytes(repr(what).encode())[:32]

    def _pool(self) -> _Pool:
        return _Pool(self._work, self._workers, self._spawns)


class _Pool:
    """Who makes batches, for as long as an epoch is gone through."""

    def __init__(self, work: Work, workers: int, spawns: bool) -> None:
        self._work, self._workers, self._spawns = work, workers, spawns
        self._executor: Executor | None = None

    def __enter__(self) -> Callable[[int, range], Future[tuple[Batch, list[str]]]]:
        if not self._workers:
            return self._do_now
        if not self._spawns:
            self._executor = ThreadPoolExecutor(self._workers, "loader")
            return lambda epoch, at: self._submit(self._work.batch, epoch, at)
        self._executor = ProcessPoolExecutor(
            self._workers, get_context("spawn"), _begin, (self._work,)
        )
        return lambda epoch, at: self._submit(_batch_here, epoch, at)

    def __exit__(self, *error: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def _submit(self, do: Callable[..., Any], *arguments: Any) -> Future[Any]:
        assert self._executor is not None
        try:
            return self._executor.submit(do, *arguments)
        except BrokenProcessPool as error:
            raise _process_died() from error

    def _do_now(self, epoch: int, at: range) -> Future[tuple[Batch, list[str]]]:
        done: Future[tuple[Batch, list[str]]] = Future()
        try:
            done.set_result(self._work.batch(epoch, at))
        # Whatever it is, whoever asks for the batch gets it.
        except Exception as error:
            done.set_exception(error)
        return done


def _result(future: Future[tuple[Batch, list[str]]]) -> tuple[Batch, list[str]]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _process_died() from error


def _process_died() -> MfsynthError:
    return MfsynthError(
        "a process of the loader died. For want of memory? Take fewer workers, a smaller prefetch, "
        "or kind='threads'. At its start? A script that uses kind='processes' does so below "
        '`if __name__ == "__main__":`, and what it was sent must be there: open the data set '
        "anew if its index went from the cache folder"
    )


_work_here: Work | None = None


def _begin(work: Work) -> None:
    global _work_here
    _work_here = work


def _batch_here(epoch: int, at: range) -> tuple[Batch, list[str]]:
    assert _work_here is not None
    return _work_here.batch(epoch, at)
