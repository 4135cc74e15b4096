"""Typed configuration of a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from mfsynth.config import load_settings
from mfsynth.config.base import Count, Index, Items, LocalPath, NonEmpty, Settings
from mfsynth.sources.parts import SourcePart

PERTURBED = "perturbed"
"""Names no estimator: a perturbed copy of the trusted depth stands in for what one would say."""


def _require_json(path: Path) -> Path:
    if path.suffix != ".json":
        raise ValueError("must end in .json: the table and the plot lie beside it")
    return path


_Share = Annotated[float, Field(gt=0, lt=1)]


class TrustedPart(SourcePart):
    """Pairs of one source that are taken for good ones.

    Attributes:
        crops: Windows of each image, the largest of the wanted proportions, side by side.
        limit: How many images at most, the first ones; None for all.
    """

    crops: Count = 1
    limit: Count | None = None


class CalibrateConfig(Settings):
    """Everything that decides a calibration.

    Attributes:
        seed: Of corruptions, of the parts of the images, and of the bootstrap.
        height: Of the pairs, in pixels, as the runs make them that the calibration is for.
        width: Likewise.
        checks: Settings of each check by its name, as a run has them; their limits are replaced.
        estimator: For checks that look at estimates: `embedded`, a folder or a hub id, as a run's
            `estimator.id`; or `perturbed`, which makes all figures of such checks upper bounds.
        data: The trusted pairs. A quarter of the images fits the fused score, the others give
            limits.
        held_out: More trusted pairs, to count what the limits reject of them; None for none.
        alpha: Share of good pairs that all limits together may reject; None, with `delta`, for
            figures without limits.
        delta: Probability that they reject more.
        draws: Of the bootstrap.
        output: The calibration's file, .json; the table (.md) and the plot (.svg) lie beside it.
    """

    seed: Index = 0
    height: Annotated[int, Field(ge=16)]
    width: Annotated[int, Field(ge=16)]
    checks: dict[str, dict[str, Any] | None]
    estimator: NonEmpty | None = None
    data: Annotated[Items[TrustedPart], Field(min_length=1)]
    held_out: Items[TrustedPart] | None = None
    alpha: _Share | None = 0.05
    delta: _Share | None = 0.05
    draws: Annotated[int, Field(ge=20)] = 500
    output: Annotated[LocalPath, AfterValidator(_require_json)]

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.alpha is None) != (self.delta is None):
            raise ValueError("give both alpha and delta, or null for both for figures alone")
        if self.alpha is None and self.held_out is not None:
            raise ValueError(
                "held_out is counted by limits, and without alpha and delta there are none; set "
                "held_out to null, or give both"
            )
        return self


def load_calibrate_config(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    output: str | None = None,
    estimator: str | None = None,
) -> CalibrateConfig:
    """Load a calibration: the name of one in configs/calibrate/, a path, or a URL.

    Args:
        name_or_path: See above.
        overrides: Each `"a.b=c"`, `c` in YAML; later ones win.
        output: Replaces `output`.
        estimator: Replaces `estimator`.

    Raises:
        MfsynthError: One line that names the file, the key, and what to do.
    """
    given: list[tuple[str, Any]] = []
    given += [("output", output)] if output is not None else []
    given += [("estimator", estimator)] if estimator is not None else []
    return load_settings(CalibrateConfig, "configs/calibrate", name_or_path, overrides, given)
