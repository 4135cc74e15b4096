"""What a check is: settings, what it looks at, the scores that it gives, and their limits.

A check is one file with one class. This one, in a package of its own, keeps dark images out:

```python
from mfsynth.checks import Check, CheckedPair, Score


class Brightness(Check):
    \"\"\"Limit on how dark an image may be: `min` is the least mean brightness.\"\"\"

    min: float = 0.1

    inputs = ("rgb",)
    scores = (
        Score("brightness", "brightness", "higher", "mean of all pixels, in [0, 1]", limit="min"),
    )

    def measure(self, pair: CheckedPair) -> dict[str, float]:
        return {"brightness": float(pair.rgb.mean()) / 255}
```

Settings that are lists have the types `Items` and `Pair` of `mfsynth.config.base`. Its package
names the class in `pyproject.toml`, and a run's configuration the check:

```toml
[project.entry-points."mfsynth.checks"]
brightness = "my_checks:Brightness"
```

```yaml
checks: {validity: {}, brightness: {min: 0.2}}
```
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from mfsynth.config.base import Settings
from mfsynth.geometry import DepthEstimate, Intrinsics
from mfsynth.geometry.rgbd import DepthMap, RgbImage, require_depth_of, require_rgb
from mfsynth.shards.labels import InstanceMask
from mfsynth.shards.run_manifest import ScoreInfo

Input = Literal[
    "rgb",
    "depth",
    "intrinsics",
    "camera",
    "joint_depth",
    "estimate",
    "text",
    "slots",
    "scores",
    "mask",
]
"""Of `CheckedPair`. A run has `intrinsics` with a camera, `estimate` with an estimator, `camera`
with either, `mask` with a source that has masks."""

_OWN_DEPTH_STEPS = 10


@dataclass(frozen=True, slots=True, eq=False)
class CheckedPair:
    """What the checks look at.

    Attributes:
        rgb: Image uint8 (H, W, 3).
        depth: z-depth float32 (H, W), any positive unit; 0 = invalid.
        intrinsics: Of the camera; None if unknown.
        joint_depth: Where `depth` is the model's own for the finished image and took its place,
            the depth that was made with the image, float32 (H, W), any unit; 0 = invalid; None
            if there was no other depth.
        estimate: What a depth estimator says of `rgb`; None if there is none.
        text: The prompt; None if there was none.
        slots: What the prompt took for each slot of its library, in the order of the text; None if
            that isn't known.
        scores: What the checks before this one gave; nan where they abstained. None before the
            first that looks at it.
        mask: Numbers of the source's instances uint16 (H, W), 0 = none; None without.
        names: Of these instances, as far as they have any.
    """

    rgb: RgbImage
    depth: DepthMap
    intrinsics: Intrinsics | None = None
    joint_depth: DepthMap | None = None
    estimate: DepthEstimate | None = None
    text: str | None = None
    slots: Mapping[str, tuple[str, ...]] | None = None
    scores: Mapping[str, float] | None = None
    mask: InstanceMask | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses arrays that no score is defined for.

        Raises:
            ValueError: Shapes or types are not as stated above.
        """
        require_rgb(self.rgb)
        require_depth_of(self.rgb, self.depth)
        if self.joint_depth is not None:
            require_depth_of(self.rgb, self.joint_depth, "joint_depth")
        if self.estimate is not None:
            require_depth_of(self.rgb, self.estimate.values, "estimate")

    @property
    def camera(self) -> Intrinsics | None:
        """That of the pair, or, where it has none, the one that the estimator sees."""
        if self.intrinsics is not None or self.estimate is None:
            return self.intrinsics
        return self.estimate.intrinsics


