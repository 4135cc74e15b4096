"""Whether the run of the soak is what it should be."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from driving import StandIn, accepted, crashes
from session import BATCH, Collected, Soak

from mfsynth.config import RunConfig
from mfsynth.models import model_info
from mfsynth.runs.items import RunItems
from mfsynth.runs.manifest import run_manifest
from mfsynth.runs.plan import RunPlan
from mfsynth.runs.protocol import Assignment, Made
from mfsynth.runs.settings import complete
from mfsynth.runs.worker import ShardWorker
from mfsynth.shards import layout
from mfsynth.shards.commits import read_commits
from mfsynth.shards.gc import collect, garbage
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.verify import verify_run
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.storage.store import ObjectStore


class Reference:
    """The same run without faults, made in this process."""

    def __init__(self, config: RunConfig, folder: Path) -> None:
        config = complete(config.model_copy(update={"output": str(folder)}))
        items, model = RunItems(config), model_info(config.model)
        identity = items.fingerprint(model.revision)
        manifest = run_manifest(config, identity, model, items)
        open_run(ObjectStore.open(config.output), manifest)
        self.plan = RunPlan.of(config, items, identity.digest)
        self.worker = ShardWorker(config, StandIn(folder, 0.0))

    def shard(self, number: int) -> tuple[Receipt, list[int]]:
        """Its receipt, and the candidates that can't be made."""
        candidates = self.plan.shard(number)
        impossible = {c.index: "it kills its worker" for c in candidates if crashes(c.seed)}
        assignment = Assignment(number, layout.new_attempt(), BATCH, quarantined=impossible)
        *_, made = self.worker.make_shard(assignment, candidates)
        assert isinstance(made, Made), made
        return made.receipt, [*impossible]

    def expected_ids(self, pairs: int) -> list[str]:
        """Of the shortest prefix of whole shards with so many pairs, from the seeds alone."""
        ids: list[str] = []
        for shard in count():
            if len(ids) >= pairs:
                return ids
            for candidate in self.plan.shard(shard):
                if accepted(candidate.seed) and not crashes(candidate.seed):
                    ids.append(candidate.sample_id)
        raise AssertionError


def without_segments(keys: Iterable[str]) -> set[str]:
    return {key for key in keys if not key.startswith(layout.SEGMENTS_FOLDER)}


def check(soak: Soak, beside: Collected) -> list[str]:
    """Everything that must hold; what does not becomes a problem of the soak."""
    store = soak.store
    config = RunConfig.model_validate(soak.config("auto"))
    reference = Reference(config, soak.folder / "reference")
    receipts = read_commits(store)

    def rows(receipt: Receipt, kind: str) -> list[dict[str, Any]]:
        path = soak.output / receipt.objects[kind].key
        found: list[dict[str, Any]] = pq.read_table(path, partitioning=None).to_pylist()
        return found

    ids = [row["sample_id"] for receipt in receipts.values() for row in rows(receipt, "index")]
    if ids != reference.expected_ids(soak.target):
        soak.wrong("ids or their order are not those of a run without faults")
    culprits = 0
    for number, receipt in receipts.items():
        expected, impossible = reference.shard(number)
        for kind in ("tar", "index"):
            if receipt.objects[kind].sha256 != expected.objects[kind].sha256:
                soak.wrong(f"shard {number}: its {kind} is not that of a run without faults")
        quarantined = [row for row in rows(receipt, "rejects") if row["outcome"] == "quarantined"]
        if [row["candidate"] for row in quarantined] != impossible:
            soak.wrong(f"shard {number}: {quarantined} in quarantine, not {impossible}")
        culprits += len(quarantined)
    links = sum((soak.output / key).is_symlink() for key in store.list())
    report = verify_run(store, deep=True)
    for problem in report.problems:
        soak.wrong(f"verify: {problem}")
    committed = {o.key for receipt in receipts.values() for o in receipt.objects.values()}
    kept = committed | {layout.RUN_KEY, layout.CARD_KEY, layout.PROGRESS_KEY}
    kept |= {layout.commit_key(shard) for shard in receipts}
    kept |= {key for key in store.list(layout.LOGS_FOLDER) if not key.endswith(PART_SUFFIX)}
    # What gc has marked already and not removed yet.
    tombstones = {*store.list(layout.TOMBSTONES_FOLDER)}
    # Segments are judged by `verify`, which compares them with the receipts.
    rubbish = without_segments(store.list()) - kept - tombstones
    found = garbage(store, timedelta())
    if without_segments(entry.key for entry in found) != rubbish:
        soak.wrong("gc finds other garbage than what no commit refers to")
    # When killed drivers are forgotten: the first marks what is new, the second removes the rest.
    later = datetime.now(UTC) + timedelta(days=1)
    removed = {
        entry.key
        for _ in range(2)
        for entry in collect(store, timedelta(), delay=timedelta(), now=later).removed
    }
    if without_segments(removed) != rubbish:
        soak.wrong("gc has not removed what it found")
    if without_segments(store.list()) != kept:
        soak.wrong("after gc the store does not hold exactly what is committed")
    if problems := verify_run(store, deep=False).problems:
        soak.wrong(f"verify after gc: {problems[0]}")
    # A spool that a killed worker left is removed by the next one on the machine: the reference.
    os.environ["TMPDIR"], tempfile.tempdir = str(soak.folder / "tmp"), None
    Reference(config, soak.folder / "last").shard(0)
    if spools := [*(soak.folder / "tmp").glob("mfsynth-spool-*")]:
        soak.wrong(f"{len(spools)} spool folders are left")
    if strays := soak.strays():
        soak.wrong(f"processes are left: {strays}")
    return [
        f"{len(ids)} ids and their order, from the seeds alone",
        f"{len(receipts)} shards: SHA-256 of tar and index equal those of a run without faults",
        f"`verify`, deep: {report.shards} shards, {report.pairs} pairs, no gap",
        f"quarantine: exactly the {culprits} candidates that always kill their worker",
        f"`gc` removed exactly the {len(rubbish)} files that no commit refers to, and none that "
        f"one does of the {beside.removed} beside the run",
        f"{links} files of the run are links, and two of its folders",
        "no process and no spool folder is left",
    ]
