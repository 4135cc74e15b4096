"""A run that has begun, as its driver begins it: for what is tested without a driver."""

from __future__ import annotations

from mfsynth.config import RunConfig
from mfsynth.models import model_info
from mfsynth.prompts import open_prompts
from mfsynth.runs.driver import run_manifest
from mfsynth.runs.plan import RunPlan
from mfsynth.runs.settings import run_estimator, run_fingerprint
from mfsynth.shards.commits import RunManifest, open_run
from mfsynth.storage.store import ObjectStore


def manifest_of(config: RunConfig) -> RunManifest:
    """What a driver would write into `run.json`."""
    model = model_info(config.model)
    prompts = open_prompts(config.prompts, config.seed)
    estimator = run_estimator(config)
    identity = run_fingerprint(config, prompts.digest, model.revision, estimator)
    return run_manifest(config, identity, model, prompts.slot_names, estimator)


def plan_of(config: RunConfig) -> RunPlan:
    """What the run will make."""
    prompts = open_prompts(config.prompts, config.seed)
    return RunPlan.of(config, prompts, manifest_of(config).fingerprint)


def start(config: RunConfig) -> ObjectStore:
    """Write `run.json`, or find it; a worker needs it."""
    store = ObjectStore.open(config.output)
    open_run(store, manifest_of(config))
    return store
