"""Is a shard what its receipt says? One function, asked before the upload and by `verify`."""

from __future__ import annotations

import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mfsynth.errors import MfsynthError
from mfsynth.formatting import counts
from mfsynth.shards import codecs, tables
from mfsynth.shards.columns import QUARANTINED, REJECTED
from mfsynth.shards.descriptions import depth_fault, description_faults
from mfsynth.shards.labels import decode_mask, decode_poses
from mfsynth.shards.layout import (
    FIRST_VERSION,
    REJECTED_TAR,
    RUN_KEY,
    SAMPLE_ID,
    members_of,
    sample_id,
)
from mfsynth.shards.marks import source_type
from mfsynth.shards.reading import read_moderate
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE, Receipt, depth_source_type
from mfsynth.shards.run_manifest import RunManifest
from mfsynth.shards.words import licence_of_models


def shard_problems(
    receipt: Receipt,
    paths: Mapping[str, Path],
    *,
    decode: bool,
    run: RunManifest | None = None,
) -> list[str]:
    """Everything wrong with the contents of a shard, one line each; empty if it is sound.

    Args:
        receipt: What the shard should be.
        paths: Local files of its objects, by kind.
        decode: Whether to decode every image and depth map too.
        run: Says which members and columns there are; where it doesn't (format version 1), or
            there is none, they are this version's.
    """
    problems: list[str] = []
    columns, reject_columns = (run.columns, run.reject_columns) if run is not None else ((), ())
    keys = {kind: stored.key for kind, stored in receipt.objects.items()}
    first = run is not None and run.format_version == FIRST_VERSION
    index_schema = partial(tables.index_schema, first_version=first)
    rejects_schema = partial(tables.rejects_schema, first_version=first)
    rows = _rows(paths["index"], index_schema, columns, keys["index"], problems)
    others = _rows(paths["rejects"], rejects_schema, reject_columns, keys["rejects"], problems)
    # In their order: it is that of members.
    names = dict.fromkeys(name for table in (rows, others) for name in (table or [{}])[0])
    members = {name: member.suffix for name, member in members_of(names).items()}
    if run is not None and run.members:
        members = {member["name"]: member["suffix"] for member in run.members}
    of_tar = partial(_tar_problems, suffixes=members, decode=decode, hashes=not first)
    if rows is not None:
        problems += of_tar(paths["tar"], rows, keys["tar"])
        problems += _run_faults(run, rows, keys["index"])
    if others is not None and REJECTED_TAR in paths:
        problems += of_tar(paths[REJECTED_TAR], others, keys[REJECTED_TAR])
        with_pixels = [row for row in others if row["rgb_offset"] is not None]
        problems += _run_faults(run, with_pixels, keys["rejects"])
    if rows is not None and others is not None:
        problems += _count_problems(receipt, rows, others)
    return problems


def _rows(
    path: Path,
    schema_of: Callable[[tables.Declared], pa.Schema],
    columns: Sequence[Mapping[str, Any]],
    key: str,
    problems: list[str],
) -> list[dict[str, Any]] | None:
    try:
        table = read_moderate(str(path), key)
        # Text that is not UTF-8 would fail wherever it is looked at.
        table.validate(full=True)
    except MfsynthError as error:
        problems.append(str(error))
        return None
    except (pa.ArrowException, OSError, ValueError) as error:
        problems.append(f"{key}: truncated, or not Parquet ({_line(error)})")
        return None
    if columns and not tables.has_columns(table.schema, columns):
        problems.append(f"{key}: its columns are not those that {RUN_KEY} names")
        return None
    if not columns and table.schema != schema_of(tables.Declared.by(table.schema.names)):
        problems.append(f"{key}: its columns are not those of this format")
        return None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _count_problems(
    receipt: Receipt, rows: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]]
) -> list[str]:
    problems = []
    outcomes = [row["outcome"] for row in others]
    for kind, noun, claimed, found in (
        ("index", "samples", receipt.accepted, len(rows)),
        ("rejects", "rejected", receipt.rejected, outcomes.count(REJECTED)),
        ("rejects", "quarantined", receipt.quarantined, outcomes.count(QUARANTINED)),
    ):
        if claimed != found:
            key = receipt.objects[kind].key
            problems.append(f"{key}: {found} {noun}, the receipt says {claimed}")
    rejected = [row for row in others if row["outcome"] == REJECTED]
    reasons = Counter(reason for row in rejected for reason in row["reasons"])
    # Earlier receipts say nothing of them.
    if receipt.reasons and receipt.reasons != reasons:
        key = receipt.objects["rejects"].key
        problems.append(f"{key}: rejected by {_counted(reasons)}, not {_counted(receipt.reasons)}")
    made = sorted(row["candidate"] for row in [*rows, *others])
    first, count = receipt.first_candidate, receipt.candidates
    # A receipt can say any number: no list is made of it.
    wanted, there = range(first, first + count), {*made}
    if len(made) != count or any(a != b for a, b in zip(made, wanted, strict=True)):
        missing = next((candidate for candidate in wanted if candidate not in there), None)
        twice = "candidates are there twice"
        what = twice if missing is None else f"candidate {missing} is missing"
        problems.append(f"{receipt.objects['index'].key}: {what} of {first} to {first + count - 1}")
    for kind, members in (("index", rows), ("rejects", others)):
        key = receipt.objects[kind].key
        for row in members:
            if row["sample_id"] != sample_id(receipt.run, row["candidate"]):
                problems.append(f"{key}: {row['sample_id']!r} is not candidate {row['candidate']}")
            if row["shard"] != receipt.shard:
                problems.append(f"{key}: {row['sample_id']} says shard {row['shard']}")
    if [row["row"] for row in rows] != [*range(len(rows))]:
        problems.append(f"{receipt.objects['index'].key}: rows are not numbered from 0")
    return problems


