"""Other limits on scores that are stored already: a view is made, compared, told of. No GPU."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count, takewhile

import numpy as np

from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.drivers import read_counted_commits
from mfsynth.shards.reading import read_index
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import RunManifest, read_run, run_sha256
from mfsynth.shards.selection import select
from mfsynth.shards.tables import Declared
from mfsynth.shards.views import (
    Bound,
    Rules,
    View,
    objects_sha256,
    pack,
    write_view,
)
from mfsynth.storage.store import ObjectStore

_LIMIT = re.compile(r"\s*([^\s<>=]+)\s*(>=|<=)\s*(\S+)\s*")


def parse_limit(text: str) -> tuple[str, Bound]:
    """The score and the bound of a text such as `registration>=2`.

    Raises:
        MfsynthError: It is none.
    """
    match = _LIMIT.fullmatch(text)
    try:
        value = float(match[3]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value):
        raise MfsynthError(
            f"--limit {text!r:.80}: is not a score, >= or <=, and a number, in quotes, such as "
            "--limit 'registration>=2'"
        )
    return match[1], Bound(value, match[2] == ">=")


@dataclass(frozen=True, slots=True)
class Refiltered:
    """A view that was made.

    Attributes:
        view: The view.
        accepted: Pairs of its shards that the run accepted.
        shards: Of the run that are committed; more than the view's where one before is missing.
        without_pixels: Limits that are looser than the run's, where it kept no pixels of what it
            rejected, so that nothing comes back by them.
    """

    view: View
    accepted: int
    shards: int
    without_pixels: tuple[str, ...]


def refilter(store: ObjectStore, name: str, rules: Rules, *, replace: bool = False) -> Refiltered:
    """Make a view of the shards that are committed up to the first that is not.

    Visible: the view, whole, when it returns. Idempotent. Safe beside a driver, whose further
    shards it is not of.

    Args:
        store: Of the run.
        name: Of the view.
        rules: What decides.
        replace: Whether it may take the place of one of this name.

    Raises:
        MfsynthError: There is no run, no shard, a table is damaged, a rule is about what the run
            hasn't, or there is another view of this name.
    """
    if not layout.VIEW_NAME.fullmatch(name):
        raise MfsynthError(
            f"--name {name!r:.80}: must be letters from a to z, digits, _ and -, 80 at most, such "
            "as strict"
        )
    run = read_run(store)
    receipts = read_counted_commits(store)
    own = [receipts[shard] for shard in takewhile(receipts.__contains__, count())]
    if not own:
        raise MfsynthError(f"{store.url}: shard 0 is not committed yet; start the run first")
    _require_known(store, run, own, rules)
    chosen = select(store, own, rules)
    view = View(
        name=name,
        run_sha256=run_sha256(store),
        shards=len(own),
        objects_sha256=objects_sha256(own),
        rules=rules,
        left_out=chosen.left_out,
        pairs=int(np.count_nonzero(chosen.chosen)),
        returned=chosen.returned,
        bits=pack(chosen.chosen),
    )
    write_view(store, view, replace=replace)
    accepted = sum(receipt.accepted for receipt in own)
    return Refiltered(view, accepted, len(receipts), _without_pixels(run, rules))


def view_problems(
    store: ObjectStore, views: Iterable[View], receipts: Mapping[int, Receipt], *, deep: bool
) -> list[str]:
    """Where views of a run are not of its shards, one line each.

    Args:
        store: Of the run.
        views: That were read before the receipts.
        receipts: Of all its shards.
        deep: Whether to compute anew what the rules select, from sound shards.
    """
    problems = []
    for view in views:
        try:
            own = view.receipts_of(receipts)
            found = view.selected(sum(receipt.candidates for receipt in own))
            right = select(store, own, view.rules) if deep else None
        except MfsynthError as error:
            problems.append(f"{view.key}: {str(error).removeprefix(f'{store.url}/')}")
            continue
        if right is not None and (
            (view.returned, view.left_out) != (right.returned, right.left_out)
            or not np.array_equal(found, right.chosen)
        ):
            problems.append(f"{view.key}: its pairs are not those that its rules select")
    return problems


def _require_known(
    store: ObjectStore, run: RunManifest, receipts: list[Receipt], rules: Rules
) -> None:
    names = [column["name"] for column in run.columns]
    known = Declared.by(names or read_index(store, receipts[:1]).column_names).scores
    for score, bound in rules.limits.items():
        if score not in known:
            raise MfsynthError(
                f"--limit {bound.text(score)}: {store.url} has no score {score!r:.80}; it has "
                f"{', '.join(known) or 'none'}"
            )
        about = run.scores.get(score)
        if about is not None and about.is_minimum != bound.is_minimum:
            other = Bound(bound.value, about.is_minimum).text(score)
            raise MfsynthError(
                f"--limit {bound.text(score)}: of {score} {about.direction} values are the better "
                f"ones; give the worst that passes, as '{other}'"
            )


def _without_pixels(run: RunManifest, rules: Rules) -> tuple[str, ...]:
    if Declared.by(column["name"] for column in run.reject_columns).keeps_rejects:
        return ()
    limits: Iterable[tuple[str, Bound]] = rules.limits.items()
    return tuple(
        bound.text(score) for score, bound in limits if run.score(score).fails(bound.value)
    )
