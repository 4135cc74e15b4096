"""The checks of a run together: all scores of a pair, and why it was turned down."""

from __future__ import annotations

from dataclasses import dataclass

from mfsynth.checks import validity
from mfsynth.checks.flying_pixels import flying_pixels
from mfsynth.checks.registration import registration
from mfsynth.checks.self_agreement import self_agreement
from mfsynth.config import ChecksConfig
from mfsynth.geometry.rgbd import DepthMap, RgbImage, require_depth_of, require_rgb


@dataclass(frozen=True, slots=True, eq=False)
class CheckedPair:
    """What the checks look at.

    Attributes:
        rgb: Image uint8 (H, W, 3).
        depth: z-depth float32 (H, W), any positive unit; 0 = invalid.
        i2d_depth: The model's own depth for `rgb`, float32 (H, W), or None if it was not made.
    """

    rgb: RgbImage
    depth: DepthMap
    i2d_depth: DepthMap | None = None

    def __post_init__(self) -> None:
        """Refuses arrays that no score is defined for.

        Raises:
            ValueError: Shapes or types are not as stated above.
        """
        require_rgb(self.rgb)
        require_depth_of(self.rgb, self.depth)
        if self.i2d_depth is not None:
            require_depth_of(self.rgb, self.i2d_depth, "i2d_depth")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Outcome of the checks for one pair.

    Attributes:
        scores: Every score of every configured check; nan where the check abstains.
        reasons: One line a failed check, beginning with the score's name, for example
            "registration 0.82 < 1.50"; empty if the pair is accepted.
    """

    scores: dict[str, float]
    reasons: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """True if no check failed; a check that abstains does not fail."""
        return not self.reasons


def score_names(config: ChecksConfig) -> tuple[str, ...]:
    """Names of the scores that `run_checks` gives under this configuration, in its order."""
    names: list[str] = []
    if config.validity is not None:
        names += ["valid_fraction", "far_fraction", "dynamic_range"]
    names += [
        name
        for name in ("registration", "flying_pixels", "self_agreement")
        if getattr(config, name) is not None
    ]
    return tuple(names)


def run_checks(pair: CheckedPair, config: ChecksConfig) -> Verdict:
    """Runs all configured checks, also after one has failed, so that all scores are known.

    Args:
        pair: Image and depth.
        config: Thresholds; a check whose part is None is not run and gives no score.

    Returns:
        Scores valid_fraction, far_fraction, dynamic_range (validity), registration,
        flying_pixels and self_agreement, as far as configured, and the reasons of a rejection.
    """
    scores: dict[str, float] = {}
    reasons: list[str] = []

    def at_least(name: str, score: float, limit: float) -> None:
        scores[name] = score
        if score < limit:
            reasons.append(_failure(name, score, "<", limit))

    def at_most(name: str, score: float, limit: float) -> None:
        scores[name] = score
        if score > limit:
            reasons.append(_failure(name, score, ">", limit))

    if config.validity is not None:
        malformed = validity.malformed_pixels(pair.depth)
        if malformed:
            reasons.append(
                f"valid_fraction undefined: {malformed} depths are negative or not finite"
            )
        valid = config.validity
        at_least("valid_fraction", validity.valid_fraction(pair.depth), valid.min_valid_fraction)
        at_most("far_fraction", validity.far_fraction(pair.depth), valid.max_far_fraction)
        at_least("dynamic_range", validity.dynamic_range(pair.depth), valid.min_dynamic_range)
    if config.registration is not None:
        at_least("registration", registration(pair.rgb, pair.depth), config.registration.min)
    if config.flying_pixels is not None:
        at_most("flying_pixels", flying_pixels(pair.depth), config.flying_pixels.max)
    if config.self_agreement is not None:
        agreement = self_agreement(pair.depth, pair.i2d_depth)
        at_most("self_agreement", agreement, config.self_agreement.max)
    return Verdict(scores, tuple(reasons))


def _failure(name: str, score: float, relation: str, limit: float) -> str:
    """The failure in words, with as many digits as tell the score from the limit."""
    digits = 2
    while f"{score:.{digits}f}" == f"{limit:.{digits}f}" and digits < 6:
        digits += 1
    return f"{name} {score:.{digits}f} {relation} {limit:.{digits}f}"
