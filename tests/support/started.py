"""A run that has begun, as its driver begins it: for what is tested without a driver."""

from __future__ import annotations

from mfsynth.config import RunConfig
from mfsynth.models import model_info
from mfsynth.runs.estimator import run_estimator
from mfsynth.runs.items import RunItems
from mfsynth.runs.manifest import run_manifest
from mfsynth.runs.plan import RunPlan
from mfsynth.shards.run_manifest import RunManifest, open_run
from mfsynth.storage.store import ObjectStore


def manifest_of(config: RunConfig) -> RunManifest:
    """What a driver would write into `run.json`."""
    model, items, estimator = model_info(config.model), RunItems(config), run_estimator(config)
    identity = items.fingerprint(model.revision, estimator)
    return run_manifest(config, identity, model, items, estimator)


def plan_of(config: RunConfig) -> RunPlan:
    """What the run will make."""
    return RunPlan.of(config, RunItems(config), manifest_of(config).fingerprint)


def start(config: RunConfig) -> ObjectStore:
    """Write `run.json`, or find it; a worker needs it."""
    store = ObjectStore.open(config.output)
    open_run(store, manifest_of(config))
    return store
