"""Files that `mfsynth calibrate` writes, and what becomes of one that a run names.

```yaml
checks: {calibration: FILE}                            # all its checks, with its limits
checks: {calibration: FILE, registration: {min: 2}}    # this limit by hand
checks: {calibration: embedded}                        # one that comes with mfsynth
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from mfsynth.config.base import Items, NonEmpty, Settings, Unset
from mfsynth.config.documents import read_bytes, strict_json
from mfsynth.config.explain import explain
from mfsynth.config.resources import resolve_resource
from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.digests import sha256_of_bytes

_WHAT = "calibration"
# What a run says itself of a calibration that it names.
_BESIDE_A_FILE = {"max_fused", "on_abstain"}


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
        networks: By check, revisions of the networks that the checks asked; None without.
        settings: What it was made of.
        sources: Of the trusted pairs: what each was, and the SHA-256 of what it gave.
        figures: Power of each score against each corruption; see docs/how-to/calibration.md.
    """

    version: Literal[1]
    made_with: NonEmpty
    guarantee: Guarantee | None
    checks: dict[str, dict[str, Any]]
    limits: dict[str, float]
    terms: Items[Term]
    bias: float
    estimator: UsedEstimator | None
    networks: Unset[dict[str, str]] = None
    settings: dict[str, Any]
    sources: Items[dict[str, Any]]
    figures: dict[str, Any]


def limit_settings(check: type[Check]) -> dict[str, str]:
    """By the names of a check's settings that hold limits, the scores that they are for."""
    return {score.limit: score.name for score in check.scores if score.limit is not None}


@dataclass(frozen=True, slots=True)
class NamedCalibration:
    """A calibration that a run names.

    Attributes:
        checks: Settings of the run's checks, with what the file says in its place.
        where: The key and the file, for messages.
        size: Height and width of the pairs that it was made of; None where the file doesn't say it.
    """

    checks: dict[str, Any]
    where: str
    size: tuple[int, int] | None

    def require_size(self, height: int, width: int) -> None:
        """Refuse pairs of another size: sharpness, steps and tiles are other ones there.

        Raises:
            MfsynthError: The run's pairs are of that size.
        """
        if self.size not in (None, (height, width)):
            raise MfsynthError(
                f"{self.where}: made of pairs of {self.size[1]}x{self.size[0]} pixels, and the run "
                f"makes {width}x{height}; calibrate anew with height={height} width={width}"
            )


def with_calibration(checks: Mapping[str, Any]) -> NamedCalibration | None:
    """The calibration that a run's checks name; None without one.

    The file's checks are run, with its limits; a limit that the run gives itself wins. Where a
    file's content has been taken in already, none is named.

    Args:
        checks: By name, as somebody gave them.

    Raises:
        MfsynthError: The file can't be read or is damaged, has no limits, comes from a stand-in
            for an estimator, has values beside it that are the file's, has two limits of one score,
            or is of checks with other settings than the run's.
    """
    named = checks.get(CALIBRATION)
    if not (isinstance(named, Mapping) and isinstance(named.get("path"), str)):
        return None
    url = resolve_resource("configs/calibrations", named["path"], ".json")
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
    if others := known.keys() - _BESIDE_A_FILE:
        own = " and ".join(sorted(_BESIDE_A_FILE))
        raise MfsynthError(
            f"checks.{CALIBRATION}.{min(others)}: comes from the file that path names; beside it "
            f"may be {own}, and a score's limit is set at its check"
        )
    joined = {
        **checks,
        **{name: _joined(name, found, checks, where) for name in found.checks},
        CALIBRATION: {
            "sha256": sha256_of_bytes(data),
            "guarantee": found.guarantee.model_dump(),
            "limits": found.limits,
            "terms": [term.model_dump() for term in found.terms],
            "bias": found.bias,
            "max_fused": found.limits[FUSED],
            "estimator": None if found.estimator is None else found.estimator.model_dump(),
            "networks": found.networks,
            **known,
        },
    }
    settings = found.settings
    is_told = {"height", "width"} <= settings.keys()
    size = (settings["height"], settings["width"]) if is_told else None
    return NamedCalibration(joined, where, size)


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
        # From Python a list may be a tuple.
        given = [*value] if isinstance(value, tuple) else value
        if key not in limits and key in calibrated and calibrated[key] != given:
            raise MfsynthError(
                f"checks.{name}.{key}: {value}, but the calibration was made with "
                f"{calibrated[key]}; calibrate anew with it, or leave it out"
            )
    return {**calibrated, **own}
