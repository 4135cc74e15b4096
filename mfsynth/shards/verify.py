"""Does the store hold what the commits say? Every problem is one line that names the object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa

from mfsynth.config import settings_digest
from mfsynth.errors import MfsynthError
from mfsynth.processes import usable_cores
from mfsynth.shards import layout
from mfsynth.shards.commits import gaps
from mfsynth.shards.drivers import counted_shards, fewer_receipts, lost_receipts
from mfsynth.shards.finalize import document_problems
from mfsynth.shards.integrity import shard_problems
from mfsynth.shards.layout import SegmentName
from mfsynth.shards.reading import parse_segment_rows, read_index, read_moderate
from mfsynth.shards.records import Receipt, parse_receipt
from mfsynth.shards.refilter import view_problems
from mfsynth.shards.run_manifest import RunManifest, read_run, run_sha256
from mfsynth.shards.segments import Segment, parse_segment
from mfsynth.shards.tables import Declared
from mfsynth.shards.totals import totals
from mfsynth.shards.view_documents import view_document_problems
from mfsynth.shards.views import read_views
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.exclusive import is_part
from mfsynth.storage.store import ObjectStore, read_listed

# Decoding and hashing release the interpreter's lock; more threads only hold more shards open.
_MAX_THREADS = 8
_MISSING = "is missing"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify_run` found.

    Attributes:
        problems: One line each; none means that the run is sound.
        deep: Whether the contents were checked, not the presence and the sizes alone.
        shards: Committed shards.
        pairs: Samples in them, by their receipts.
        size: Bytes of their objects, by their receipts.
    """

    problems: tuple[str, ...]
    deep: bool
    shards: int
    pairs: int
    size: int


