"""Taking a data set through a format: whole files, and on from where it was killed.

    out/.mfsynth-export/job.json      what is exported here
    out/.mfsynth-export/000012.json   block 12: its files, pixels lost, facts for documents

Blocks are marked after their files. A mark is believed as long as its files are there in their
sizes: what is deleted or cut off is written again.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfsynth import __version__
from mfsynth.config.base import Index, Settings
from mfsynth.config.documents import json_document
from mfsynth.datasets.exports.base import Exporter
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.signing import PictureSigner
from mfsynth.errors import MfsynthError
from mfsynth.storage import atomic
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.storage.locks import alone
from mfsynth.storage.system_entries import is_system_entry

STATE = ".mfsynth-export"
_JOB, _LOCK = "job.json", "lock"
# What tells one export from another, as errors name it.
_NAMES = {
    "format": "another format",
    "options": "other options",
    "metres_per_unit": "another --metres-per-unit",
    "assume_fov": "another --assume-fov",
    "pairs": "other pairs (the run has grown, or is another)",
    "samples": "other pairs (the run has grown, or is another)",
    "c2pa": "another C2PA certificate, or none",
    "mfsynth": "another version of mfsynth",
}

Report = Callable[[int, int], None]
"""Told of pairs that are done, and of all."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to.

    Attributes:
        pairs: How many.
        pixels: With depth, of all of them.
        lost: Those of the pixels that the format has no code for.
        was_there: Whether everything was there before.
        left_out: See `Exporter`.
    """

    pairs: int
    pixels: int
    lost: int
    was_there: bool
    left_out: str = ""


def export(
    pairs: Pairs,
    name: str,
    exporter: Exporter,
    folder: Path,
    report: Report | None = None,
    signer: PictureSigner | None = None,
) -> Exported:
    """Write pairs in a format.

    Visible: each file as a whole. The same call goes on with what a killed one has begun, and ends
    with the same bytes; two at once are refused.

    Args:
        pairs: What to export.
        name: Of the format.
        exporter: Of it.
        folder: Where to; new, empty or of the same export.
        report: See `Report`.
        signer: Signs the pictures; their bytes are then others each time that they are written.

    Raises:
        MfsynthError: The pairs don't fit the format, the folder has something else or can't be
            written, or a pair is damaged.
    """
    if not len(pairs):
        raise MfsynthError("no pairs to export; see `mfsynth status`")
    pairs = exporter.arranged(pairs.with_labels(exporter.wants_labels))
    exporter.require(pairs)
    if signer is not None and not exporter.has_pictures:
        raise MfsynthError(
            f"pictures of {name} lie inside of other files, where nobody looks for a signature; "
            "take bop, coco, folder, scannet or tum, or leave the certificate out"
        )
    job = {
        "format": name,
        "options": exporter.model_dump(mode="json"),
        "metres_per_unit": pairs.metres_per_unit,
        "assume_fov": pairs.assume_fov,
        "pairs": len(pairs),
        "samples": pairs.digest(),
        **({} if signer is None else {"c2pa": signer.identity}),
        "mfsynth": __version__,
    }
    state = folder / STATE
    try:
        # Before anything is made; another process may begin until we are alone.
        _require_ours(folder, job)
        state.mkdir(parents=True, exist_ok=True)
        with alone(state / _LOCK):
            begun = _require_ours(folder, job)
            _remove_parts(folder)
            if begun is None:
                atomic.replace(state / _JOB, json_document(job))
            return _write(pairs, exporter, folder, report, signer)
    except BlockingIOError as error:
        raise MfsynthError(f"{folder}: another process exports to it; wait for its end") from error
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise MfsynthError(
            f"{folder}: can't be written ({reason}); mend it, and the same command goes on"
        ) from error


def _require_ours(folder: Path, job: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was begun in a folder; None if nothing."""
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    there = [name for name in there if not is_system_entry(name)]
    try:
        begun = json.loads((folder / STATE / _JOB).read_bytes())
    except FileNotFoundError:
        others = sorted(name for name in there if name != STATE)
        if others:
            raise MfsynthError(
                f"{folder}: has {others[0]} and is no export; give a new or empty folder"
            ) from None
        return None
    except ValueError:
        begun = None
    if not isinstance(begun, dict):
        raise MfsynthError(f"{folder}/{STATE}/{_JOB}: not what it was; give a new folder")
    for key, what in _NAMES.items():
        if begun.get(key) != job.get(key):
            raise MfsynthError(f"{folder}: has an export of {what}; give a new folder")
    return begun


class _Mark(Settings):
    """What a block came to.

    Attributes:
        sizes: Of its files, by path in the export.
        lost: See `Block`.
        facts: See `Block`.
    """

    sizes: dict[str, Index]
    lost: Index
    facts: dict[str, Any]


def _write(
    pairs: Pairs,
    exporter: Exporter,
    folder: Path,
    report: Report | None,
    signer: PictureSigner | None,
) -> Exported:
    """Blocks that aren't whole, then documents."""
    lost, facts, was_there = 0, [], True
    for number, block_of in enumerate(exporter.blocks(pairs)):
        path = folder / STATE / f"{number:06d}.json"
        mark = _read_mark(path)
        if mark is None or not _has(folder, mark.sizes):
            was_there = False
            block = exporter.encode(pairs.frames(block_of), pairs)
            sizes = {}
            for key, data in block.files.items():
                if signer is not None and key not in block.photographs:
                    data = signer.signed(key, data)
                _put(folder / key, data)
                sizes[key] = len(data)
            mark = _Mark(sizes=sizes, lost=block.lost, facts=dict(block.facts))
            atomic.replace(path, json.dumps(mark.model_dump()).encode())
        lost += mark.lost
        facts.append(mark.facts)
        if report is not None:
            report(block_of.stop, len(pairs))
    for key, data in exporter.documents(pairs, facts).items():
        if not _holds(folder / key, data):
            was_there = False
            _put(folder / key, data)
    if lost and lost == pairs.pixels:
        raise MfsynthError(
            f"{folder}: no pair keeps any depth, for all of it is where the format has no code; "
            "take one that holds all depth (folder, hdf5, parquet)"
        )
    return Exported(len(pairs), pairs.pixels, lost, was_there, exporter.left_out(pairs))


def _read_mark(path: Path) -> _Mark | None:
    """None if the block has none, or one that is none, as after a power cut."""
    try:
        return _Mark.model_validate(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError):
        return None


def _has(folder: Path, sizes: Mapping[str, int]) -> bool:
    """Whether all files are there, in their sizes."""
    for key, size in sizes.items():
        try:
            found = (folder / key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
    return True


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except (FileNotFoundError, NotADirectoryError):
        return False


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.replace(path, data)


def _remove_parts(folder: Path) -> None:
    """What a killed writer has left."""
    for part in [*folder.rglob(f".*{PART_SUFFIX}")]:
        part.unlink(missing_ok=True)
