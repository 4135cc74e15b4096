"""What a report shows of a view rather than of the run: its limits, and what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mfsynth.reports.rejects import RejectedRows, read_rejects
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt
from mfsynth.shards.selection import RETURNED
from mfsynth.shards.views import View
from mfsynth.storage.store import ObjectStore

_RULES = {"duplicates": "near-duplicate", "max_per_prompt": "one too many of its prompt"}


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
    """What was made and is not in a view: rejected by the run, or by the view's own rules.

    Args:
        store: Of the run.
        view: Of the run.
        receipts: Of the shards of the view.
        rows: Of the view.
        count: As of `read_rejects`.
        rng: As of `read_rejects`.
    """
    returned = rows.filter(rows[RETURNED])["candidate"].to_numpy()
    others = read_rejects(store, receipts, count, rng, returned)
    index = read_index(store, receipts.values())
    outside = index.filter(pc.invert(pc.is_in(index["candidate"], rows["candidate"])))
    others.add_scores(outside)
    others.slots.add(outside, accepted=False)
    others.reasons.update({_RULES.get(rule, rule): n for rule, n in view.left_out.items()})
    return others
