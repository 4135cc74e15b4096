"""What a run will make: candidates and shards as pure functions of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mfsynth.config import RunConfig
from mfsynth.models import ModelInfo
from mfsynth.models.estimators.catalogue import EstimatorInfo
from mfsynth.prompts import PromptSource, derive_seed, text_id
from mfsynth.shards.layout import run_id, sample_id
from mfsynth.shards.records import CandidateRef
from mfsynth.sources.base import Item, Source
from mfsynth.sources.prompts import PromptItems
from mfsynth.storage.credentials import without_credentials


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A pair to be: everything that decides it besides the run's own settings.

    Attributes:
        index: Number in the run, from 0.
        sample_id: Its key in the data set, should it be accepted.
        item: What the model is given: its text is the prompt.
        seed: Of its noise; in [0, 2**63).
    """

    index: int
    sample_id: str
    item: Item
    seed: int

    @property
    def ref(self) -> CandidateRef:
        """What is stored of it with whatever becomes of it."""
        text, slots = self.item.text, self.item.slots
        return CandidateRef(self.sample_id, self.index, self.seed, text, text_id(text), slots)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Random access to the candidates and shards of a run, without end and without state.

    Attributes:
        run: Id of the run; see `mfsynth.shards.layout`.
        seed: Of the run.
        shard_size: Candidates in a shard.
        source: Where the candidates' items come from.
    """

    run: str
    seed: int
    shard_size: int
    source: Source

    @classmethod
    def of(cls, config: RunConfig, prompts: PromptSource, fingerprint: str) -> RunPlan:
        """The plan of a configuration whose candidates are prompts.

        Args:
            config: The configuration.
            prompts: Its prompts.
            fingerprint: The digest of the two.
        """
        run = run_id(config.name, fingerprint)
        return cls(run, config.seed, config.shard_size, PromptItems(prompts))

    def candidate(self, index: int) -> Candidate:
        """Candidate `index`, the same on every machine and in every session."""
        return Candidate(
            index=index,
            sample_id=sample_id(self.run, index),
            item=self.source[index],
            seed=derive_seed(self.seed, "noise", index),
        )

    def candidates_of(self, shard: int) -> range:
        """Numbers of the candidates of a shard."""
        return range(shard * self.shard_size, (shard + 1) * self.shard_size)

    def shard(self, number: int) -> tuple[Candidate, ...]:
        """The candidates of a shard."""
        return tuple(map(self.candidate, self.candidates_of(number)))


def recorded_config(config: RunConfig) -> dict[str, Any]:
    """The whole configuration as JSON values, as `run.json` keeps it: without credentials."""
    values = config.model_dump(mode="json")
    del values["runtime"]["on_event"]  # a secret, and nothing of the run
    values["output"] = without_credentials(config.output)
    if config.prompts.file is not None:
        values["prompts"]["file"] = without_credentials(config.prompts.file)
    return values


def recorded_model(model: ModelInfo | EstimatorInfo) -> dict[str, str]:
    """A model as `run.json` keeps it."""
    return {"id": model.id, "revision": model.revision, "licence": model.licence}
