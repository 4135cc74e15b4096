"""The names of everything a run stores.

    run.json                                    what this run is
    shards/<run>-000012.<attempt>.tar           accepted samples, WebDataset
    index/<run>-000012.<attempt>.parquet        one row a sample, with offsets into the tar
    rejects/<run>-000012.<attempt>.parquet      one row a candidate that gave no sample
    rejects/<run>-000012.<attempt>.tar          the pixels of rejected ones, where a run keeps them
    _commits/000012.json                        the receipt that makes those above count
    _segments/000000-0032.<sha256>.parquet      index rows of 32 shards in one table: a cache
    _segments/000000-0032.<sha256>.json         their receipts in one document: a cache
    _views/<name>.json                          which candidates are a data set by other limits
    _views/<name>/                              its rows, and its documents, written by finalize
    _driver/<name>.json                         the heartbeat of a driver, while it runs
    _driver/progress.json                       how many shards drivers have seen committed
    _tombstones/<time>-<random>.json            what gc will delete, and from when on
    _log/<time>-<random>.<part>.txt             what a driver said, for people
    manifest.json, croissant.json, README.md    written by finalize, made again at will
    .nv-meta/…, shards/….tar.idx                the same, for Energon, where it is asked for

`<run>` is the run's id: its name and its identity (`run_id`). Keys are relative to the root of the
run, with forward slashes on every system.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from mfsynth.config import FORMAT_VERSION as FORMAT_VERSION
from mfsynth.config import WRITTEN_VERSIONS as WRITTEN_VERSIONS
from mfsynth.config import run_identity
from mfsynth.shards.labels import MASK, POSES, suffix_of

RUN_KEY = "run.json"
FIRST_VERSION = 1
"""Runs of this version have no identity in their names."""
READABLE_VERSIONS = (FIRST_VERSION, "2-draft.1", *WRITTEN_VERSIONS)
MANIFEST_KEY = "manifest.json"
CROISSANT_KEY = "croissant.json"
CARD_KEY = "README.md"
DOCUMENT_KEYS = (CROISSANT_KEY, CARD_KEY, MANIFEST_KEY)
"""In the order of writing: the manifest says which others there are."""
VIEW_ROWS = "pairs.parquet"
"""Beside the documents of a view: its rows."""

OBJECT_KINDS = ("tar", "index", "rejects")
"""What every shard has."""
REJECTED_TAR = "rejected_tar"
"""What shards have of a run that keeps the pixels of what it rejects."""
FOLDERS = {"tar": "shards", "index": "index", "rejects": "rejects"}
"""Where these lie; the pixels of rejected pairs lie beside their table."""
COMMITS_FOLDER = "_commits"
DRIVERS_FOLDER = "_driver"
PROGRESS_KEY = f"{DRIVERS_FOLDER}/progress.json"
TOMBSTONES_FOLDER = "_tombstones"
SEGMENTS_FOLDER = "_segments"
SEGMENT_KINDS = ("index", "receipts")
LOGS_FOLDER = "_log"
VIEWS_FOLDER = "_views"
ENERGON_FOLDER = ".nv-meta"


RUN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
"""Name of a run: it becomes part of paths."""
RUN_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,88}")
"""Name of a run with its identity (`run_id`)."""
VIEW_NAME = RUN_NAME
"""Name of a view of a run."""

# A dot would end the key for every WebDataset reader; capitals collide on some file systems.
SAMPLE_ID = re.compile(r"[0-9a-z_-]+")
_ATTEMPT = re.compile(r"[0-9a-z_-]+")
_COMMIT = re.compile(rf"{COMMITS_FOLDER}/(\d{{6,}})\.json")
_OBJECT = re.compile(
    r"(?P<folder>shards|index|rejects)/(?P<run>[0-9a-z_-]+)-(?P<shard>\d{6,})"
    r"\.(?P<attempt>[0-9a-z_-]+)\.(?P<suffix>tar|parquet)"
)
_HEARTBEAT = re.compile(rf"{DRIVERS_FOLDER}/[0-9a-f]{{16}}\.json")
_TOMBSTONE = re.compile(rf"{TOMBSTONES_FOLDER}/\d{{8}}T\d{{6}}Z-[0-9a-f]{{16}}\.json")
# Folder and suffix of each kind of object.
_PLACES = {
    "tar": ("shards", "tar"),
    "index": ("index", "parquet"),
    "rejects": ("rejects", "parquet"),
    REJECTED_TAR: ("rejects", "tar"),
}
_KINDS = {place: kind for kind, place in _PLACES.items()}
_SEGMENT = re.compile(
    rf"{SEGMENTS_FOLDER}/(?P<first>\d{{6,18}})-(?P<count>\d{{4,18}})"
    r"\.(?P<sha256>[0-9a-f]{64})\.(?P<suffix>parquet|json)"
)
_TAR_INDEX = ".idx"
_VIEW = re.compile(rf"{VIEWS_FOLDER}/({VIEW_NAME.pattern})\.json")
_SEGMENT_SUFFIXES = {"index": "parquet", "receipts": "json"}


@dataclass(frozen=True, slots=True)
class ObjectName:
    """What the key of a stored object says."""

    kind: str
    run: str
    shard: int
    attempt: str


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What the key of one of the two objects of a segment says.

    Attributes:
        kind: One of `SEGMENT_KINDS`.
        first: Its first shard, a multiple of `count`.
        count: How many shards it covers.
        sha256: Of the bytes of the object.
    """

    kind: str
    first: int
    count: int
    sha256: str

    @property
    def shards(self) -> range:
        """Those that it covers."""
        return range(self.first, self.first + self.count)

    @property
    def key(self) -> str:
        """Of the object."""
        suffix = _SEGMENT_SUFFIXES[self.kind]
        return f"{SEGMENTS_FOLDER}/{self.first:06d}-{self.count:04d}.{self.sha256}.{suffix}"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a sample in the tar: how its name ends, and what it is."""

    suffix: str
    meaning: str


MEMBERS = {
    "rgb": Member("rgb.jpg", "the image: JPEG, 8 bits, sRGB"),
    "depth": Member(
        "depth.png",
        "the depth map: 16-bit greyscale PNG of codes; depth_encoding says how to decode them",
    ),
    "json": Member(
        "json", "all that a stranger needs to decode and place the pair; SHA-256 of its siblings"
    ),
}
"""What every sample has in the tar, in this order."""
ADDED_MEMBERS = {
    "sensor": Member(
        "sensor.png",
        "depth as a sensor returned it: 16-bit greyscale PNG, sensor_unit_per_code metres a code",
    ),
    "mask": Member(
        MASK, "the source's instances: greyscale PNG, 8 or 16 bits, number of each; 0 is none"
    ),
    "poses": Member(
        POSES,
        "the source's objects: a list of id (in the mask), name, object_to_camera (4x4, row by "
        "row, metres, axes of the camera)",
    ),
}
"""What samples of some runs have besides; not every sample of theirs need have it."""
OFFSET = "_offset"
"""What the name of a member's first column ends with."""


