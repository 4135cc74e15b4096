"""What `run.json` says of a run that begins."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from mfsynth.config import FORMAT_VERSION, Fingerprint, RunConfig
from mfsynth.models import ModelInfo
from mfsynth.models.estimators.catalogue import EstimatorInfo
from mfsynth.runs.items import RunItems
from mfsynth.runs.plan import recorded_config, recorded_model
from mfsynth.runs.settings import added_columns, other_members, run_scores
from mfsynth.shards.run_manifest import RunManifest
from mfsynth.shards.tables import contents_of_run

# Whatever decides the bytes of the output.
RECORDED_PACKAGES = (
    *("mfsynth", "torch", "diffusers", "transformers", "numpy", "pyarrow"),
    *("opencv-python-headless", "simplejpeg", "ray"),
)


def run_manifest(
    config: RunConfig,
    identity: Fingerprint,
    model: ModelInfo,
    items: RunItems | None,
    estimator: EstimatorInfo | None = None,
) -> RunManifest:
    """What is written into the output's `run.json`; it holds no credentials.

    Args:
        config: The run, complete.
        identity: Of it.
        model: That it uses.
        items: What it begins with; None of a run whose prompts have no slots.
        estimator: That looks at its pairs; None for none.
    """
    scores = run_scores(config)
    labels = () if items is None else items.labels
    return RunManifest(
        format_version=FORMAT_VERSION,
        run=config.name,
        fingerprint=identity.digest,
        settings=identity.settings,
        config=recorded_config(config),
        versions={name: found for name in RECORDED_PACKAGES if (found := _version(name))},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        nonce=secrets.token_hex(8),
        model=recorded_model(model),
        estimator={} if estimator is None else recorded_model(estimator),
        scores=scores,
        **contents_of_run(
            {name: score.note for name, score in scores.items()},
            () if items is None else items.slot_names,
            added_columns(config, labels),
            keeps_rejects=config.rejects_kept == "all",
            others=other_members(labels),
        ),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
