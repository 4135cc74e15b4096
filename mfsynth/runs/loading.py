"""Items of a run's source, loaded beside the model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from mfsynth.config import RunConfig
from mfsynth.config.schema import SamplerConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import model_info
from mfsynth.runs.items import RunSource
from mfsynth.runs.making import require_given
from mfsynth.runs.plan import Candidate
from mfsynth.sources.base import Item
from mfsynth.storage.errors import StoreError

# A share that is busy is not a broken image; what is broken is so again.
_TRIES = 3
_PAUSE_S = 1.0
_ACCIDENTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class LoadedBatch:
    """Candidates of a batch, with the images of their items.

    Attributes:
        candidates: As many as were asked for; in place of each that can't be loaded another one of
            the batch, so that batches keep their sizes. None at all if none can be loaded.
        rows: Numbers of those that are what was asked for.
        unloaded: Why the others aren't, by their indices in the run.
    """

    candidates: Sequence[Candidate]
    rows: Sequence[int]
    unloaded: Mapping[int, str] = field(default_factory=dict)


class Loader:
    """Loads the items of batches, one ahead, in a thread of its own.

    Of a run of prompts there is nothing to load.

    Args:
        config: The run, complete.
    """

    def __init__(self, config: RunConfig) -> None:
        self._source = RunSource.open(config)
        self._thread = ThreadPoolExecutor(1, "loader")
        self.sampler = config.sampler if self._source is None else _with_size(config)

    @property
    def source(self) -> RunSource | None:
        """What is loaded from; None of a run of prompts."""
        return self._source

    def batches(self, candidates: Sequence[Candidate], size: int) -> Iterator[LoadedBatch]:
        """Batches of so many candidates each, in order; the last may have fewer."""
        parts = [candidates[at : at + size] for at in range(0, len(candidates), size)]
        if self._source is None:
            yield from (LoadedBatch(part, range(len(part))) for part in parts)
            return
        coming = self._thread.submit(self._load, parts[0])
        for following in [*parts[1:], None]:
            loaded = coming.result()
            if following is not None:
                coming = self._thread.submit(self._load, following)
            yield loaded

    def require_most(self, count: int, unloaded: Mapping[int, str]) -> None:
        """Refuse a shard of which most can't be loaded, as where a share is not mounted.

        Args:
            count: Candidates of the shard.
            unloaded: Why some can't be, by their indices in the run.

        Raises:
            StoreError: More than half can't, and at least so many that it is no accident.
        """
        if self._source is not None and len(unloaded) > max(count // 2, _ACCIDENTS):
            raise StoreError(
                f"source: {len(unloaded)} of {count} items of a shard can't be used, the first: "
                f"{next(iter(unloaded.values()))}"
            )

    def _load(self, part: Sequence[Candidate]) -> LoadedBatch:
        found: list[Candidate | None] = []
        unloaded: dict[int, str] = {}
        for candidate in part:
            try:
                found.append(self._loaded(candidate))
            except MfsynthError as error:
                found.append(None)
                unloaded[candidate.index] = str(error)
        rows = [row for row, candidate in enumerate(found) if candidate is not None]
        if not rows:
            return LoadedBatch((), (), unloaded)
        filled = [candidate or found[rows[0]] for candidate in found]
        return LoadedBatch([c for c in filled if c is not None], rows, unloaded)

    def _loaded(self, candidate: Candidate) -> Candidate:
        item = self._read(candidate.index)
        require_given(self.sampler.mode, item, self.sampler)
        known = candidate.item
        origin = replace(item.origin, key=known.origin.key)
        # What a library or the source said before is what is recorded of it.
        item = replace(item, text=known.text, slots=known.slots, origin=origin)
        return replace(candidate, item=item)

    def _read(self, index: int) -> Item:
        assert self._source is not None  # else nothing is read
        for attempt in range(1, _TRIES):
            try:
                return self._source.load(index)
            except MfsynthError:
                time.sleep(attempt * _PAUSE_S)
        return self._source.load(index)


def _with_size(config: RunConfig) -> SamplerConfig:
    """The sampler with the size in which the model sees images."""
    sampler = config.sampler
    if sampler.height is not None:
        return sampler
    info = model_info(config.model)
    return sampler.model_copy(update={"height": info.height, "width": info.width})
