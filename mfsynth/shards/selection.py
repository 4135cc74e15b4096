"""Which candidates of a run rules select, and the rows of those that a view has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.shards.columns import PHASH, REJECTED
from mfsynth.shards.duplicates import without_near_duplicates
from mfsynth.shards.reading import read_index, read_rejected_pairs, read_rejects
from mfsynth.shards.records import Receipt
from mfsynth.shards.tables import SCORE_PREFIX, take_rows
from mfsynth.shards.views import Rules, View
from mfsynth.storage.store import ObjectStore

RETURNED = "returned"
"""The column of a view's rows that an index hasn't: whether the run itself rejected the pair."""

NO_PIXELS = "no_pixels"
"""Why a pair is not in a view that is within its limits: the run rejected it, and kept none."""

_Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What rules select of the first shards of a run.

    Attributes:
        chosen: Of each candidate, whether it is in.
        returned: How many of them the run itself rejected.
        left_out: As of `View`.
    """

    chosen: _Mask
    returned: int
    left_out: Mapping[str, int]


def select(store: ObjectStore, receipts: Sequence[Receipt], rules: Rules) -> Selection:
    """What rules select: a function of the rows of the run and of nothing else.

    Args:
        store: Of the run.
        receipts: Of its first shards, in order.
        rules: About scores that it has.

    Raises:
        MfsynthError: A table is missing, damaged, or lacks a column that a rule needs.
    """
    total = _candidates(store, receipts)
    names = ["candidate", *(f"{SCORE_PREFIX}{score}" for score in rules.limits)]
    names += ["prompt_id"] * (rules.max_per_prompt is not None)
    names += [PHASH] * (rules.duplicates_within is not None)
    index = _columns(store, read_index(store, receipts), names)
    left_out: Counter[str] = Counter()
    stays = np.ones(len(index), bool)
    for score in rules.limits:
        passes = _passes(index, rules, score)
        left_out[score] = int(np.count_nonzero(~passes))
        stays &= passes
    parts = [index.filter(stays)]
    if rules.limits:
        for table in read_rejected_pairs(store, receipts):
            back = _columns(
                store,
                table.filter(
                    pa.array([not each for each in failed_scores(table, rules)], pa.bool_())
                ),
                names,
            )
            parts.append(_like(store, back, index.schema))
    accepted = np.repeat([True, False], [parts[0].num_rows, sum(len(t) for t in parts[1:])])
    rows = pa.concat_tables(parts).combine_chunks()
    candidates = rows["candidate"].to_numpy()
    order = np.argsort(candidates)
    if rules.duplicates_within is not None:
        hashes = rows[PHASH].to_numpy()[order]
        stays = without_near_duplicates(hashes, rules.duplicates_within)
        left_out["duplicates"] = int(np.count_nonzero(accepted[order[~stays]]))
        order = order[stays]
    if rules.max_per_prompt is not None:
        prompts = rows["prompt_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        stays = _ranks(prompts[order]) < rules.max_per_prompt
        left_out["max_per_prompt"] = int(np.count_nonzero(accepted[order[~stays]]))
        order = order[stays]
    chosen = np.zeros(total, bool)
    if len(order) and not 0 <= candidates[order[0]] <= candidates[order[-1]] < total:
        raise MfsynthError(f"{store.url}: an index has candidates of other shards")
    chosen[candidates[order]] = True
    returned = int(np.count_nonzero(~accepted[order]))
    return Selection(chosen, returned, {rule: n for rule, n in left_out.items() if n})


def view_rows(store: ObjectStore, view: View, receipts: Mapping[int, Receipt]) -> pa.Table:
    """The rows of a view, in the order of candidates: those of the index, and `returned`.

    Those that the run rejected lie in the tars of rejected pairs of their shards.

    Args:
        store: Of the run.
        view: Of the run.
        receipts: Of the run, by shard; also later ones.

    Raises:
        MfsynthError: The view is of other shards, or has candidates that have no pixels.
    """
    where = f"{store.url}/{view.key}"
    try:
        own = view.receipts_of(receipts)
        chosen = view.selected(_candidates(store, own))
    except MfsynthError as error:
        raise MfsynthError(f"{where}: {error}") from error
    index = read_index(store, own)
    rows = index.filter(_at(chosen, index))
    parts = [rows.append_column(RETURNED, pa.array(np.zeros(len(rows), bool)))]
    schema = parts[0].schema
    if view.returned:
        for table in read_rejected_pairs(store, _with_more(own, chosen, rows)):
            some = table.filter(_at(chosen, table))
            some = some.append_column(RETURNED, pa.array(np.ones(len(some), bool)))
            parts.append(_like(store, _columns(store, some, schema.names), schema))
    found = pa.concat_tables(parts).combine_chunks()
    if (len(found), len(found) - len(rows)) != (view.pairs, view.returned):
        raise MfsynthError(f"{where}: has candidates that have no pixels, or are none of the run")
    if len(parts) == 1:
        return found
    return take_rows(found, np.argsort(found["candidate"].to_numpy(), kind="stable"))


def _with_more(receipts: Sequence[Receipt], chosen: _Mask, rows: pa.Table) -> Iterable[Receipt]:
    """Receipts of shards of which more candidates are chosen than rows are of."""
    found = Counter(rows["shard"].to_pylist())
    for receipt in receipts:
        begin = receipt.first_candidate
        if np.count_nonzero(chosen[begin : begin + receipt.candidates]) > found[receipt.shard]:
            yield receipt


def _at(chosen: _Mask, table: pa.Table) -> pa.Array:
    candidates = table["candidate"].to_numpy()
    inside = (candidates >= 0) & (candidates < len(chosen))
    inside[inside] = chosen[candidates[inside]]
    return pa.array(inside)


def _passes(table: pa.Table, rules: Rules, score: str, *, abstained: bool = True) -> _Mask:
    bound, values = rules.limits[score], table[f"{SCORE_PREFIX}{score}"]
    compare = pc.greater_equal if bound.is_minimum else pc.less_equal
    passes: _Mask = pc.fill_null(compare(values, bound.value), abstained).to_numpy()
    return passes


def failed_scores(table: pa.Table, rules: Rules) -> list[list[str]]:
    """By which scores pairs that the run rejected are out of what rules select.

    They are those that failed in the run and that the rules have no limit of, and those that are
    beyond a limit of the rules; where the run rejected a pair because a check abstained, no limit
    brings it back.

    Args:
        table: Rows of rejects, of rejected pairs alone.
        rules: About scores that the table has.
    """
    failed = table["reasons"].to_pylist()
    found = [[score for score in reasons if score not in rules.limits] for reasons in failed]
    for score in rules.limits:
        of_this = np.array([score in reasons for reasons in failed], bool)
        passes = np.where(
            of_this,
            _passes(table, rules, score, abstained=False),
            _passes(table, rules, score),
        )
        for row in np.flatnonzero(~passes):
            found[row].append(score)
    return found


def why_not_kept(accepted: pa.Table, rules: Rules) -> list[list[str]]:
    """Why pairs that the run accepted, and that a view doesn't have, are not in it.

    Args:
        accepted: Their rows.
        rules: Of the view.

    Returns:
        As of `why_left_out`.
    """
    found: list[list[str]] = [[] for _ in range(len(accepted))]
    for score in rules.limits:
        for row in np.flatnonzero(~_passes(accepted, rules, score)):
            found[row].append(score)
    return [scores or _without_limit(rules) for scores in found]


def why_left_out(rejected: pa.Table, rules: Rules) -> list[list[str]]:
    """Why pairs that the run rejected, and that a view doesn't have, are not in it.

    Args:
        rejected: Their rows.
        rules: Of the view.

    Returns:
        Of each the scores that it failed; of one that failed none `NO_PIXELS`, or what rule left it
        out, as in `View.left_out`: both where it isn't known which.
    """
    by_rule = _without_limit(rules)
    failed, kept = failed_scores(rejected, rules), _keeps_pixels(rejected)
    return [
        scores or (by_rule if has_pixels else [NO_PIXELS])
        for scores, has_pixels in zip(failed, kept, strict=True)
    ]


def _without_limit(rules: Rules) -> list[str]:
    others = {
        "duplicates": rules.duplicates_within is not None,
        "max_per_prompt": rules.max_per_prompt is not None,
    }
    return [rule for rule, is_set in others.items() if is_set]


def reasons_in(store: ObjectStore, view: View, receipts: Iterable[Receipt]) -> Counter[str]:
    """How many pairs are not in a view, by why: those that the run accepted, and those it didn't.

    Args:
        store: Of the run.
        view: Of the run.
        receipts: Of its shards.

    Raises:
        MfsynthError: A table is missing or damaged, or the view is of other shards.
    """
    own = [*receipts]
    chosen, found = view.selected(_candidates(store, own)), Counter(view.left_out)
    for table in read_rejects(store, [receipt for receipt in own if receipt.rejected]):
        for reasons in why_left_out(_rejected_outside(table, chosen), view.rules):
            found.update(reasons)
    return found


def _rejected_outside(rejects: pa.Table, chosen: _Mask) -> pa.Table:
    """Of rejects the rows of rejected pairs that are not among the chosen candidates."""
    rejected = rejects.filter(pc.equal(rejects["outcome"], REJECTED))
    return rejected.filter(pc.invert(_at(chosen, rejected)))


def _keeps_pixels(rejected: pa.Table) -> _Mask:
    if "rgb_offset" not in rejected.column_names:
        return np.zeros(len(rejected), bool)
    kept: _Mask = pc.is_valid(rejected["rgb_offset"]).to_numpy()
    return kept


def _ranks(values: NDArray[np.int32]) -> NDArray[np.int64]:
    """Of each value, how many equal ones come before it."""
    grouped = np.argsort(values, kind="stable")
    begins = np.searchsorted(values[grouped], values[grouped])
    ranks = np.empty(len(values), np.int64)
    ranks[grouped] = np.arange(len(values)) - begins
    return ranks


def _columns(store: ObjectStore, table: pa.Table, names: Sequence[str]) -> pa.Table:
    for name in names:
        if name not in table.column_names:
            what = name.removeprefix(SCORE_PREFIX)
            if name == PHASH:
                what = "perceptual hashes, which runs of earlier formats have none of"
            raise MfsynthError(f"{store.url}: the rows of the run have no {what}")
        if name == PHASH and table.schema.field(name).type != pa.int64():
            raise MfsynthError(f"{store.url}: {name} is no column of numbers")
        # Rejected pairs have their nulls where they have no pixels.
        if name in (PHASH, "prompt_id") and table[name].null_count:
            raise MfsynthError(f"{store.url}: {name} is missing in rows of pairs")
    return table.select(names)


def _like(store: ObjectStore, rejected: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of rejected pairs, which have pixels, by the schema of the index."""
    try:
        return rejected.cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise MfsynthError(
            f"{store.url}: a rejected pair with pixels lacks what a pair has "
            f"({' '.join(str(error).split())[:100]}); `mfsynth verify` says what is damaged"
        ) from error


def _candidates(store: ObjectStore, receipts: Sequence[Receipt]) -> int:
    """How many candidates the first shards of a run have, which receipts can only say."""
    total = sum(r.accepted + r.rejected + r.quarantined for r in receipts)
    ends = accumulate((r.candidates for r in receipts), initial=0)
    if any(r.first_candidate != end for r, end in zip(receipts, ends, strict=False)) or (
        total != sum(r.candidates for r in receipts)
    ):
        raise MfsynthError(
            f"{store.url}: receipts don't add up; `mfsynth verify` says what is damaged"
        )
    if total > Limit.BYTES.most:
        raise Limit.BYTES.refusal(store.url, f"a run of {total} candidates")
    return total
