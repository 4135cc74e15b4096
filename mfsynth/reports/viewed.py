"""What a report shows of a view rather than of the run: its limits, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfsynth.reports.rejects import RejectedRows, choose, read_rejects
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import ScoreInfo
from mfsynth.shards.selection import NO_PIXELS, RETURNED, why_not_kept
from mfsynth.shards.tables import take_rows
from mfsynth.shards.views import View
from mfsynth.storage.store import ObjectStore

_RULES = {
    "duplicates": "near-duplicate",
    "max_per_prompt": "one too many of its prompt",
    NO_PIXELS: "its pixels were not kept",
}


def about(view: View) -> str:
    """The view in words."""
    back = f"; {view.returned} pairs that the run rejected are back" if view.returned else ""
    return f"{view.name}: {view.rules.text()}{back}"


def age(view: View, commits: Mapping[int, Receipt]) -> str:
    """That the view is of an earlier state; empty if it is of this one."""
    since = view.shards_since(commits)
    return f"of the first {view.shards} shards; {since} were committed since" if since else ""


def rejects_beside(
    store: ObjectStore,
    view: View,
    receipts: Mapping[int, Receipt],
    rows: pa.Table,
    count: int,
    rng: np.random.Generator,
) -> RejectedRows:
    """What was made and is not in a view: why, by the view's own rules.

    Args:
        store: Of the run.
        view: Of the run.
        receipts: Of the shards of the view.
        rows: Of the view.
        count: As of `read_rejects`.
        rng: As of `read_rejects`.
    """
    returned = rows.filter(rows[RETURNED])["candidate"].to_numpy()
    others = read_rejects(store, receipts, count, rng, returned, view.rules)
    index = read_index(store, receipts.values())
    outside = index.filter(pc.invert(pc.is_in(index["candidate"], rows["candidate"])))
    others.add_scores(outside)
    others.slots.add(outside, accepted=False)
    others.reasons.update(view.left_out)
    rejected = sum(receipt.rejected for receipt in receipts.values()) - len(returned)
    chosen = choose(rejected + len(outside), count, rng)
    few = choose(len(others.rejected), int(np.count_nonzero(chosen < rejected)), rng)
    some = take_rows(outside, chosen[chosen >= rejected] - rejected)
    reasons = why_not_kept(some, view.rules)
    others.rejected = [
        *(others.rejected[number] for number in few),
        *(
            {**row, "reasons": why, "thumbnail": None}
            for row, why in zip(some.to_pylist(), reasons, strict=True)
        ),
    ]
    return others


def with_rules(scores: Mapping[str, ScoreInfo]) -> dict[str, ScoreInfo]:
    """What is known of scores, and of the rules of views that leave pairs out, by their names."""
    return {**scores, **{rule: ScoreInfo(label) for rule, label in _RULES.items()}}
