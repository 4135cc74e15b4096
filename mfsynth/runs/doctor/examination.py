"""Which probes there are for a store, for a configuration, and at every start of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

from mfsynth.checks import score_infos
from mfsynth.config import RunConfig
from mfsynth.models import ModelInfo, model_info
from mfsynth.models.estimators.catalogue import EstimatorInfo
from mfsynth.runs.doctor import machine, model_probes, nodes, place
from mfsynth.runs.doctor.findings import Finding, Probe, Severity, examine, note, ok, warning
from mfsynth.runs.doctor.scratch import Scratch
from mfsynth.runs.doctor.space import Demand, demand, has_room
from mfsynth.runs.doctor.store_probes import STORE, clocks_agree, creates_once, store_probes
from mfsynth.runs.estimator import WHY_BLIND, blind_checks, run_estimator
from mfsynth.runs.items import RunItems
from mfsynth.runs.jobs import require_usable, takes_depth
from mfsynth.runs.settings import WHY_ABSTAINING, abstaining_checks, run_scores
from mfsynth.runs.understanding import PROMPTS_LOOKED_AT
from mfsynth.shards.drivers import read_known_commits
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import run_to_resume
from mfsynth.shards.words import NO_GUARANTEE, calibrated_limits, limits_by_hand
from mfsynth.sources.survey import Survey
from mfsynth.storage.store import ObjectStore

# To read all files of a model or the receipts of a large run, or to import torch from a slow disk.
_SLOW_S = 600.0
# Of what of a source is left out.
_NAMED = 10


@contextmanager
def store_examination(url: str) -> Iterator[Sequence[Probe]]:
    """Probes of a place for runs, or of one where a run is. Enter it around `examine`.

    Raises:
        MfsynthError: The URL is none.
    """
    opened = ObjectStore.open(url)
    with Scratch(opened) as scratch:
        yield [
            *store_probes(scratch),
            Probe("space", lambda: has_room(opened, None)),
            Probe("run", lambda: place.what_is_there(opened), _SLOW_S),
            Probe("drivers", lambda: place.other_drivers(scratch), needs=(STORE, "run")),
        ]


@contextmanager
def run_examination(config: RunConfig) -> Iterator[Sequence[Probe]]:
    """Probes of all that a run needs. Enter it around `examine`.

    Args:
        config: Complete.

    Raises:
        MfsynthError: The URL of the output is none.
    """
    with Scratch(ObjectStore.open(config.output)) as scratch:
        yield _Run(config, scratch).probes()


def examine_at_start(
    config: RunConfig,
    place_of_run: ObjectStore,
    info: ModelInfo,
    receipts: Sequence[Receipt],
    estimator: EstimatorInfo | None = None,
    items: RunItems | None = None,
    seen: Survey | None = None,
) -> Iterator[tuple[str, Finding]]:
    """What is cheap to look at, of a run that has its `run.json`.

    Args:
        config: The run.
        place_of_run: Its store.
        info: Of its model.
        receipts: Of its committed shards.
        estimator: Of its estimator.
        items: What its candidates begin with; None of a run of prompts.
        seen: What items of its source are; likewise.
    """
    source = None if items is None else items.source
    end = None if source is None else source.candidates
    wanted = demand(config, pixels(config, info), receipts, end)
    with Scratch(place_of_run) as scratch:
        probes = [*_estimator_probes(estimator)]
        if items is not None and seen is not None:
            probes.append(Probe("source", lambda: looks_right(items, seen, config)))
        probes += [
            Probe("checks", lambda: checks_look(config, estimator)),
            Probe("conditional create", lambda: creates_once(scratch)),
            Probe("clock", lambda: clocks_agree(scratch)),
            Probe("space", lambda: has_room(place_of_run, wanted)),
        ]
        if config.runtime.ray_address is None:
            probes.append(Probe("spool", lambda: machine.spools(wanted)))
        yield from examine(probes)


def _estimator_probes(info: EstimatorInfo | None) -> Sequence[Probe]:
    if info is None:
        return []
    return [Probe("estimator", lambda: model_probes.may_be_used(info))]


def looks_right(items: RunItems, seen: Survey, config: RunConfig) -> Finding:
    """Whether all of a run's source could be opened, and its depth is what it is taken for.

    Args:
        items: What the run's candidates begin with.
        seen: What some of them are.
        config: The run.
    """
    doubts = seen.doubts if takes_depth(config) else ()
    if left_out := items.left_out:
        more = len(left_out) - _NAMED
        told = f"{seen.items} items, and {len(left_out)} left out that can't be opened: "
        told += "; ".join(one.reason for one in left_out[:_NAMED])
        told += f"; and {more} more" if more > 0 else ""
        return warning(
            "; ".join((told, *doubts)),
            "mend it first: with what is mended later it is another run",
        )
    severity = Severity.OK
    if doubts:
        severity = Severity.WARNING if seen.apart or seen.foreign else Severity.NOTE
    return Finding(severity, "; ".join(seen.lines()))


def checks_look(config: RunConfig, estimator: EstimatorInfo | None = None) -> Finding:
    """Whether all checks have something to look at, and limits are those of the calibration.

    Args:
        config: The run.
        estimator: What is known of its estimator; None without.

    Raises:
        MfsynthError: Limits were calibrated with other networks.
    """
    told = []
    if idle := [*abstaining_checks(config)]:
        told.append(f"checks.{', checks.'.join(idle)} abstains: {WHY_ABSTAINING}")
    if blind := blind_checks(config, estimator):
        # A score that always abstained has no limit.
        limits = calibrated_limits({"checks": config.checks})
        had_one = limits.keys() & score_infos(blind.values()).keys()
        more = "; the calibration was made with cameras" if had_one else ""
        told.append(f"checks.{', checks.'.join(blind)} abstains: {WHY_BLIND}{more}")
    if by_hand := limits_by_hand(run_scores(config), {"checks": config.checks}):
        told.append(f"{'; '.join(by_hand)}: set by hand, and {NO_GUARANTEE}")
    if told:
        return note("; ".join(told))
    return ok(", ".join(config.checks) or "none")


def pixels(config: RunConfig, info: ModelInfo) -> tuple[int, int]:
    """Height and width of a run's pairs."""
    return config.sampler.height or info.height, config.sampler.width or info.width


