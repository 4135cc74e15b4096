"""What the candidates of a run begin with: prompts, or the items of a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

from mfsynth.checks import open_checks
from mfsynth.checks.prompt_objects import PromptObjects
from mfsynth.config import Fingerprint, RunConfig
from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.models.estimators.catalogue import EstimatorInfo
from mfsynth.prompts import PromptSource, open_prompts
from mfsynth.runs.settings import run_fingerprint
from mfsynth.shards.labels import EPISODE, NO_LABELS, Labels, Moment
from mfsynth.sources.base import Item, NamedSource, Origin, as_labelled, labels_of, told_scene
from mfsynth.sources.contents import content_digest, named
from mfsynth.sources.prompts import PromptItems
from mfsynth.sources.registry import source_settings
from mfsynth.sources.settings import SourceSettings
from mfsynth.sources.tolerance import Skipped


@dataclass(frozen=True, slots=True, eq=False)
class RunSource:
    """A source that a run begins with.

    Attributes:
        settings: Of it.
        items: Its items.
        copies: Candidates of each.
    """

    settings: SourceSettings
    items: NamedSource
    copies: int

    @classmethod
    def open(cls, config: RunConfig) -> RunSource | None:
        """The source of a complete configuration; None where it has none.

        Raises:
            MfsynthError: It can't be opened, or doesn't say what its items are.
        """
        if config.source is None:
            return None
        settings = source_settings(config.source)
        try:
            source = settings.open()
        except MfsynthError as error:
            raise MfsynthError(f"source: {error}") from error
        return cls(settings, named(source, config.source["kind"]), config.copies or 1)

    @property
    def candidates(self) -> int:
        """All that there are."""
        return len(self.items) * self.copies

    def key(self, candidate: int) -> str | None:
        """What its item is called; None where there is no such item."""
        number = candidate // self.copies
        return self.items.key(number) if number < len(self.items) else None

    def load(self, candidate: int) -> Item:
        """Item of a candidate, with its images.

        Raises:
            MfsynthError: It can't be read; says why.
        """
        return self.items[candidate // self.copies]


@dataclass(frozen=True, slots=True)
class _Place:
    """Of an item in an episode: which episode that is in its source, and the first item of it."""

    moment: Moment
    ordinal: int
    first: int


class RunItems:
    """Items of a run's candidates, as far as they are known without their images.

    Item i of a run with a source is that of item i // n of it, n being the run's `copies`: with the
    source's text, or else prompt i of the run. Items of an episode, of one copy, have one prompt:
    that of its number, or where images are made for their depth the text of its first. Implements
    `mfsynth.sources.base.Source`.

    Args:
        config: The run, complete.

    Raises:
        MfsynthError: Prompts or source are not as they should be.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.prompts: PromptSource | None = None
        if config.prompts is not None:
            self.prompts = open_prompts(config.prompts, config.seed)
        self.source = RunSource.open(config)
        _require_slots(config, self.slot_names)

    @cached_property
    def _texts(self) -> Sequence[str]:
        return () if self.source is None else tuple(self.source.items.texts())

    def __getitem__(self, candidate: int) -> Item:
        source = self.source
        if source is not None and candidate >= source.candidates:
            raise IndexError(f"candidate {candidate} of {source.candidates}")
        item = Item() if self.prompts is None else PromptItems(self.prompts)[candidate]
        if source is None:
            return item
        number, copy = divmod(candidate, source.copies)
        place = self._episodes.get(number)
        if place is not None and self.prompts is not None:
            item = PromptItems(self.prompts)[place.ordinal * source.copies + copy]
        text = item.text
        if self.prompts is None:
            # Depth is of one image, which its own words are about; looks are an episode's.
            alone = place is None or self._config.sampler.mode == "i2d"
            text = self._texts[number if alone or place is None else place.first]
        labels = NO_LABELS if place is None else Labels(moment=place.moment)
        scene = told_scene(source.items, number)
        origin = Origin(source.items.key(number), scene=scene)
        return Item(text=text, slots=item.slots, origin=origin, labels=labels)

    @cached_property
    def _episodes(self) -> Mapping[int, _Place]:
        """Where items stand in their episodes, by their numbers; those that stand in one."""
        items = None if self.source is None else as_labelled(self.source.items)
        if items is None or EPISODE not in items.labels:
            return {}
        first: dict[str, tuple[int, int]] = {}
        found = {}
        for number in range(len(items)):
            if (moment := items.moment(number)) is not None:
                ordinal, begin = first.setdefault(moment.episode, (len(first), number))
                found[number] = _Place(moment, ordinal, begin)
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """What its source knows beside images and depth."""
        return () if self.source is None else labels_of(self.source.items)

    @property
    def left_out(self) -> Sequence[Skipped]:
        """What of its source could not be opened, so that it has no numbers."""
        return () if self.source is None else getattr(self.source.items, "skipped", ())

    @property
    def slot_names(self) -> Sequence[str]:
        """Of the prompts' library."""
        return () if self.prompts is None else self.prompts.slot_names

    def texts(self, most: int) -> list[str]:
        """Prompts, or texts of the source, of the first candidates, in their order.

        Args:
            most: How many candidates.
        """
        if self.prompts is not None:
            return [self.prompts.prompt(number).text for number in range(most)]
        assert self.source is not None  # one of the two is there
        return [*islice(self.source.items.texts(), most)]

    def distinct_texts(self, most: int) -> list[str]:
        """Those of the first candidates, each once.

        Args:
            most: How many candidates.
        """
        return [*dict.fromkeys(self.texts(most))]

    def fingerprint(
        self, model_revision: str, estimator: EstimatorInfo | None = None
    ) -> Fingerprint:
        """Of the run, with what it begins with.

        Args:
            model_revision: Of the model that was loaded.
            estimator: That looks at its pairs; None for none.
        """
        held: Mapping[str, Any] | None = None
        if (source := self.source) is not None:
            digest = content_digest(source.settings, source.items)
            held = {"digest": digest, "items": len(source.items)}
        digest_of_prompts = None if self.prompts is None else self.prompts.digest
        return run_fingerprint(
            self._config, digest_of_prompts, model_revision, estimator, source=held
        )


def _require_slots(config: RunConfig, slots: Sequence[str]) -> None:
    """Refuses a check of things that no prompt of the run names."""
    for name, check in open_checks(config.checks).items():
        if not isinstance(check, PromptObjects):
            continue
        for slot in check.slots:
            if slot not in slots:
                raise MfsynthError(
                    f"checks.{name}.things: names the slot {slot}, which the run's prompts don't "
                    f"have; {did_you_mean(slot, slots)}"
                )