def members_of(columns: Collection[str]) -> dict[str, Member]:
    """Members of the samples of a run, in their order, by the columns of its index."""
    added = {name: m for name, m in ADDED_MEMBERS.items() if f"{name}{OFFSET}" in columns}
    others = {name: _other(name) for name in others_of(columns)}
    last = {"json": MEMBERS["json"]}
    return {"rgb": MEMBERS["rgb"], "depth": MEMBERS["depth"], **added, **others, **last}


def others_of(columns: Iterable[str]) -> list[str]:
    """Members that are the source's own alone, in their order, by the columns of an index."""
    known, there = MEMBERS.keys() | ADDED_MEMBERS.keys(), dict.fromkeys(columns)
    names = [name.removesuffix(OFFSET) for name in there if name.endswith(OFFSET)]
    whole = [name for name in names if {f"{name}_size", f"{name}_crc32"} <= there.keys()]
    return [name for name in whole if name not in known]


def _other(name: str) -> Member:
    return Member(suffix_of(name), "a file of the source's sample, unchanged")


def new_attempt() -> str:
    """A name that no other attempt at any shard has: 16 hexadecimal digits of randomness.

    Attempt-unique keys mean that no two writers ever write to one key, so an upload needs no
    lock and a retried upload can't damage a committed object.
    """
    return secrets.token_hex(8)


def run_id(name: str, fingerprint: str, format_version: int | str = FORMAT_VERSION) -> str:
    """What a run's names begin with: equal for two runs only if they make the same samples.

    Args:
        name: Of the run.
        fingerprint: Its digest.
        format_version: Of the run.
    """
    return name if format_version == FIRST_VERSION else f"{name}-{run_identity(fingerprint)}"


def sample_id(run: str, candidate: int) -> str:
    """`<run>-<candidate>`, nine digits at least, `[0-9a-z_-]+`; unique over runs.

    Args:
        run: `run_id` of the run.
        candidate: Number in the run.
    """
    return f"{run}-{candidate:09d}"


