"""Gathers what a report shows from the committed shards of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mfsynth.checks import open_checks, score_infos
from mfsynth.datasets import RGBDDataset, RGBDSample
from mfsynth.errors import MfsynthError
from mfsynth.formatting import counts
from mfsynth.geometry import Intrinsics
from mfsynth.geometry.colour import colour_depth
from mfsynth.reports import images
from mfsynth.reports.content import (
    PairCard,
    QuarantineCard,
    ReasonCount,
    RejectCard,
    RunReport,
    SlotTable,
    failure_in_words,
    score_cells,
)
from mfsynth.reports.histogram import draw_histogram
from mfsynth.reports.rejects import choose, read_rejects
from mfsynth.reports.viewed import about, age, rejects_beside, scores_in
from mfsynth.shards.commits import RunManifest, read_run
from mfsynth.shards.drivers import read_counted_commits
from mfsynth.shards.layout import RUN_ID
from mfsynth.shards.totals import Totals, by_count, totals
from mfsynth.shards.view_documents import limits_of
from mfsynth.shards.views import read_view
from mfsynth.shards.words import camera_in_words, loosened_limits, view_in_words
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.store import ObjectStore

_VALUES_SHOWN = 12
_SHOWN_SIDE = 320
"""Larger images are shrunk to this, so that a page of 512-pixel pairs stays below a few MB."""


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


def collect_report(
    url: str, pairs: int = 48, rejects: int = 24, seed: int = 0, *, view: str | None = None
) -> RunReport:
    """Reads a run, or a view of it, for its report.

    Counts and histograms are over all committed candidates; images are shown of a bounded random
    sample, so the page of a large run is no larger than that of a small one.

    Args:
        url: Local path or fsspec URL of a run.
        pairs: Most accepted pairs to show.
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
    shown = sample_pairs(dataset, pairs, seed)
    rng = np.random.default_rng(seed)
    if wanted is None:
        sums = totals(commits.values())
        reasons, facts, warning = sums.reasons, _facts(manifest, shown, sums), sums.prompts_text
        accepted = sums.accepted
        others = read_rejects(store, commits, rejects, rng)
    else:
        own = {receipt.shard: receipt for receipt in wanted.receipts_of(commits)}
        sums, accepted = totals(own.values()), wanted.pairs
        manifest = replace(manifest, scores=limits_of(manifest, wanted))
        others = rejects_beside(store, wanted, own, dataset.index, rejects, rng)
        reasons = others.reasons
        facts = (("view", about(wanted)), *_facts(manifest, shown, sums))
        warning = "; ".join(filter(None, (age(wanted, commits), sums.prompts_text)))
    others.slots.add(dataset.index, accepted=True)
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
        pairs=tuple(_pair_card(sample, manifest) for sample in shown),
        rejects=tuple(_reject_card(row, manifest) for row in others.rejected),
        quarantine=tuple(
            QuarantineCard(row["sample_id"], row["prompt"], row["seed"], "; ".join(row["reasons"]))
            for row in others.quarantined
        ),
        reason_counts=tuple(
            ReasonCount(manifest.score(name).label, number, number / most)
            for name, number in by_count(reasons)
        ),
        histograms=tuple(
            draw_histogram(
                manifest.score(name), accepted_scores.get(name, []), others.scores.get(name, [])
            )
            for name in names
        ),
        slots=tuple(
            SlotTable(slot, tuple(values[:_VALUES_SHOWN]), len(values))
            for slot, values in others.slots.by_slot().items()
        ),
        warning=warning,
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


def _facts(
    manifest: RunManifest, shown: Sequence[RGBDSample], sums: Totals
) -> tuple[tuple[str, str], ...]:
    """Label and value of what made the run; what is not known is left out."""
    model, settings = manifest.model, manifest.settings
    sampler: Mapping[str, Any] = settings.get("sampler", {})
    prompts: Mapping[str, Any] = manifest.config.get("prompts") or {}
    source: Mapping[str, Any] = manifest.config.get("source") or {}
    steps = (
        ("steps", "steps"),
        ("refine_steps", "second-pass steps"),
        ("guidance", "guidance"),
        ("log2_alpha", "log2 α"),
    )
    kind = str(shown[0].depth_kind).replace("_", " ") if shown else None
    of = settings.get("depth")
    facts = {
        "model": model.get("id"),
        "revision": model.get("revision"),
        "licence": model.get("licence"),
        "mode": sampler.get("mode"),
        "sampler": ", ".join(f"{label} {sampler[key]}" for key, label in steps if key in sampler),
        "prompts": prompts.get("library") or prompts.get("file"),
        "source": source and (source.get("path") or source.get("url") or source.get("kind")),
        "image size": f"{shown[0].rgb.shape[1]} × {shown[0].rgb.shape[0]}" if shown else None,
        "depth": f"{kind}, {of}" if kind and of else kind,
        "camera": f"{camera}, assumed" if (camera := camera_in_words(settings)) else None,
        "loosened": "; ".join(loosened_limits(manifest.scores)),
        "seed": settings.get("seed"),
        "device": counts(dict(by_count(sums.devices))),
        "done again": counts(
            {cause.replace("_", " "): number for cause, number in by_count(sums.retries)}
        ),
        "started": f"{manifest.created[:16].replace('T', ' ')} UTC",
        "fingerprint": manifest.fingerprint[:16],
    }
    return tuple(
        (label, str(value)) for label, value in facts.items() if value not in (None, "", {})
    )


def _pair_card(sample: RGBDSample, manifest: RunManifest) -> PairCard:
    return PairCard(
        sample_id=sample.sample_id,
        prompt=sample.prompt,
        seed=sample.seed,
        rgb_uri=images.image_uri(images.fit(sample.rgb, _SHOWN_SIDE)),
        depth_uri=images.image_uri(images.fit(colour_depth(sample.depth), _SHOWN_SIDE)),
        width=sample.rgb.shape[1],
        height=sample.rgb.shape[0],
        scores=score_cells(sample.scores, manifest.score),
        camera=_camera(sample),
    )


def _camera(sample: RGBDSample) -> str:
    if sample.intrinsics is None:
        return ""
    view = view_in_words(Intrinsics.from_matrix(sample.intrinsics), *sample.depth.shape)
    return f"{sample.camera or 'camera'}, {sample.intrinsics_source}: {view}"


def _reject_card(row: Mapping[str, Any], manifest: RunManifest) -> RejectCard:
    thumbnail: bytes | None = row["thumbnail"]
    return RejectCard(
        sample_id=row["sample_id"],
        prompt=row["prompt"],
        seed=row["seed"],
        thumbnail_uri=images.jpeg_uri(thumbnail) if thumbnail else None,
        reasons=tuple(
            failure_in_words(manifest.score(reason), row.get(f"check_{reason}"))
            for reason in row["reasons"]
        ),
    )