def verify_run(
    store: ObjectStore, deep: bool = True, on_shard: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Check every committed shard of a run. Changes nothing; safe beside a run in progress.

    Shallow: there are receipts, as many as were counted once, they are consistent, shards are
    gap-free and cover their candidates, every object is there with its size, segments hold the
    receipts that there are, views are whole and of these shards. Deep, in addition: SHA-256,
    Parquet schema, counts, every candidate exactly once, ids over all shards, index offsets and
    CRC-32s against the tar, every image and depth map decodes to the size that the index says,
    segments hold the rows of the indexes, views what their rules select.

    Args:
        store: The run.
        deep: Whether to read the contents.
        on_shard: Called with (shards done, shards) after each shard.

    Raises:
        MfsynthError: There is no run, or the store can't be read.
    """
    manifest = read_run(store)
    problems = []
    # Counts, segments and views before commits before objects: what a running job commits
    # meanwhile is not missed.
    segments = {entry.key: entry.size for entry in store.entries(layout.SEGMENTS_FOLDER)}
    views, view_faults = read_views(store)
    try:
        counted = counted_shards(store)
    except MfsynthError as error:
        counted, problems = None, [str(error)]
    receipts, texts, unreadable = _receipts(store)
    problems += unreadable
    if not receipts and not unreadable:
        problems.append(lost_receipts(store, receipts, counted) or "no shard is committed yet")
    elif (fewer := fewer_receipts([*receipts, *unreadable], counted)) is not None:
        problems.append(fewer)
    problems += _run_problems(manifest, run_sha256(store), receipts)
    receipts_are_whole = not problems
    sizes = {
        entry.key: entry.size
        for folder in layout.FOLDERS.values()
        for entry in store.entries(folder)
    }
    for receipt in receipts.values():
        problems += [
            _of_shard(receipt, line) for line in _object_problems(manifest, receipt, sizes)
        ]
    problems += _segment_problems(store, segments, texts, deep=deep)
    are_sound = receipts_are_whole
    if deep:
        contents = _contents(store, manifest, receipts, sizes, on_shard)
        problems += contents
        are_sound = receipts_are_whole and not contents
        # What is computed from receipts says nothing where receipts are missing or wrong.
        if are_sound:
            try:
                problems += document_problems(store, manifest, receipts)
                problems += view_document_problems(store, manifest, views, receipts)
            except MfsynthError as error:
                problems.append(str(error))
    problems += view_faults + view_problems(store, views, receipts, deep=deep and are_sound)
    sums = totals(receipts.values())
    return VerifyReport(
        problems=tuple(problems),
        deep=deep,
        shards=sums.shards,
        pairs=sums.accepted,
        size=sums.size,
    )


def _receipts(store: ObjectStore) -> tuple[dict[int, Receipt], dict[int, bytes], list[str]]:
    """Receipts, the bytes of all that are stored, and what is wrong with those that are none."""
    receipts: dict[int, Receipt] = {}
    texts: dict[int, bytes] = {}
    problems: list[str] = []
    keys = []
    for key in store.list(layout.COMMITS_FOLDER):
        if layout.parse_commit_key(key) is not None:
            keys.append(key)
        elif not is_part(key):
            problems.append(f"{key}: is not the name of a commit")
    for key, data in read_listed(store, keys).items():
        shard = layout.parse_commit_key(key)
        assert shard is not None
        texts[shard] = data
        try:
            receipts[shard] = parse_receipt(key, data)
        except MfsynthError as error:
            problems.append(f"shard {shard:06d}: {error}")
    return dict(sorted(receipts.items())), texts, problems


def _run_problems(
    manifest: RunManifest, run_hash: str, receipts: Mapping[int, Receipt]
) -> list[str]:
    last = max(receipts, default=0)
    problems = []
    if settings_digest(manifest.settings) != manifest.fingerprint:
        problems.append(f"{layout.RUN_KEY}: its settings are not those of its fingerprint")
    try:
        problems += [
            f"shard {shard:06d}: {layout.commit_key(shard)}: not committed, but shard {last} is"
            for shard in gaps(receipts)
        ]
    except MfsynthError as error:
        problems.append(str(error))
    size = manifest.settings.get("shard_size")
    end = manifest.candidates_in_all
    for shard, receipt in receipts.items():
        key = layout.commit_key(shard)
        if isinstance(size, int):
            wanted = size if end is None else max(0, min(size, end - shard * size))
            if (receipt.first_candidate, receipt.candidates) != (shard * size, wanted):
                found = f"{receipt.candidates} candidates from {receipt.first_candidate}"
                problems.append(
                    _of_shard(receipt, f"{key}: covers {found}, not {wanted} from {shard * size}")
                )
        made = receipt.accepted + receipt.rejected + receipt.quarantined
        if made != receipt.candidates:
            problems.append(
                _of_shard(receipt, f"{key}: {made} outcomes for {receipt.candidates} candidates")
            )
        if manifest.format_version != layout.FIRST_VERSION and receipt.run_sha256 != run_hash:
            problems.append(_of_shard(receipt, f"{key}: was made for another {layout.RUN_KEY}"))
        if receipt.run != manifest.run_id:
            problems.append(_of_shard(receipt, f"{key}: is of run {receipt.run!r}"))
    return problems


def _object_problems(
    manifest: RunManifest, receipt: Receipt, sizes: Mapping[str, int]
) -> list[str]:
    problems = []
    keeps_rejects = Declared.by(column["name"] for column in manifest.reject_columns).keeps_rejects
    if (layout.REJECTED_TAR in receipt.objects) != keeps_rejects:
        key, named = layout.commit_key(receipt.shard), "no" if keeps_rejects else "a"
        problems.append(f"{key}: names {named} tar of rejected pairs, {layout.RUN_KEY} not so")
    for kind, stored in receipt.objects.items():
        name = layout.parse_object_key(stored.key)
        expected = (kind, manifest.run_id, receipt.shard, receipt.attempt)
        if name is None or (name.kind, name.run, name.shard, name.attempt) != expected:
            problems.append(f"{stored.key}: is not the {kind} of this attempt")
        if stored.key not in sizes:
            problems.append(f"{stored.key}: {_MISSING}")
        elif sizes[stored.key] != stored.size:
            problems.append(
                f"{stored.key}: {sizes[stored.key]} bytes, the receipt says {stored.size}: "
                "truncated or overwritten"
            )
    return problems


def _contents(
    store: ObjectStore,
    manifest: RunManifest,
    receipts: Mapping[int, Receipt],
    sizes: Mapping[str, int],
    on_shard: Callable[[int, int], None] | None,
) -> list[str]:
    present = [r for r in receipts.values() if all(o.key in sizes for o in r.objects.values())]
    problems: list[str] = []
    shard_of: dict[str, int] = {}
    threads = min(_MAX_THREADS, usable_cores())
    with ThreadPoolExecutor(threads) as pool:
        checked = pool.map(lambda receipt: _deep(store, manifest, receipt, sizes), present)
        for done, (receipt, (lines, ids)) in enumerate(zip(present, checked, strict=True), 1):
            problems += [_of_shard(receipt, line) for line in lines]
            for name in ids:
                if name in shard_of:
                    problems.append(
                        _of_shard(
                            receipt,
                            f"{receipt.objects['index'].key}: {name} is in shard "
                            f"{shard_of[name]} too",
                        )
                    )
                shard_of[name] = receipt.shard
            if on_shard is not None:
                on_shard(done, len(present))
    return problems


def _deep(
    store: ObjectStore, manifest: RunManifest, receipt: Receipt, sizes: Mapping[str, int]
) -> tuple[list[str], list[str]]:
    """What is wrong with the objects of a shard, and the ids of its samples."""
    problems: list[str] = []
    ids: list[str] = []
    vanished = False
    try:
        ids = _of_contents(store, manifest, receipt, sizes, problems)
    except FileNotFoundError:
        vanished = True
    # What was listed may be gone by now: then that is said of it, and nothing else.
    if problems or vanished:
        gone = [each.key for each in receipt.objects.values() if store.size(each.key) is None]
        if gone:
            others = [each for each in problems if not any(key in each for key in gone)]
            return [*(f"{key}: {_MISSING}" for key in gone), *others], []
        if vanished:
            # It is there again, or was put there anew.
            problems = []
            ids = _of_contents(store, manifest, receipt, sizes, problems)
    return problems, ids


def _of_contents(
    store: ObjectStore,
    manifest: RunManifest,
    receipt: Receipt,
    sizes: Mapping[str, int],
    problems: list[str],
) -> list[str]:
    """The ids of a shard's samples; what is wrong is added to the problems as it is found."""
    with ExitStack() as stack:
        paths, are_readable = {}, True
        for kind, stored in receipt.objects.items():
            paths[kind] = stack.enter_context(store.local_copy(stored.key))
            try:
                changed = sha256_of_file(paths[kind]) != stored.sha256
            except FileNotFoundError:
                raise
            except OSError as error:
                problems.append(f"{stored.key}: can't be read ({error.strerror or error})")
                are_readable = False
            else:
                # Of another size it was reported before, and its hash differs of course.
                if changed and sizes[stored.key] == stored.size:
                    problems.append(f"{stored.key}: its bytes changed (SHA-256 differs)")
        if not are_readable:
            return []
        problems += shard_problems(receipt, paths, decode=True, run=manifest)
        try:
            key = receipt.objects["index"].key
            found = read_moderate(str(paths["index"]), key, ["sample_id"])
            ids: list[str] = found.column(0).to_pylist()
        except (pa.ArrowException, OSError, ValueError, LookupError, MfsynthError):
            return []
        return ids


def _segment_problems(
    store: ObjectStore,
    listed: Mapping[str, int],
    texts: Mapping[int, bytes],
    *,
    deep: bool,
) -> list[str]:
    """What is wrong with segments; rows without receipts are leftovers, and nothing is wrong."""
    problems = []
    sizes = {shard: len(text) for shard, text in texts.items()}
    objects: dict[SegmentName, int] = {}
    for key, size in listed.items():
        if (name := layout.parse_segment_key(key)) is not None:
            objects[name] = size
        elif not is_part(key):
            problems.append(f"{key}: is not the name of a segment")
    run_hash = run_sha256(store)
    for name in [name for name in objects if name.kind == "receipts"]:
        try:
            segment = parse_segment(name, store.read_bytes(name.key))
        except FileNotFoundError:
            continue  # removed since it was listed, for a shard to be made anew
        except MfsynthError as error:
            problems.append(f"{name.key}: {error}")
            continue
        if segment.run_sha256 != run_hash:
            problems.append(f"{name.key}: was made for another {layout.RUN_KEY}")
        # It may have been written while the listing was under way.
        if segment.index not in objects and (found := store.size(segment.index.key)) is not None:
            objects[segment.index] = found
        problem = segment.disagreement(sizes, objects)
        for shard, text in zip(segment.shards, segment.texts, strict=True):
            if not problem and text != texts[shard]:
                problem = f"has another receipt of shard {shard} than {layout.commit_key(shard)}"
        if problem:
            problems.append(f"{name.key}: {problem}")
        elif deep:
            problems += _row_problems(store, segment)
    return problems


def _row_problems(store: ObjectStore, segment: Segment) -> list[str]:
    """Where the rows of a segment differ from those of the indexes, if these can be read."""
    name = segment.index
    try:
        data = store.read_bytes(name.key)
        rows = parse_segment_rows(store, name, data, segment.receipts)
    except FileNotFoundError:
        return []
    except MfsynthError as error:
        return [str(error).removeprefix(f"{store.url}/")]
    try:
        if rows.equals(read_index(store, segment.receipts, from_segments=False)):
            return []
    except MfsynthError:
        return []  # told of the shard
    return [f"{name.key}: its rows are not those of the indexes of its shards"]


def _of_shard(receipt: Receipt, line: str) -> str:
    return f"shard {receipt.shard:06d}: {line}"
