"""Items of a run's source, loaded beside the model."""

from __future__ import annotations

import socket
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
# Items by which one sees whether a source is there, where a shard of it says nothing.
_PROBES = 16
# Lost items that are looked for again: a broken part may be slow, and be all of a shard.
_LOST_PROBES = 4


class _OtherItemsError(StoreError):
    """A source has other items than where the run began; no item's own fault."""


class _RefusedError(MfsynthError):
    """An item that can be loaded, and nothing can be made of."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedBatch:
    """Candidates of a batch, with the images of their items.

    Attributes:
        candidates: As many as were asked for; in place of each that can't be used another one of
            the batch, so that batches keep their sizes. None at all if none can be.
        rows: Numbers of those that are what was asked for.
        lost: Why others can't be loaded, by their indices in the run.
        refused: Why nothing can be made of others, which can be loaded; likewise.
    """

    candidates: Sequence[Candidate]
    rows: Sequence[int]
    lost: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)


class Loader:
    """Loads the items of batches, one ahead, in a thread of its own.

    Of a run of prompts there is nothing to load.

    Args:
        config: The run, complete.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._source = RunSource.open(config)
        self._thread = ThreadPoolExecutor(1, "loader")
        self._failed_in_a_row = 0
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

    def require_there(self, candidates: Sequence[Candidate], lost: Mapping[int, str]) -> None:
        """Refuse a shard of which some can't be loaded, unless a part of the source is broken.

        It is broken if of what couldn't be loaded a few still can't, and something else can: what
        the shard itself loaded, else something of the source. Where a share is not mounted, nothing
        can. A shard is made again as a whole, be it for a single item that can be loaded only
        now and then: it costs the time of one, and an item given up is given up for good.

        Args:
            candidates: What was to be made of the shard; all that isn't lost was loaded.
            lost: Why some can't be loaded, by their indices in the run.

        Raises:
            StoreError: They can again, or the source isn't there.
        """
        if lost:
            # Where all else is loaded: some of what a source holds is one thread's own.
            self._thread.submit(self._require_there, candidates, lost).result()

    def _require_there(self, candidates: Sequence[Candidate], lost: Mapping[int, str]) -> None:
        assert self._source is not None  # else nothing is lost
        said = (
            f"source: {len(lost)} of {len(candidates)} items of a shard can't be used, the first: "
            f"{next(iter(lost.values()))}"
        )
        # Again: a share may have gone since.
        others = [c.index for c in candidates if c.index not in lost]
        if not others:
            spread = _spread(range(self._source.candidates), _PROBES + len(lost))
            others = [index for index in spread if index not in lost]
        if not any(map(self._can_load, _spread(others, _PROBES))):
            raise StoreError(said)
        if any(map(self._can_load, _spread([*lost], _LOST_PROBES))):
            raise StoreError(f"{said}; now it can, so the shard is made again")

    def _can_load(self, index: int) -> bool:
        assert self._source is not None  # else nothing is loaded
        try:
            self._source.load(index)
        except MfsynthError:
            return False
        return True

    def _load(self, part: Sequence[Candidate]) -> LoadedBatch:
        found: list[Candidate | None] = []
        lost: dict[int, str] = {}
        refused: dict[int, str] = {}
        for candidate in part:
            try:
                found.append(self._loaded(candidate))
            except _OtherItemsError:
                raise
            except MfsynthError as error:
                found.append(None)
                why = refused if isinstance(error, _RefusedError) else lost
                why[candidate.index] = str(error)
        rows = [row for row, candidate in enumerate(found) if candidate is not None]
        if not rows:
            return LoadedBatch((), (), lost, refused)
        filled = [candidate or found[rows[0]] for candidate in found]
        return LoadedBatch([c for c in filled if c is not None], rows, lost, refused)

    def _loaded(self, candidate: Candidate) -> Candidate:
        known = candidate.item
        self._require_same(candidate)
        item = self._read(candidate.index)
        try:
            require_given(self.sampler.mode, item, self.sampler)
        except MfsynthError as error:
            raise _RefusedError(str(error)) from error
        origin = replace(item.origin, key=known.origin.key, scene=known.origin.scene)
        # What a library or the source said before is what is recorded of it.
        item = replace(item, text=known.text, slots=known.slots, origin=origin)
        return replace(candidate, item=item)

    def _require_same(self, candidate: Candidate) -> None:
        """Refuse a source that has other items here than where the run began.

        Raises:
            _OtherItemsError: It has, as where a file of it could not be opened.
        """
        assert self._source is not None  # else nothing is loaded
        wanted, here = candidate.item.origin.key, self._source.key(candidate.index)
        if here == wanted:
            return
        self._source = RunSource.open(self._config)
        raise _OtherItemsError(
            f"source: item {wanted!r:.80} is {f'{here!r:.80}' if here else 'not there'} on "
            f"{socket.gethostname()}, so some of its files can't be read there or changed since "
            "the run began"
        )

    def _read(self, index: int) -> Item:
        assert self._source is not None  # else nothing is read
        # A broken part would take minutes else.
        tries = _TRIES if self._failed_in_a_row < _ACCIDENTS else 1
        for attempt in range(1, tries + 1):
            try:
                item = self._source.load(index)
            except MfsynthError:
                if attempt == tries:
                    self._failed_in_a_row += 1
                    raise
                time.sleep(attempt * _PAUSE_S)
            else:
                self._failed_in_a_row = 0
                return item
        raise AssertionError("the last try returns or raises")


def _spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of them, the first and the last among them, at equal distances."""
    if len(numbers) <= most:
        return [*numbers]
    step = (len(numbers) - 1) / (most - 1)
    return [numbers[round(step * at)] for at in range(most)]


def _with_size(config: RunConfig) -> SamplerConfig:
    """The sampler with the size in which the model sees images."""
    sampler = config.sampler
    if sampler.height is not None:
        return sampler
    info = model_info(config.model)
    return sampler.model_copy(update={"height": info.height, "width": info.width})
