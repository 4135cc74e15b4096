"""What a shard holds, and the receipt that says so.

A candidate ends as exactly one of three types: a `Sample` (accepted), a `Reject` (the checks
said no) or a `Quarantine` (making it failed: it crashed its worker).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from mfsynth.config.documents import strict_json
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.geometry.rgbd import DepthMap, RgbImage, require_rgbd
from mfsynth.shards import layout
from mfsynth.shards.labels import NO_LABELS, Labels, SensorFile

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
"""Of images that a model made for depth that no model made, and of that depth beside them."""

_COUNTS = (
    *("shard", "first_candidate", "candidates"),
    *("accepted", "rejected", "quarantined"),
)
# Of any number in a receipt: sums of these are finite, and exact in JSON of whatever reader.
_MOST = 2**53
_UNKNOWN_OR = ("prompts_unknown", "prompts_cut")
_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CandidateRef:
    """Which candidate of a run something is of; with the run's settings, it decides the pair.

    Attributes:
        sample_id: `layout.sample_id(run, candidate)`.
        candidate: Number of the candidate in the run, from 0.
        seed: Noise seed.
        prompt: Text of the prompt.
        prompt_id: Stable hash of the prompt's text.
        slots: What the prompt took for each slot of its library, in the order of the text; a slot
            that this prompt doesn't have took nothing.
        source: What the item is called in the source that the run begins with; None where there is
            no source.
        copy: Which of the candidates made of that item, from 0; None likewise.
        scene: What that source says that views of one scene, or frames of one recording, have in
            common; None where it doesn't say.
    """

    sample_id: str
    candidate: int
    seed: int
    prompt: str
    prompt_id: str
    slots: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    source: str | None = None
    copy: int | None = None
    scene: str | None = None

    def __post_init__(self) -> None:
        if not layout.SAMPLE_ID.fullmatch(self.sample_id):
            raise ValueError(f"sample id {self.sample_id!r} is not [0-9a-z_-]+")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An accepted RGB-D pair.

    Attributes:
        ref: The candidate that it comes from.
        rgb: uint8 (H, W, 3).
        depth: float32 (H, W), z-depth (distance along the optical axis), 0.0 = invalid.
        scores: Score of every check; NaN where the check abstains.
        mode: `joint`, `i2d` or `d2i`.
        model_id: Model that made the pair.
        depth_kind: What the numbers in `depth` mean; only `METRIC_Z` kinds are metres.
        licence: What the pair may be used for, by the licence's short name.
        intrinsics: Pinhole camera in pixels, or None if unknown.
        intrinsics_source: Where `intrinsics` came from; None exactly if `intrinsics` is.
        camera: The preset that `intrinsics` are of; None where they are of none.
        digital_source_type: How the image came to be, a term of the IPTC; "" of a photograph that
            doesn't say.
        jpeg: The file of `rgb`, to be kept as it is; None where it is yet to be compressed.
        estimated_intrinsics: The camera that an estimator sees, beside one that is given.
        metres_per_unit: The factor that made relative depth metric; None where none did.
        metres_per_unit_error: Its relative standard error; None where that isn't known.
        sensor: What a sensor measured, float32 (H, W) metres, 0.0 = invalid; None without one.
        sensor_preset: Whose sensor would have measured it; None of a real measurement.
        sensor_file: What a source's sensor returned, kept as it is where there is no `sensor`.
        source_licence: What the source's item may be used for; None without a source.
        labels: What its source knows of the view, of its size.
        parted: Objects of these whose mask and image part ways, as a check names them.
    """

    ref: CandidateRef
    rgb: RgbImage
    depth: DepthMap
    scores: Mapping[str, float]
    mode: str
    model_id: str
    depth_kind: DepthKind
    licence: str
    intrinsics: Intrinsics | None = None
    intrinsics_source: IntrinsicsSource | None = None
    camera: str | None = None
    digital_source_type: str = DIGITAL_SOURCE_TYPE
    jpeg: bytes | None = None
    estimated_intrinsics: Intrinsics | None = None
    metres_per_unit: float | None = None
    metres_per_unit_error: float | None = None
    sensor: DepthMap | None = None
    sensor_preset: str | None = None
    sensor_file: SensorFile | None = None
    source_licence: str | None = None
    labels: Labels = NO_LABELS
    parted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_rgbd(self.rgb, self.depth)
        if (self.intrinsics is None) != (self.intrinsics_source is None):
            raise ValueError("intrinsics and intrinsics_source go together")
        if self.camera is not None and self.intrinsics is None:
            raise ValueError("a camera has intrinsics")
        mask = self.labels.mask
        if mask is not None and mask.shape != self.depth.shape:
            raise ValueError(f"a mask of {mask.shape} for depth of {self.depth.shape}")