def run_of(sample_id: str) -> str:
    """`run_id` of the run that a sample is of."""
    return sample_id.rpartition("-")[0]


def object_key(kind: str, run: str, shard: int, attempt: str) -> str:
    """Key of an object of one attempt at a shard; of `OBJECT_KINDS`, or `REJECTED_TAR`."""
    if not _ATTEMPT.fullmatch(attempt):
        raise ValueError(f"attempt {attempt!r} is not [0-9a-z_-]+")
    folder, suffix = _PLACES[kind]
    return f"{folder}/{run}-{shard:06d}.{attempt}.{suffix}"


def tar_index_key(tar: str) -> str:
    """Key of what Energon reads beside a tar: where its samples begin."""
    return f"{tar}{_TAR_INDEX}"


def tar_of_index(key: str) -> str | None:
    """Key of the tar that such an index is of; None for any other key."""
    tar = key.removesuffix(_TAR_INDEX)
    name = parse_object_key(tar)
    return tar if tar != key and name is not None and name.kind == "tar" else None


def commit_key(shard: int) -> str:
    """Key of the receipt whose existence commits shard `shard`."""
    return f"{COMMITS_FOLDER}/{shard:06d}.json"


def parse_commit_key(key: str) -> int | None:
    """Shard of a commit's key; None for any other key, such as a half-written temporary."""
    match = _COMMIT.fullmatch(key)
    return int(match[1]) if match and commit_key(int(match[1])) == key else None


def parse_object_key(key: str) -> ObjectName | None:
    """What `object_key` was given to make `key`; None for any other key."""
    match = _OBJECT.fullmatch(key)
    if match is None:
        return None
    kind = _KINDS.get((match["folder"], match["suffix"]))
    if kind is None:
        return None
    return ObjectName(kind, match["run"], int(match["shard"]), match["attempt"])


def parse_segment_key(key: str) -> SegmentName | None:
    """What the key of an object of a segment says; None for any other key."""
    match = _SEGMENT.fullmatch(key)
    if match is None:
        return None
    kind = next(kind for kind, end in _SEGMENT_SUFFIXES.items() if end == match["suffix"])
    name = SegmentName(kind, int(match["first"]), int(match["count"]), match["sha256"])
    return name if name.key == key and name.count and name.first % name.count == 0 else None


def new_heartbeat() -> str:
    """Key of the heartbeat of a new driver."""
    return f"{DRIVERS_FOLDER}/{secrets.token_hex(8)}.json"


def is_heartbeat(key: str) -> bool:
    """Whether it is the key of the heartbeat of a driver."""
    return _HEARTBEAT.fullmatch(key) is not None


def new_tombstone(made: datetime) -> str:
    """Key of a tombstone that was made then (UTC)."""
    return f"{TOMBSTONES_FOLDER}/{made:%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}.json"


def is_tombstone(key: str) -> bool:
    """Whether it is the key of a tombstone."""
    return _TOMBSTONE.fullmatch(key) is not None


def new_log(began: datetime) -> str:
    """Name of the log of a driver that began then (UTC); `log_key` gives keys of it."""
    return f"{began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}"


def log_key(log: str, part: int) -> str:
    """Key of a part of a log, from 0."""
    return f"{LOGS_FOLDER}/{log}.{part:03d}.txt"


def view_key(name: str) -> str:
    """Key of the view that has a name."""
    return f"{VIEWS_FOLDER}/{name}.json"


def view_document_keys(name: str) -> dict[str, str]:
    """Keys of the documents of a view, by the keys of those of a run; and of its rows."""
    names = (VIEW_ROWS, *DOCUMENT_KEYS)
    return {document: f"{VIEWS_FOLDER}/{name}/{document}" for document in names}


def is_view_document(key: str) -> bool:
    """Whether it is the key of a document of a view."""
    folder, _, document = key.rpartition("/")
    name = folder.removeprefix(f"{VIEWS_FOLDER}/")
    return VIEW_NAME.fullmatch(name) is not None and key == view_document_keys(name).get(document)


def parse_view_key(key: str) -> str | None:
    """Name of the view that has a key; None for any other key."""
    match = _VIEW.fullmatch(key)
    return match[1] if match else None


def member_name(sample_id: str, member: str) -> str:
    """Name in the tar of a member: `KEY.rgb.jpg`, `KEY.depth.png`, `KEY.json`."""
    known = (MEMBERS | ADDED_MEMBERS).get(member) or _other(member)
    return f"{sample_id}.{known.suffix}"
