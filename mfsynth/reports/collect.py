"""Gathers what a report shows from the committed shards of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mfsynth.checks import open_checks, score_infos
from mfsynth.datasets import RGBDDataset, RGBDSample
from mfsynth.errors import MfsynthError
from mfsynth.formatting import shell_line
from mfsynth.geometry import Intrinsics
from mfsynth.reports.content import (
    Card,
    QuarantineCard,
    ReasonCount,
    RunReport,
    ShardRow,
    SlotTable,
    failure_in_words,
    score_cells,
)
from mfsynth.reports.depth_grid import sampled
from mfsynth.reports.facts import facts_of
from mfsynth.reports.histogram import draw_depths, draw_histogram
from mfsynth.reports.images import jpeg_uri
from mfsynth.reports.pictures import PAGE_BYTES, Pictures, pictures_of
from mfsynth.reports.rejects import choose, pixels_of, read_rejects, scores_in
from mfsynth.reports.throughput import throughput_of
from mfsynth.reports.viewed import about, age, rejects_beside, with_rules
from mfsynth.shards.drivers import read_counted_commits
from mfsynth.shards.layout import RUN_ID
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import RunManifest, read_run
from mfsynth.shards.tables import SCORE_PREFIX, scores_of, slots_of, take_rows
from mfsynth.shards.totals import by_count, totals
from mfsynth.shards.view_documents import limits_of
from mfsynth.shards.views import read_view
from mfsynth.shards.words import how_made, standing_of, view_in_words
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.store import ObjectStore

_VALUES_SHOWN = 12
_SHARDS_SHOWN = 100
# No page has room for more, and all are in memory at once.
_MOST_PAIRS = 128
# Of a depth map, as many pixels tell how deep it is.
_HISTOGRAM_SIDE = 256


def sample_pairs(dataset: RGBDDataset, count: int, seed: int = 0) -> list[RGBDSample]:
    """Up to `count` pairs of a run, chosen at random, in the order of their candidates.

    Raises:
        MfsynthError: A shard is missing or damaged.
    """
    chosen = choose(len(dataset), count, np.random.default_rng(seed))
    return [dataset[int(number)] for number in chosen]


def page_path(url: str, run_id: str, view: str | None = None) -> Path:
    """Where the page of a run lies unless told otherwise.

    Args:
        url: Local path or fsspec URL of the run.
        run_id: The run's.
        view: Name of the view that it is of; None for the run.

    Returns:
        In the run if that is on a local disk, in the current folder otherwise.

    Raises:
        MfsynthError: It would be in the current folder, and the id says otherwise.
    """
    root = ObjectStore.open(url).local_root
    name = "report.html" if view is None else f"report-{view}.html"
    if root is not None:
        return root / name
    if not RUN_ID.fullmatch(run_id):
        shown = without_credentials(url)
        raise MfsynthError(f"{shown}: a run named {run_id!r:.80}, which is no name; give --out")
    return Path(f"{run_id}.{name}")


def links_from(page: Path, url: str) -> str:
    """What leads from a page to the keys of a run; "" where a browser would find nothing.

    Args:
        page: Where it will lie.
        url: Local path or fsspec URL of the run.
    """
    store = ObjectStore.open(url)
    if store.local_root is not None:
        way = os.path.relpath(store.local_root, page.absolute().parent)
        return f"{quote(Path(way).as_posix())}/"
    return f"{store.url}/" if store.url.startswith(("http://", "https://")) else ""


def collect_report(
    url: str, pairs: int = 48, rejects: int = 24, seed: int = 0, *, view: str | None = None
) -> RunReport:
    """Reads a run, or a view of it, for its report.

    Counts and histograms are over all committed candidates; images are shown of a bounded random
    sample, so the page of a large run is no larger than that of a small one.

    Args:
        url: Local path or fsspec URL of a run.
        pairs: Most accepted pairs to show; of more than 128 that many are.
        rejects: Most rejected, and most quarantined, candidates to show.
        seed: Of the sample; the same seed and run give the same page.
        view: Name of a view, whose pairs then are the accepted ones, and whose limits count;
            whatever else was made is rejected.

    Raises:
        MfsynthError: There is no run or view, or a committed shard is missing or damaged.
    """
    store = ObjectStore.open(url)
    manifest = _with_scores(read_run(store))
    wanted = None if view is None else read_view(store, view)
    commits = read_counted_commits(store)
    dataset = RGBDDataset(url, view=view)
    chosen = choose(len(dataset), min(pairs, _MOST_PAIRS), np.random.default_rng(seed))
    shown = [dataset[int(number)] for number in chosen]
    rows = take_rows(dataset.index, chosen).to_pylist()
    rng = np.random.default_rng(seed)
    if wanted is None:
        own: Mapping[int, Receipt] = commits
        sums = totals(commits.values())
        reasons, warning = sums.reasons, sums.prompts_text
        facts = facts_of(manifest, shown, sums, dataset.index)
        accepted = sums.accepted
        others = read_rejects(store, commits, rejects, rng)
    else:
        own = {receipt.shard: receipt for receipt in wanted.receipts_of(commits)}
        sums, accepted = totals(own.values()), wanted.pairs
        manifest = replace(manifest, scores=with_rules(limits_of(manifest, wanted)))
        others = rejects_beside(store, wanted, own, dataset.index, rejects, rng)
        reasons = others.reasons
        facts = (("view", about(wanted)), *facts_of(manifest, shown, sums, dataset.index))
        warning = "; ".join(filter(None, (age(wanted, commits), sums.prompts_text)))
    others.slots.add(dataset.index, accepted=True)
    kept = pixels_of(store, own, others.rejected)
    samples = [*shown, *kept.values()]
    thumbnails = sum(len(row["thumbnail"] or b"") * 4 // 3 for row in others.rejected)
    pictures = pictures_of(samples, PAGE_BYTES - thumbnails)
    # As the reader of the page may know it: not where it lies on this machine.
    named = url if store.local_root is not None else store.url
    of_kept = dict(zip(kept, pictures[len(shown) :], strict=True))
    accepted_scores = scores_in(dataset.index)
    names = [*dict.fromkeys([*accepted_scores, *others.scores])]
    most = max(reasons.values(), default=1)
    return RunReport(
        name=manifest.run,
        run_id=manifest.run_id,
        facts=facts,
        candidates=sums.candidates,
        accepted=accepted,
        rejected=sums.candidates - accepted - sums.quarantined,
        quarantined=sums.quarantined,
        shards=sums.shards,
        seconds=sums.seconds,
        pairs=tuple(
            _card(row, sample, picture, manifest, named)
            for row, sample, picture in zip(rows, shown, pictures, strict=False)
        ),
        rejects=tuple(
            _card(
                row,
                kept.get(row["candidate"]),
                of_kept.get(row["candidate"]),
                manifest,
                named,
            )
            for row in others.rejected
        ),
        quarantine=tuple(
            QuarantineCard(
                row["sample_id"],
                row["prompt"],
                row["seed"],
                "; ".join(row["reasons"]),
                _reproduce(named, row),
            )
            for row in others.quarantined
        ),
        reason_counts=tuple(
            ReasonCount(manifest.score(name).label, number, number / most)
            for name, number in by_count(reasons)
        ),
        histograms=tuple(
            draw_histogram(
                name,
                manifest.score(name),
                accepted_scores.get(name, ()),
                others.scores_of(name),
                standing_of(name, manifest.score(name), manifest.settings),
            )
            for name in names
        ),
        depths=draw_depths(
            [(sampled(s.depth, _HISTOGRAM_SIDE), s.depth_kind.is_metric) for s in shown]
        ),
        throughput=throughput_of(own.values()),
        shard_rows=tuple(
            _shard_row(own[shard]) for shard in sorted(own, reverse=True)[:_SHARDS_SHOWN]
        ),
        slots=tuple(
            SlotTable(slot, tuple(values[:_VALUES_SHOWN]), len(values))
            for slot, values in others.slots.by_slot().items()
        ),
        made=how_made(manifest.settings)[0],
        warning=warning,
        url=store.url,
        left_out=min(pairs, len(dataset)) - len(chosen),
        view=view or "",
    )


def _with_scores(manifest: RunManifest) -> RunManifest:
    """Runs of 0.1.0 don't say what their scores measure; they had mfsynth's own checks alone."""
    if manifest.scores:
        return manifest
    try:
        checks = open_checks(manifest.settings.get("checks", {}))
    except MfsynthError:
        return manifest  # the names of the scores are shown, then
    return replace(manifest, scores=score_infos(checks.values()))


def _card(
    row: Mapping[str, Any],
    sample: RGBDSample | None,
    pictures: Pictures | None,
    manifest: RunManifest,
    url: str,
) -> Card:
    """A card of a row of the index, or of the rejects."""
    names: Sequence[str] = row.get("reasons") or ()
    thumbnail: bytes | None = row.get("thumbnail")
    return Card(
        sample_id=row["sample_id"],
        candidate=row["candidate"],
        prompt=row["prompt"],
        seed=row["seed"],
        scores=score_cells(scores_of(row), manifest.score, names),
        slots=slots_of(row),
        pictures=pictures,
        thumbnail_uri=jpeg_uri(thumbnail) if thumbnail and pictures is None else None,
        reasons=tuple(
            failure_in_words(manifest.score(name), row[score])
            if (score := f"{SCORE_PREFIX}{name}") in row
            else manifest.score(name).label
            for name in names
        ),
        failed=tuple(manifest.score(name).label for name in names),
        camera="" if sample is None else _camera(sample),
        shard=row["shard"],
        reproduce=_reproduce(url, row),
    )


def _reproduce(url: str, row: Mapping[str, Any]) -> str:
    return shell_line("mfsynth", "reproduce", url, row["candidate"], "--out", "again")


def _camera(sample: RGBDSample) -> str:
    if sample.intrinsics is None:
        return ""
    view = view_in_words(Intrinsics.from_matrix(sample.intrinsics), *sample.depth.shape)
    return f"{sample.camera or 'camera'}, {sample.intrinsics_source}: {view}"


def _shard_row(receipt: Receipt) -> ShardRow:
    return ShardRow(
        shard=receipt.shard,
        pairs=receipt.accepted,
        candidates=receipt.candidates,
        created=f"{receipt.created[:16].replace('T', ' ')} UTC",
        machine=receipt.worker,
        objects=tuple((kind, stored.key) for kind, stored in receipt.objects.items()),
    )