@dataclass(frozen=True, slots=True)
class Score:
    """A number that a check gives for a pair, and what people are told of it.

    Attributes:
        name: Of its column in the index, after `check_`, and of the reason of a rejection.
        label: A word or two for people.
        direction: Which values are the better ones: `higher` or `lower`.
        note: What it measures, in a line.
        unit: Of the number; "" for none.
        limit: The setting that holds the worst value that passes; None where all values pass, as
            they do while that setting is unset.
    """

    name: str
    label: str
    direction: Literal["higher", "lower"]
    note: str
    unit: str = ""
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """A network that a check asks.

    Attributes:
        id: As the settings give it.
        revision: Of its files; part of a run's fingerprint.
        licence: Of its weights.
    """

    id: str
    revision: str
    licence: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a pair was turned down.

    Attributes:
        score: Name of the score.
        value: Its value; nan where the score has none.
        limit: The worst value that would have passed; nan where there is no limit.
    """

    score: str
    value: float
    limit: float


class Check(Settings):
    """A check of RGB-D pairs: its fields are its settings, `measure` is the check.

    Frozen, as all settings, so that any number of threads may call it at a time.

    Attributes:
        on_abstain: What becomes of a pair that a score says nothing of: `pass` or `reject`.
        inputs: What it looks at. A run that lacks one of them refuses the check; for a lone pair
            without it the check abstains.
        scores: What it gives; always all of them, in this order.
    """

    # It came later: what is the default is no part of what is stored, nor of any digest.
    on_abstain: Annotated[
        Literal["pass", "reject"], Field(exclude_if=lambda value: value == "pass")
    ] = "pass"

    inputs: ClassVar[tuple[Input, ...]]
    scores: ClassVar[tuple[Score, ...]]

    @abstractmethod
    def measure(self, pair: CheckedPair) -> Mapping[str, float]:
        """All scores of a pair, by name; nan where the check abstains.

        Args:
            pair: Has all `inputs`. Its arrays are not to be changed.
        """

    def failures(self, pair: CheckedPair, scores: Mapping[str, float]) -> Iterator[Failure]:
        """Why the pair fails: its scores that are beyond their limits; nan only if settings say so.

        Args:
            pair: May lack some of `inputs`; all scores are nan, then.
            scores: Of the pair, by name.
        """
        for name, info in self.score_infos().items():
            abstains = self.on_abstain == "reject" and math.isnan(scores[name])
            if abstains or info.fails(scores[name]):
                yield Failure(name, scores[name], math.nan if info.limit is None else info.limit)

    def parted(self, pair: CheckedPair) -> tuple[str, ...]:
        """Objects whose mask and image part ways: their numbers in the mask, each with its name.

        Args:
            pair: As for `measure`.
        """
        return ()

    def network(self) -> NetworkInfo | None:
        """The network that `measure` asks; None if there is none. Loads no weights.

        Raises:
            MfsynthError: There is no such network; the message doesn't name the check.
        """
        return None

    def load(self) -> None:
        """Load what `measure` needs beside the settings. A worker calls it before its first pair.

        Raises:
            MfsynthError: As `network`; or its files are not what they should be.
        """

    def score_infos(self) -> dict[str, ScoreInfo]:
        """What a run keeps of the scores, by name: with their limits under these settings."""
        return {
            score.name: ScoreInfo(
                label=score.label,
                direction=score.direction,
                unit=score.unit,
                note=score.note,
                limit=self._limit(score),
                default_limit=self._default_limit(score),
            )
            for score in self.scores
        }

    def _limit(self, score: Score) -> float | None:
        limit = None if score.limit is None else getattr(self, score.limit)
        return None if limit is None else float(limit)

    def _default_limit(self, score: Score) -> float | None:
        field = None if score.limit is None else type(self).model_fields[score.limit]
        limit = None if field is None or field.is_required() else field.get_default()
        return None if limit is None else float(limit)

    @property
    def own_depth_steps(self) -> int:
        """Denoising steps, at least, of the depth that takes the place of `joint_depth`.

        0 if it does not look at both. A run makes that depth, the model's own for the finished
        image, where its sampler has not done so already.
        """
        return _OWN_DEPTH_STEPS if "joint_depth" in self.inputs else 0
