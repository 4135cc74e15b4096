"""Small runs whose pairs are in metres, with two cameras, and with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tiny_run

from mfsynth.geometry import DepthKind, Intrinsics, IntrinsicsSource
from mfsynth.shards.codecs import encode_metres
from mfsynth.shards.commits import commit
from mfsynth.shards.frame_columns import FRAME
from mfsynth.shards.labels import (
    MASK,
    POSES,
    Labels,
    Matrix,
    Moment,
    ObjectPose,
    SensorFile,
    encode_mask,
    encode_poses,
    member_of,
)
from mfsynth.shards.records import Sample
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.tables import contents_of_run
from mfsynth.storage.store import ObjectStore

CAMERAS = (Intrinsics(30.0, 31.0, 15.25, 11.5), Intrinsics(40.5, 40.5, 16.0, 12.0))


def metric_sample(candidate: int, far: float | None = None) -> Sample:
    """A pair with a hole, and four pixels `far` away; every second with the other camera."""
    sample = tiny_run.make_sample(candidate)
    depth = sample.depth.copy()
    if far is not None:
        depth[10, 10:14] = far
    return replace(
        sample,
        depth=depth,
        depth_kind=DepthKind.METRIC_Z,
        intrinsics=CAMERAS[candidate % 2],
        intrinsics_source=IntrinsicsSource.RENDERED,
    )


def make_metric_run(url: str, fars: Sequence[float | None]) -> ObjectStore:
    """One committed shard, a pair for each of `fars`."""
    store = ObjectStore.open(url)
    open_run(store, tiny_run.make_manifest())
    records = [metric_sample(candidate, far) for candidate, far in enumerate(fars)]
    rejects = [tiny_run.make_reject(i) for i in range(len(fars), tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [*records, *rejects]))
    return store


LABELS = (
    *(f"{member}_{part}" for member in ("mask", "poses") for part in ("offset", "size", "crc32")),
    "objects",
)
TURNED = tuple(np.array([[0, -1, 0, 0.1], [1, 0, 0, 0], [0, 0, 1, 1.5], [0, 0, 0, 1]]).ravel())
"""Pose of the mugs."""


def mask_of(candidate: int) -> np.ndarray:
    """A mug in the corner, a block with a hole in it, and something without a name."""
    mask = np.zeros((24, 32), np.uint16)
    mask[:4, :5] = 300
    mask[6:16, 8:20] = 2
    mask[9:12, 11 : 14 + candidate] = 0
    mask[23, 31] = 9
    return mask


def make_labelled_run(url: str, pairs: int = 2, unmasked: Sequence[int] = ()) -> ObjectStore:
    """Metric pairs with masks and objects, of which the last has neither, and some no mask."""
    objects = (ObjectPose(300, "mug", TURNED), ObjectPose(2, "block"))
    store = ObjectStore.open(url)
    plain = tiny_run.make_manifest()
    scores = dict.fromkeys(tiny_run.SCORES, "")
    contents: dict[str, Any] = contents_of_run(scores, tiny_run.SLOTS, (*tiny_run.ADDED, *LABELS))
    open_run(store, replace(plain, **contents))
    made = []
    for candidate in range(pairs + 1):
        sample = metric_sample(candidate)
        if candidate < pairs:
            files = {POSES: encode_poses(objects)}
            if candidate not in unmasked:
                files[MASK] = encode_mask(mask_of(candidate))
            sample = replace(sample, labels=Labels.of(files, sample.depth.shape))
        made.append(sample)
    rejects = [tiny_run.make_reject(i) for i in range(len(made), tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [*made, *rejects]))
    return store


MEMBERS = tuple(
    f"{member}_{part}"
    for member in ("sensor", "mask", "poses")
    for part in ("offset", "size", "crc32")
)


def pose_of(number: int) -> Matrix:
    """Where the camera of a frame is: it turns about an axis of no special kind, and moves."""
    x, y, z = np.array([1.0, 2.0, -2.0]) / 3
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = 0.4 + 1.3 * number
    pose = np.eye(4)
    pose[:3, :3] += np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    pose[:3, 3] = 0.25 * number, -1.5, 2.0
    return tuple(pose.ravel().tolist())


def make_full_run(url: str) -> ObjectStore:
    """Metric pairs with all that runs can have: frames of two episodes, as they were made.

    Frame 3 of the second has neither a pose nor any other label; the last pair is no frame.
    """
    objects = (ObjectPose(300, "mug", TURNED), ObjectPose(2, "block"))
    moments = [Moment("pour", 4, 0.5), Moment("stack", 2, 7.0), Moment("pour", 0, 0.125)]
    moments += [Moment("stack", 3, 7.25)]
    store = ObjectStore.open(url)
    added = (*tiny_run.ADDED, *MEMBERS, "sensor_unit_per_code", "objects", "camera_to_world")
    added += ("episode", "frame", "timestamp")
    scores = dict.fromkeys(tiny_run.SCORES, "")
    others = ("normals_npy",)
    contents: dict[str, Any] = contents_of_run(scores, tiny_run.SLOTS, added, others=others)
    open_run(store, replace(tiny_run.make_manifest(), **contents))
    made = []
    for candidate, moment in enumerate([*moments, None]):
        sample = replace(metric_sample(candidate), intrinsics=CAMERAS[0])
        labels = Labels(moment=moment)
        if candidate != 3:
            files = {MASK: encode_mask(mask_of(candidate)), POSES: encode_poses(objects)}
            files |= {"normals.npy": b"normals of %d" % candidate}
            sensor = np.where(sample.depth > 1.5, sample.depth, 0)
            png, unit = encode_metres(sensor)
            labels = replace(
                Labels.of(files, sample.depth.shape, pose_of(candidate), moment),
                sensor=SensorFile(png, unit),
            )
            sample = replace(sample, sensor_file=labels.sensor)
        made.append(replace(sample, labels=labels))
    rejects = [tiny_run.make_reject(i) for i in range(len(made), tiny_run.SHARD_SIZE)]
    assert commit(store, tiny_run.upload_shard(store, 0, [*made, *rejects]))
    return store


def make_episode_run(
    url: str,
    moments: Sequence[Moment | None],
    frames: Sequence[bytes | None] = (),
    seed: int = 0,
) -> ObjectStore:
    """Metric pairs of one camera and task, a frame of an episode each, or none.

    Args:
        url: Of the run.
        moments: Of each pair.
        frames: Of each the `lerobot.json`, of a run that has them.
        seed: Of runs that make other samples.
    """
    store = ObjectStore.open(url)
    plain = tiny_run.make_manifest(seed=seed)
    added = (*tiny_run.ADDED, "episode", "frame", "timestamp")
    scores = dict.fromkeys(tiny_run.SCORES, "")
    others = (member_of(FRAME),) if frames else ()
    contents: dict[str, Any] = contents_of_run(scores, tiny_run.SLOTS, added, others=others)
    open_run(store, replace(plain, **contents))
    made: list[Any] = []
    for candidate, moment in enumerate(moments):
        sample = metric_sample(candidate)
        file = frames[candidate] if frames else None
        labels = Labels({} if file is None else {FRAME: file}, moment=moment)
        made.append(replace(sample, labels=labels))
    made += [tiny_run.make_reject(i) for i in range(len(made), tiny_run.SHARD_SIZE)]
    of_this_run = [tiny_run.of_run(one, plain.run_id) for one in made]
    assert commit(store, tiny_run.upload_shard(store, 0, of_this_run, run_id=plain.run_id))
    return store
