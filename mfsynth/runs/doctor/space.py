"""What a run will still store, and whether there is room for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mfsynth.config import RunConfig
from mfsynth.formatting import size
from mfsynth.runs.budget import Measurement, budget
from mfsynth.runs.doctor.findings import Finding, note, ok, warning
from mfsynth.runs.policy import Goal
from mfsynth.shards.layout import OBJECT_KINDS
from mfsynth.shards.records import Receipt
from mfsynth.shards.totals import totals
from mfsynth.storage.store import ObjectStore

# Neither a JPEG of high quality nor a 16-bit PNG is larger than its pixels, but for headers.
_PIXEL_BYTES = 5
_CANDIDATE_BYTES = 12_000
SPOOLED_SHARDS = 2
"""Of a worker: one shard is written while another one is uploaded."""
# The receipt is a file, too.
_FILES_A_SHARD = len(OBJECT_KINDS) + 1
_LITTLE = 10**9


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run will still store.

    Attributes:
        size: Bytes.
        files: How many.
        shard: Bytes of a shard, at most.
        source: What that is known from, in words.
    """

    size: float
    files: int
    shard: float
    source: str


def demand(
    config: RunConfig,
    pixels: tuple[int, int],
    receipts: Sequence[Receipt],
    end: int | None = None,
) -> Demand:
    """What is missing of a run, as its committed shards say; without one, a bound.

    Args:
        config: The run.
        pixels: Height and width of a pair.
        receipts: Of its committed shards.
        end: How many candidates there are, of a run with a source.
    """
    goal, height, width = Goal.of(config, end), *pixels
    files = _FILES_A_SHARD + (config.rejects_kept == "all")
    made = totals(receipts)
    there = goal.gained(made)
    shard = goal.shard_size * (height * width * _PIXEL_BYTES + _CANDIDATE_BYTES)
    if there:
        found = budget(
            Measurement.of("", receipts, goal.unit),
            target=goal.target,
            shard_size=goal.shard_size,
            there=there,
            left=goal.left(made),
        )
        return Demand(
            found.size.value + 2 * (found.size.error or 0.0),
            found.shards * files,
            shard,
            f"as {len(receipts)} shards say",
        )
    # Were all accepted; what is rejected is small, unless its pixels are kept.
    target = goal.target if end is None else min(goal.target, end)
    shards = -(-target // goal.shard_size)
    said = "at most" if end is None else "were all of the model's size"
    return Demand(shards * shard, shards * files, shard, said)


def has_room(store: ObjectStore, wanted: Demand | None) -> Finding:
    """Whether a store has room for what comes; of a folder, as its file system says."""
    coming = "" if wanted is None else f"{size(wanted.size)} to come, {wanted.source}"
    if store.local_root is None:
        return ok(coming or "an object store: it shows no limit")
    free, files = free_in(store.local_root)
    there = f"{size(free)} free"
    if wanted is None:
        return note(there, "free some before a run") if free < _LITTLE else ok(there)
    remedy = "free some, give another place, or set a smaller target"
    if free < wanted.size:
        return warning(f"{there}, {coming}", remedy)
    if files is not None and files < wanted.files:
        return warning(f"{files} files (inodes) free, {wanted.files} to come", remedy)
    return ok(f"{there}, {coming}")


def free_in(folder: Path) -> tuple[int, int | None]:
    """Bytes and files that this user may still write below a folder, made yet or not.

    A quota counts where the file system shows it as free space; those of users often are not.

    Returns:
        Files are None where the file system has no limit of them.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None