class _Run:
    """A run to be, of which each part is opened once, by the probe that needs it first."""

    def __init__(self, config: RunConfig, scratch: Scratch) -> None:
        self._config = config
        self._scratch = scratch

    def probes(self) -> Sequence[Probe]:
        """In the order of the screen."""
        config, scratch = self._config, self._scratch
        opened = scratch.store
        probes = [
            Probe("model", self._look_at_model, _SLOW_S),
            Probe("weights", self._look_at_weights, _SLOW_S, needs=("model",)),
            *self._estimator_probes(),
            Probe("prompts", self._look_at_prompts, needs=("model",)),
            *([Probe("source", self._look_at_source, _SLOW_S)] if config.source else []),
            Probe("checks", lambda: checks_look(config, self._estimator), needs=("estimator",)),
            *store_probes(scratch),
            Probe("run", self._look_at_place, _SLOW_S, needs=("model", "prompts")),
            Probe("drivers", lambda: place.other_drivers(scratch), needs=(STORE, "run")),
            Probe("space", lambda: has_room(opened, self._demand), needs=("model", "run")),
        ]
        if config.runtime.ray_address is None:
            probes += [
                Probe("spool", lambda: machine.spools(self._demand), needs=("model", "run")),
                Probe("device", lambda: machine.gpus_here(config), _SLOW_S),
            ]
        asked = ("cluster",)
        probes += [
            Probe("cluster", lambda: nodes.all_answer(self._nodes), 3 * nodes.ANSWER_LIMIT_S),
            Probe("versions", lambda: nodes.same_versions(self._nodes), needs=asked),
            Probe("same store", lambda: nodes.same_store(self._nodes, opened.url), needs=asked),
            Probe("open files", lambda: machine.open_files(self._nodes.places), needs=asked),
        ]
        if config.runtime.ray_address is not None:
            probes.append(Probe("nodes", self._look_at_nodes, needs=("cluster", "model", "run")))
        return probes

    def _estimator_probes(self) -> Sequence[Probe]:
        if (settings := self._config.estimator) is None:
            return []
        return [
            Probe("estimator", self._look_at_estimator, _SLOW_S),
            Probe(
                "estimator weights",
                lambda: model_probes.estimator_has_its_weights(settings),
                _SLOW_S,
                needs=("estimator",),
            ),
        ]

    def _look_at_estimator(self) -> Finding:
        assert self._estimator is not None  # or there is no such probe
        return model_probes.may_be_used(self._estimator)

    @cached_property
    def _estimator(self) -> EstimatorInfo | None:
        return run_estimator(self._config)

    @cached_property
    def _info(self) -> ModelInfo:
        return model_info(self._config.model)

    @cached_property
    def _items(self) -> RunItems:
        return RunItems(self._config)

    @cached_property
    def _receipts(self) -> Sequence[Receipt]:
        return [*read_known_commits(self._scratch.store).values()]

    @cached_property
    def _demand(self) -> Demand:
        found = self._items.source
        end = None if found is None else found.candidates
        return demand(self._config, pixels(self._config, self._info), self._receipts, end)

    @cached_property
    def _nodes(self) -> nodes.Nodes:
        return nodes.ask_nodes(self._config, self._scratch)

    def _look_at_nodes(self) -> Finding:
        return nodes.have_room(self._nodes, self._demand)

    def _look_at_model(self) -> Finding:
        return model_probes.fits_the_sampler(self._config.sampler, self._info)

    def _look_at_weights(self) -> Finding:
        return model_probes.has_its_weights(self._config.model)

    def _look_at_prompts(self) -> Finding:
        texts = self._items.distinct_texts(PROMPTS_LOOKED_AT)
        return model_probes.knows_the_prompts(self._config.model, self._config.prompts, texts)

    def _look_at_source(self) -> Finding:
        found = require_usable(self._items, self._config)
        assert found is not None  # asked for where there is a source
        return looks_right(self._items, found, self._config)

    def _look_at_place(self) -> Finding:
        identity = self._items.fingerprint(self._info.revision, self._estimator)
        run_to_resume(self._scratch.store, identity.digest, identity.settings)
        return place.what_is_there(self._scratch.store)