@dataclass(frozen=True, slots=True)
class Reject:
    """A candidate that was made and that the checks filtered out.

    Attributes:
        ref: The candidate.
        scores: Score of every check; NaN where the check abstains.
        reasons: One short reason a failed check, for example `registration`.
        thumbnail_jpeg: Small JPEG of the image, or None where thumbnails aren't kept.
        phash: `perceptual_hash` of the image; None where it wasn't computed.
        parted: As of a `Sample`.
    """

    ref: CandidateRef
    scores: Mapping[str, float]
    reasons: tuple[str, ...]
    thumbnail_jpeg: bytes | None = None
    phash: int | None = None
    parted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError(f"{self.ref.sample_id}: a reject needs a reason")


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A candidate that could not be made: it failed, nothing judged it.

    Attributes:
        ref: The candidate.
        reason: Why, in one line.
    """

    ref: CandidateRef
    reason: str


Record = Sample | Reject | Quarantine


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An uploaded object: its key in the run, its size in bytes, its SHA-256 in hexadecimal."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one attempt at one shard uploaded; stored under `_commits/`, it is the commit.

    Attributes:
        run: Id of the run.
        shard: Number of the shard.
        attempt: Name of the attempt; equal attempts mean the same upload.
        first_candidate: First candidate of the shard.
        candidates: Number of candidates; accepted + rejected + quarantined.
        accepted: Samples in the tar, and rows of the index.
        rejected: Candidates that the checks filtered out.
        quarantined: Candidates that could not be made.
        objects: `tar`, `index` and `rejects`; where a run keeps the pixels of what it rejects,
            `rejected_tar`, too.
        seconds: Wall seconds by phase; `total` is the whole shard (phases may overlap).
        worker: Where it was made, for people.
        created: ISO 8601, UTC.
        run_sha256: Of the `run.json` that the worker saw; empty in runs of format version 1.
        reasons: How many rejected candidates failed each check; one may fail several.
        device: `cpu` or `cuda`; empty where that is not known.
        device_name: What it is, for people; empty where that is not known.
        prompts_unknown: Candidates whose prompt has words that the model doesn't know; None where
            that is not known.
        prompts_cut: Candidates whose prompt is longer than what the model reads; None where that
            is not known.
        retries: What failed before, by cause, of which this attempt and its commit are the
            repetition; None where that is not known.
    """

    run: str
    shard: int
    attempt: str
    first_candidate: int
    candidates: int
    accepted: int
    rejected: int
    quarantined: int
    objects: Mapping[str, StoredObject]
    seconds: Mapping[str, float]
    worker: str
    created: str
    run_sha256: str = ""
    reasons: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    device: str = ""
    device_name: str = ""
    prompts_unknown: int | None = None
    prompts_cut: int | None = None
    retries: Mapping[str, int] | None = None

    @property
    def total_seconds(self) -> float:
        """Wall seconds that the shard took: `seconds["total"]`, or else the sum of the phases."""
        return self.seconds.get("total", math.fsum(self.seconds.values()))

    def to_json(self) -> str:
        """Indented JSON with a final newline; `from_json` gives an equal receipt back."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["objects"] = {kind: asdict(stored) for kind, stored in self.objects.items()}
        fields["seconds"] = dict(self.seconds)
        fields["reasons"] = dict(sorted(self.reasons.items()))
        if self.retries is not None:
            fields["retries"] = dict(sorted(self.retries.items()))
        return json.dumps(fields, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Receipt:
        """Read what `to_json` wrote.

        Raises:
            MfsynthError: The text is not a receipt. The caller adds where it came from.
        """
        try:
            fields = strict_json(text)
            if not isinstance(fields, dict):
                raise ValueError("no object")
            known = {name: fields[name] for name in cls.__slots__ if name in fields}
            known["objects"] = {
                kind: StoredObject(stored["key"], stored["size"], stored["sha256"])
                for kind, stored in known["objects"].items()
            }
            receipt = cls(**known)
            receipt._require_sound()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise MfsynthError(f"not a receipt of a shard ({error})") from error
        return receipt

    def _require_sound(self) -> None:
        """Refuse what no worker writes, so that no reader meets it.

        Raises:
            ValueError: Says what it is.
        """
        counts = {name: getattr(self, name) for name in _COUNTS}
        counts |= {f"reasons.{name}": count for name, count in self.reasons.items()}
        counts |= {f"{kind}.size": stored.size for kind, stored in self.objects.items()}
        counts |= {name: n for name in _UNKNOWN_OR if (n := getattr(self, name)) is not None}
        counts |= {f"retries.{cause}": count for cause, count in (self.retries or {}).items()}
        for name, count in counts.items():
            if type(count) is not int or not 0 <= count <= _MOST:
                raise ValueError(f"{name:.80} is not a number from 0 to {_MOST}")
        for phase, seconds in self.seconds.items():
            if type(seconds) not in (int, float) or not 0 <= seconds <= _MOST:
                raise ValueError(f"seconds.{phase:.80} is not a number from 0 to {_MOST}")
        if not isinstance(self.worker, str) or not is_utc(self.created):
            raise ValueError("worker is no text, or created no time of UTC")
        if not isinstance(self.device, str) or not isinstance(self.device_name, str):
            raise ValueError("device or device_name is no text")
        if {*self.objects} - {layout.REJECTED_TAR} != {*layout.OBJECT_KINDS}:
            raise ValueError(f"objects are {sorted(self.objects)!s:.80}")
        for kind, stored in self.objects.items():
            # Inside of the run, and of nothing else: a key leads wherever it says.
            if stored.key != layout.object_key(kind, self.run, self.shard, self.attempt):
                raise ValueError(f"{stored.key!r:.200} is not the {kind} of this attempt")
        for digest in (*(stored.sha256 for stored in self.objects.values()), self.run_sha256):
            if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}|", digest):
                raise ValueError("a SHA-256 is none")


def depth_source_type(mode: str, image: str) -> str:
    """How the depth of a pair came to be, a term of the IPTC.

    Args:
        mode: What was made of what.
        image: How its image came to be, as its row says.
    """
    # Of a photograph's image the depth is a model's all the same.
    return image if mode == "d2i" and image else DIGITAL_SOURCE_TYPE


def parse_receipt(key: str, data: bytes) -> Receipt:
    """The receipt that is stored at the key of a commit.

    Raises:
        MfsynthError: It is none, or one of another shard; the message begins with the key.
    """
    try:
        receipt = Receipt.from_json(data)
    except MfsynthError as error:
        raise MfsynthError(f"{key}: {error}") from error
    if layout.parse_commit_key(key) != receipt.shard:
        raise MfsynthError(f"{key}: is the receipt of shard {receipt.shard}")
    return receipt


def is_utc(text: object) -> bool:
    """Whether it is a time such as `2026-01-01T00:00:00+00:00`, with years on both sides of it."""
    if not isinstance(text, str) or not re.match(r"\d{4}-\d\d-\d\dT", text, re.ASCII):
        return False
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return False
    return moment.utcoffset() == timedelta() and 1970 <= moment.year < 9999
