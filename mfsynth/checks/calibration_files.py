"""Files that `mfsynth calibrate` writes, and what becomes of one that a run names.

```yaml
checks: {calibration: FILE}                            # all its checks, with its limits
checks: {calibration: FILE, registration: {min: 2}}    # this limit by hand
```
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from mfsynth.checks.base import Check
from mfsynth.checks.calibration import (
    CALIBRATION,
    FUSED,
    Guarantee,
    Term,
    UsedEstimator,
)
from mfsynth.checks.registry import check_names, find_check
from mfsynth.config.base import Items, NonEmpty, Settings
from mfsynth.config.documents import read_bytes, strict_json
from mfsynth.config.explain import explain
from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials

_WHAT = "calibration"


class CalibrationFile(Settings):
    """A calibration as it is stored.

    Attributes:
        version: Of this layout.
        made_with: mfsynth and its version.
        guarantee: What the limits hold; None where there are none, only figures.
        checks: Complete settings of each check, with its calibrated limits.
        limits: By score, the fused one among them.
        terms: Of the fused score.
        bias: Of the fused score.
        estimator: Whose estimates the checks looked at; None without.
        settings: What it was made of.
        sources: Of the trusted pairs: what each was, and the SHA-256 of what it gave.
        figures: Power of each score against each corruption; see docs/calibration.md.
    """

    version: Literal[1]
    made_with: NonEmpty
    guarantee: Guarantee | None
    checks: dict[str, dict[str, Any]]
    limits: dict[str, float]
    terms: Items[Term]
    bias: float
    estimator: UsedEstimator | None
    settings: dict[str, Any]
    sources: Items[dict[str, Any]]
    figures: dict[str, Any]


def limit_settings(check: type[Check]) -> dict[str, str]:
    """By the names of a check's settings that hold limits, the scores that they are for."""
    return {score.limit: score.name for score in check.scores if score.limit is not None}


def with_calibration(checks: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run's checks with what the file that they name says in its place.

    The file's checks are run, with its limits; a limit that the run gives itself wins. Without a
    file, or where its content has been taken in already, nothing changes.

    Args:
        checks: By name, as somebody gave them.

    Raises:
        MfsynthError: The file can't be read or is damaged, has no limits, comes from a stand-in
            for an estimator, has two limits of one score, or is of checks with other settings than
            the run's.
    """
    named = checks.get(CALIBRATION)
    if not (isinstance(named, Mapping) and isinstance(named.get("path"), str)):
        return dict(checks)
    url = named["path"]
    where = f"checks.{CALIBRATION}: {without_credentials(url)}"
    data = read_bytes(url, _WHAT)
    found = _parse(data, where)
    if found.guarantee is None:
        raise MfsynthError(
            f"{where}: has figures, but no limits; calibrate with alpha and delta to get them"
        )
    if found.estimator is not None and found.estimator.stands_in:
        raise MfsynthError(
            f"{where}: its estimates were a perturbed copy of trusted depth, which a run doesn't "
            "have; calibrate with an estimator"
        )
    known = {name: value for name, value in named.items() if name != "path"}
    return {
        **checks,
        **{name: _joined(name, found, checks, where) for name in found.checks},
        CALIBRATION: {
            "sha256": hashlib.sha256(data).hexdigest(),
            "guarantee": found.guarantee.model_dump(),
            "limits": found.limits,
            "terms": [term.model_dump() for term in found.terms],
            "bias": found.bias,
            "max_fused": found.limits[FUSED],
            "estimator": None if found.estimator is None else found.estimator.model_dump(),
            **known,
        },
    }


def _parse(data: bytes, where: str) -> CalibrationFile:
    try:
        found = CalibrationFile.model_validate(strict_json(data))
    except ValidationError as error:
        path, problem = explain(error, CalibrationFile)
        raise MfsynthError(
            f"{where}: not what `mfsynth calibrate` writes ({path}: {problem}); calibrate anew"
        ) from error
    except ValueError as error:
        raise MfsynthError(
            f"{where}: not what `mfsynth calibrate` writes ({error}); calibrate anew"
        ) from error
    if found.guarantee is not None and FUSED not in found.limits:
        raise MfsynthError(f"{where}: has no limit for the fused score; calibrate anew")
    return found


def _joined(name: str, found: CalibrationFile, checks: Mapping[str, Any], where: str) -> Any:
    """Settings of a check: the file's, with the run's own limits over them."""
    if name not in check_names():
        raise MfsynthError(
            f"{where}: has the check {name!r:.80}, which is not there here; install it, or "
            "calibrate anew"
        )
    calibrated, limits = found.checks[name], limit_settings(find_check(name))
    for key, score in limits.items():
        value = calibrated.get(key)
        if value != (limit := found.limits.get(score, value)):
            raise MfsynthError(
                f"{where}: the limit of {score} is {limit}, but checks.{name}.{key} is {value}, of "
                "which nothing is guaranteed; calibrate anew"
            )
    own = checks.get(name, {})
    if own is None:
        raise MfsynthError(
            f"checks.{name}: null, but the fused score of the calibration looks at it; leave it "
            "on, or calibrate without it"
        )
    if not isinstance(own, Mapping):
        return own  # Validation says what is wrong with it.
    for key, value in own.items():
        if key not in limits and key in calibrated and calibrated[key] != value:
            raise MfsynthError(
                f"checks.{name}.{key}: {value}, but the calibration was made with "
                f"{calibrated[key]}; calibrate anew with it, or leave it out"
            )
    return {**calibrated, **own}