def _counted(reasons: Mapping[str, int]) -> str:
    return counts(dict(sorted(reasons.items())))[:100] or "nothing"


def _tar_problems(
    path: Path,
    rows: Sequence[dict[str, Any]],
    key: str,
    *,
    suffixes: Mapping[str, str],
    decode: bool,
    hashes: bool,
) -> list[str]:
    problems: list[str] = []
    # What is sound of the sample that is being read; its description comes last.
    siblings: dict[str, bytes] = {}
    expected = [
        (row, part) for row in rows for part in suffixes if row.get(f"{part}_offset") is not None
    ]
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            # Members are read one by one, so that what comes before a break is still checked.
            members = iter(tar)
            for row, part in expected:
                member = next(members, None)
                name = f"{row['sample_id']}.{suffixes[part]}"
                if member is None:
                    problems.append(f"{key}: truncated: {name} is missing")
                    return problems
                if not SAMPLE_ID.fullmatch(member.name.split(".", 1)[0]) or (
                    not member.name.endswith(tuple(f".{suffix}" for suffix in suffixes.values()))
                ):
                    problems.append(f"{key}: member {member.name!r} is not KEY.<kind>")
                if member.name != name:
                    problems.append(f"{key}: {member.name!r} stands where {name} belongs")
                    return problems
                span = (row[f"{part}_offset"], row[f"{part}_size"])
                if (member.offset_data, member.size) != span:
                    problems.append(f"{key}: {name}: offset or size is not that of the index")
                    continue
                file.seek(member.offset_data)
                data = file.read(member.size)
                if len(data) != member.size:
                    problems.append(f"{key}: truncated: {name} ends early")
                    return problems
                faults: Iterable[str] = ()
                if zlib.crc32(data) != row[f"{part}_crc32"]:
                    faults = ["its bytes changed (CRC-32 differs)"]
                elif part == "json":
                    faults = description_faults(data, row, siblings, hashes=hashes)
                elif decode and (fault := _picture_fault(part, data, row)):
                    faults = [fault]
                else:
                    siblings[suffixes[part]] = data
                problems += [f"{key}: {name}: {fault}" for fault in faults]
                if part == "json":
                    siblings = {}
            if (extra := next(members, None)) is not None:
                problems.append(f"{key}: {extra.name!r} is not in the index")
    except (tarfile.TarError, EOFError, OSError) as error:
        problems.append(f"{key}: truncated, or not a tar ({_line(error)})")
        return problems
    if not _ends_as_a_tar(path):
        problems.append(f"{key}: truncated: the end of the archive is missing")
    return problems


def _run_faults(run: RunManifest | None, rows: Sequence[dict[str, Any]], key: str) -> Iterator[str]:
    """Rows that are of another run's settings."""
    if run is None:
        return
    expected = {
        "model_id": run.model.get("id"),
        "mode": _setting(run, "sampler", "mode"),
        "metres_per_unit": _number(run.settings.get("metres_per_unit")),
    }
    if "source" not in run.settings:
        # Items of a source have cameras and licences of their own.
        expected |= {
            "camera": _setting(run, "camera", "preset"),
            "licence": licence_of_models(run),
        }
    # Before the estimator's licence counted for its depth, there was the model's alone.
    earlier = {"licence": run.model.get("licence")}
    for row in rows:
        for name, value in expected.items():
            known = (value, earlier.get(name, value))
            if value is not None and row.get(name, value) not in known:
                found = f"{row[name]!r:.80}"
                yield f"{key}: {row['sample_id']}: {name} is {found}, of the run {value!r}"


def _number(value: Any) -> float | None:
    return value if isinstance(value, float | int) else None


def _setting(run: RunManifest, section: str, name: str) -> Any:
    found = run.settings.get(section)
    return found.get(name) if isinstance(found, dict) else None


def _ends_as_a_tar(path: Path) -> bool:
    # tarfile takes an archive that was cut between two members for a whole one.
    size = path.stat().st_size
    end = 2 * tarfile.BLOCKSIZE
    with path.open("rb") as file:
        file.seek(max(size - end, 0))
        return size % tarfile.RECORDSIZE == 0 and file.read() == bytes(end)


def _picture_fault(part: str, data: bytes, row: dict[str, Any]) -> str | None:
    return _decoding_fault(part, data, row) or _mark_fault(part, data, row)


def _mark_fault(part: str, data: bytes, row: dict[str, Any]) -> str | None:
    """Where a picture says otherwise than its row, or nothing, of how it came to be."""
    image = row.get("digital_source_type")
    # Runs from before the column say nothing; a sensor's depth has no mark.
    if image is None or part not in ("rgb", "depth"):
        return None
    right = [image]
    if part == "depth":
        # Earlier runs had the second for given depth, too.
        right = [depth_source_type(row["mode"], image), DIGITAL_SOURCE_TYPE]
    found = source_type(data) or ""
    if found in right:
        return None
    return f"its mark is {found or 'missing'}, not {right[0] or 'missing'}"


def _decoding_fault(part: str, data: bytes, row: dict[str, Any]) -> str | None:
    shape = (row["height"], row["width"])
    try:
        if part == "rgb":
            codecs.decode_jpeg(data, shape)
        elif part == "sensor":
            codecs.decode_codes(data, shape)
        elif part == "mask":
            decode_mask(data, shape)
        elif part == "poses":
            decode_poses(data)
        elif part == "depth":
            return depth_fault(codecs.decode_codes(data, shape), row)
    except codecs.WrongSizeError as error:
        return str(error)
    except ValueError as error:
        return f"does not decode ({_line(error)})"
    return None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
