"""What a run will make: candidates and shards as pure functions of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

from mfsynth.config import RunConfig
from mfsynth.models import ModelInfo
from mfsynth.models.estimators.catalogue import EstimatorInfo
from mfsynth.prompts import derive_seed, text_id
from mfsynth.runs.items import RunItems
from mfsynth.shards.layout import run_id, sample_id
from mfsynth.shards.records import CandidateRef
from mfsynth.sources.base import Item, Source
from mfsynth.sources.tolerance import STRICT
from mfsynth.storage.credentials import without_credentials


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A pair to be: everything that decides it besides the run's own settings.

    Attributes:
        index: Number in the run, from 0.
        sample_id: Its key in the data set, should it be accepted.
        item: What the model is given: its text is the prompt. Of a source it has no images before a
            worker has loaded them.
        seed: Of its noise; in [0, 2**63).
        copy: Which of those made of the item of a source, from 0; None where there is no source.
    """

    index: int
    sample_id: str
    item: Item
    seed: int
    copy: int | None = None

    @property
    def own_seed(self) -> int:
        """Of what differs between frames of an episode, which have one `seed`."""
        if self.item.labels.moment is None or self.copy is None:
            return self.seed
        return derive_seed(self.seed, "frame", self.index)

    @property
    def ref(self) -> CandidateRef:
        """What is stored of it with whatever becomes of it."""
        text, slots = self.item.text, self.item.slots
        return CandidateRef(
            self.sample_id,
            self.index,
            self.seed,
            text,
            text_id(text),
            slots,
            source=None if self.copy is None else self.item.origin.key,
            copy=self.copy,
            scene=self.item.origin.scene,
        )


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Random access to the candidates and shards of a run, without state.

    Attributes:
        run: Id of the run; see `mfsynth.shards.layout`.
        seed: Of the run.
        shard_size: Candidates in a shard.
        source: Gives the items of candidates by their numbers.
        copies: How many candidates follow each other that are of one item of a source; None where
            there is no source.
        end: How many candidates there are; None where there is no end.
        most_unmade: How many may not be made before the run ends, as the source's `max_skipped`
            says; None for any number.
    """

    run: str
    seed: int
    shard_size: int
    source: Source
    copies: int | None = None
    end: int | None = None
    most_unmade: int | None = None

    @classmethod
    def of(cls, config: RunConfig, items: RunItems, fingerprint: str) -> RunPlan:
        """The plan of a configuration.

        Args:
            config: The configuration.
            items: What its candidates begin with.
            fingerprint: The digest of the two.
        """
        run, source = run_id(config.name, fingerprint), items.source
        plan = cls(run, config.seed, config.shard_size, items)
        if source is None:
            return plan
        tolerance, end = source.settings.tolerance, source.candidates
        # Kinds that can't be broken in parts have none of their own.
        most = None if tolerance is STRICT else tolerance.most(end)
        return replace(plan, copies=source.copies, end=end, most_unmade=most)

    def too_many(self, unmade: int) -> str | None:
        """Why the run ends if so many candidates can't be made; None if it goes on."""
        if self.most_unmade is None or unmade <= self.most_unmade:
            return None
        return (
            f"source: {unmade} of {self.end} candidates can't be made, and max_skipped allows "
            f"{self.most_unmade}: see the reasons with `mfsynth report`, then mend the source, or "
            "set source.max_skipped higher"
        )

    def candidate(self, index: int) -> Candidate:
        """Candidate `index`, the same on every machine and in every session.

        Frames of an episode look alike if they begin with the same noise.
        """
        item = self.source[index]
        moment, copy = item.labels.moment, None if self.copies is None else index % self.copies
        seed = derive_seed(self.seed, "noise", index)
        if moment is not None and copy is not None:
            seed = derive_seed(self.seed, "episode", moment.episode, copy)
        return Candidate(index, sample_id(self.run, index), item, seed, copy)

    def candidates_of(self, shard: int) -> range:
        """Numbers of the candidates of a shard; the last one of a source may have fewer."""
        begin, end = shard * self.shard_size, (shard + 1) * self.shard_size
        return range(begin, end if self.end is None else min(end, self.end))

    def shard(self, number: int) -> tuple[Candidate, ...]:
        """The candidates of a shard."""
        return tuple(map(self.candidate, self.candidates_of(number)))


def recorded_config(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as JSON values, as `run.json` keeps it: without credentials."""
    values = config.model_dump(mode="json")
    del values["runtime"]["on_event"]  # a secret, and nothing of the run
    return cast(dict[str, Any], _without_credentials(values))


def _without_credentials(value: Any) -> Any:
    # Any text may be a URL: of prompts, a library of them, a source or what lies beside it.
    if isinstance(value, dict):
        return {name: _without_credentials(part) for name, part in value.items()}
    if isinstance(value, list):
        return [*map(_without_credentials, value)]
    return without_credentials(value) if isinstance(value, str) else value


def recorded_model(model: ModelInfo | EstimatorInfo) -> dict[str, str]:
    """A model as `run.json` keeps it."""
    return {"id": model.id, "revision": model.revision, "licence": model.licence}
