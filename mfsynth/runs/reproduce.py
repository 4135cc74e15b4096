"""One candidate of a run made again, alone and in this process.

For candidates in quarantine: where a worker died, a debugger or a profiler can now watch.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pyarrow.parquet as pq

from mfsynth.checks import open_checks
from mfsynth.config import RunConfig, differences
from mfsynth.config.loading import GivenSettings
from mfsynth.errors import MfsynthError
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.models import model_info
from mfsynth.runs.estimator import run_estimator
from mfsynth.runs.items import RunItems
from mfsynth.runs.metres import NO_SCALE
from mfsynth.runs.plan import Candidate, RunPlan
from mfsynth.runs.pool import OpenWorker, open_shard_worker
from mfsynth.runs.protocol import TO_SEE_IT, Assignment, Failed, FailureCause, Made
from mfsynth.runs.settings import complete
from mfsynth.shards import codecs
from mfsynth.shards.layout import RUN_KEY, members_of, new_attempt
from mfsynth.shards.quantisation import DepthEncoding, DepthScale
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import RunManifest, ScoreInfo, read_run, require_this_format
from mfsynth.shards.tables import SCORE_PREFIX
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Judged:
    """A score of a pair, and what the run says of it.

    Attributes:
        name: Of the score.
        about: What it measures, and its limit.
        value: Of the pair; nan where the check abstains.
        is_required: Whether the run rejects a pair for which the check abstains.
    """

    name: str
    about: ScoreInfo
    value: float
    is_required: bool = False

    @property
    def failed(self) -> bool:
        """Whether it is beyond its limit, or isn't there and has to be."""
        return self.about.fails(self.value) or (self.is_required and math.isnan(self.value))

    @property
    def line(self) -> str:
        """`registration 1.12, at least 1.5: failed`."""
        about = self.about
        value = "abstains" if math.isnan(self.value) else about.with_unit(f"{self.value:.4g}")
        text = f"{self.name} {value}"
        if about.limit is None:
            text += ", no limit"
        else:
            bound = "at least" if about.is_minimum else "at most"
            text += f", {bound} {about.with_unit(f'{about.limit:g}')}"
        return f"{text}: failed" if self.failed else text


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A candidate that was made again.

    Attributes:
        sample_id: Its key.
        scores: Of all checks.
        others: What it is turned down for beside its scores: the reasons of a pair whose depth is
            malformed, which has nothing of what follows, or that it has no scale.
        members: Its files as a run has them in its tar, by name.
        rgb: uint8 (H, W, 3), as stored.
        depth: float32 (H, W), as stored.
    """

    sample_id: str
    scores: tuple[Judged, ...]
    others: tuple[str, ...] = ()
    members: Mapping[str, bytes] = field(default_factory=dict)
    rgb: RgbImage | None = None
    depth: DepthMap | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """Scores that it is turned down for."""
        failed = [score.name for score in self.scores if score.failed]
        return tuple(dict.fromkeys((*self.others, *failed)))


def find_candidate(url: str, index: int, *, trust: bool = False) -> tuple[RunConfig, Candidate]:
    """Candidate `index` of the run at `url`, and the run's configuration. Changes nothing there.

    Args:
        url: Local path or URL of the run.
        index: Of the candidate.
        trust: Whether to open the prompts and the model that the run names, which is not known
            to be one's own.

    Raises:
        MfsynthError: There is no run, it is of another format version, its prompts or model are
            not what they were, or it is not trusted; then the message says what it would open.
    """
    store = ObjectStore.open(url)
    manifest = read_run(store)
    require_this_format(store, manifest)
    where = f"{store.url}/{RUN_KEY}"
    config = GivenSettings(manifest.config, where).validate(RunConfig)
    if not trust:
        names = [f"the model {config.model.id!r:.300}"]
        if config.model.few_steps is not None:
            names.append(f"the few-step weights {config.model.few_steps!r:.300}")
        if config.source is not None:
            names.insert(0, f"the source {config.source!r:.300}")
        if config.prompts is not None:
            prompts_at = config.prompts.library or config.prompts.file
            names.insert(0, f"the prompts {prompts_at!r:.300}")
        if config.estimator is not None:
            names.append(f"the estimator {config.estimator.id!r:.300}")
        for check, values in config.checks.items():
            if values is not None and "model" in values:
                names.append(f"{values['model']!r:.300} for the check {check:.80}")
        raise MfsynthError(
            f"{where} names {without_credentials(' and '.join(names))}; if the run is yours, or "
            f"you trust {'both' if len(names) == 2 else 'all'}, open them with --trust"
        )
    config = complete(config)
    items = RunItems(config)
    identity = items.fingerprint(model_info(config.model).revision, run_estimator(config))
    if identity.digest != manifest.fingerprint:
        changed = "; ".join(differences(manifest.settings, identity.settings))
        raise MfsynthError(
            f"{store.url} can't be reproduced: {changed or 'fingerprint'}; "
            "restore what the run was made from"
        )
    try:
        return config, RunPlan.of(config, items, identity.digest).candidate(index)
    except IndexError as error:
        raise MfsynthError(f"{store.url} has no such candidate: {error}") from error


def make_again(
    url: str,
    config: RunConfig,
    candidate: Candidate,
    device: str,
    *,
    open_worker: OpenWorker = open_shard_worker,
) -> Pair | Failed:
    """Make and check a candidate as a worker does; the output of the run is not touched.

    Ends the process if that is what the candidate does.

    Args:
        url: Of the run.
        config: The run.
        candidate: Of the run.
        device: `cpu` or `cuda`.
        open_worker: Makes the worker.

    Returns:
        The pair, whether it is accepted or not; or why it could not be made.
    """
    assignment = Assignment(
        candidate.index // config.shard_size,
        new_attempt(),
        batch_size=1,
        isolate=True,
        keep_rejected=True,
    )
    with tempfile.TemporaryDirectory(prefix="mfsynth-") as folder:
        run, store = ObjectStore.open(url).read_bytes(RUN_KEY), ObjectStore.open(folder)
        store.put_bytes(RUN_KEY, run)
        elsewhere = config.model_copy(update={"output": folder})
        *_, end = open_worker(elsewhere, device).make_shard(assignment, [candidate])
        if isinstance(end, Failed):
            return end
        assert isinstance(end, Made)
        required = {
            score.name
            for check in open_checks(config.checks).values()
            if check.on_abstain == "reject"
            for score in check.scores
        }
        row = _row(store, end.receipt)
        if end.receipt.quarantined:
            # Its end names a run that is gone by then.
            reason = row["reasons"][0].partition(TO_SEE_IT)[0]
            return Failed(FailureCause.ERROR, reason)
        found = _pair(RunManifest.from_json(run), store, end.receipt, row, required)
        asks = end.receipt.accepted and config.metres_per_unit is not None
        if asks and row.get("metres_per_unit") is None:
            return replace(found, others=(NO_SCALE,))
        return found


def _row(store: ObjectStore, receipt: Receipt) -> Mapping[str, Any]:
    kind = "index" if receipt.accepted else "rejects"
    with store.local_copy(receipt.objects[kind].key) as path:
        [row] = pq.read_table(path, partitioning=None).to_pylist()
    return cast(Mapping[str, Any], row)


def _pair(
    manifest: RunManifest,
    store: ObjectStore,
    receipt: Receipt,
    row: Mapping[str, Any],
    required: Collection[str],
) -> Pair:
    scores = {
        name.removeprefix(SCORE_PREFIX): math.nan if value is None else value
        for name, value in row.items()
        if name.startswith(SCORE_PREFIX)
    }
    judged = tuple(
        Judged(name, manifest.score(name), value, name in required)
        for name, value in scores.items()
    )
    if not receipt.accepted:
        return Pair(row["sample_id"], judged, others=tuple(receipt.reasons))
    tar = store.read_bytes(receipt.objects["tar"].key)
    members = {
        f"{row['sample_id']}.{member.suffix}": tar[row[f"{name}_offset"] :][: row[f"{name}_size"]]
        for name, member in members_of(row).items()
        if row[f"{name}_offset"] is not None
    }
    encoding = DepthEncoding(
        DepthScale(row["depth_encoding"]),
        row["depth_unit_per_code"],
        row["depth_near"],
        row["depth_far"],
    )
    rgb, png, *_ = members.values()
    return Pair(
        row["sample_id"],
        judged,
        members=members,
        rgb=codecs.decode_jpeg(rgb),
        depth=codecs.decode_depth(png, encoding),
    )
