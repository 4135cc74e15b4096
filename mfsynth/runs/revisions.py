"""The files of a run's networks: the same in every worker as its fingerprint says, or it has none.

A hub id without a revision means its newest, which may change while workers start; a folder of the
same name may hold other files on another node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mfsynth.checks.registry import networks_of, open_checks
from mfsynth.config import RunConfig
from mfsynth.errors import MfsynthError
from mfsynth.models import model_info
from mfsynth.models.estimators.catalogue import estimator_info
from mfsynth.shards.run_manifest import RunManifest

# In hexadecimal digits; the SHA-256 of a folder's files has 64.
_COMMIT_DIGITS = 40


def network_revisions(config: RunConfig) -> dict[str, str]:
    """Revisions of the networks that a run's checks ask, by the check's setting.

    Raises:
        MfsynthError: There is no such network.
    """
    networks = networks_of(open_checks(config.checks))
    return {f"checks.{name}": network.revision for name, network in networks.items()}


def pinned(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """A run's configuration with each hub id at the commit that its fingerprint has.

    Args:
        config: Of the run.
        settings: Of its fingerprint.
    """
    wanted = _recorded(settings)

    def commit(name: str) -> dict[str, str]:
        # Few-step weights follow a plus sign.
        revision = wanted.get(name, "").partition("+")[0]
        return {"revision": revision} if len(revision) == _COMMIT_DIGITS else {}

    changes: dict[str, Any] = {"model": config.model.model_copy(update=commit("model"))}
    if config.estimator is not None:
        changes["estimator"] = config.estimator.model_copy(update=commit("estimator"))
    changes["checks"] = dict(config.checks)
    for name, check in open_checks(config.checks).items():
        if "revision" in type(check).model_fields:
            changes["checks"][name] = {**(config.checks[name] or {}), **commit(f"checks.{name}")}
    return config.model_copy(update=changes)


def require_recorded_files(config: RunConfig, manifest: RunManifest) -> None:
    """See that the networks' files on this machine are those of the run.

    Raises:
        MfsynthError: They are others.
    """
    here = {"model": model_info(config.model).revision, **network_revisions(config)}
    if config.estimator is not None:
        here["estimator"] = estimator_info(config.estimator).revision
    for name, wanted in _recorded(manifest.settings).items():
        if (found := here.get(name)) != wanted:
            raise MfsynthError(
                f"{name}: the files on this machine are {str(found)[:12]}, those of the run are "
                f"{wanted[:12]}; give every node the files with which the run began"
            )


def _recorded(settings: Mapping[str, Any]) -> dict[str, str]:
    parts = {name: settings.get(name) or {} for name in ("model", "estimator")}
    revisions = {name: part["revision"] for name, part in parts.items() if part.get("revision")}
    return revisions | dict(settings.get("networks") or {})
