"""Conditions on the columns of an index, as people write them: `registration > 2 and ...`.

The text is parsed as a Python expression and evaluated over pyarrow arrays; nothing of it is ever
executed. Whoever needs more than it can say gives an expression of pyarrow's.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
from numpy.typing import NDArray

from mfsynth.errors import MfsynthError
from mfsynth.shards.tables import SCORE_PREFIX, SLOT_PREFIX

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_ALLOWED = (
    "comparisons of columns with numbers and texts, `'mug' in objects`, `is None`, and, or, not"
)


def matching(index: pa.Table, condition: str | pc.Expression) -> NDArray[np.bool_]:
    """Which rows of an index meet a condition.

    A score or slot can be written without its prefix. What is said of a value that is missing, such
    as the score of a check that abstained, is neither true nor false, and neither is the opposite:
    such rows are left out by both. `registration is None` finds them.

    Args:
        index: Of N rows.
        condition: Such as `registration > 2 and 'mug' in objects`. An expression of pyarrow's
            names columns in full, and goes by its rules: NaN is not missing there.

    Returns:
        bool (N,).

    Raises:
        MfsynthError: It can't be read, names no column, or compares what can't be compared.
    """
    if isinstance(condition, pc.Expression):
        return _met(index, condition)
    if not isinstance(condition, str):
        raise MfsynthError(
            f"filter {condition!r:.200}: give a text, such as 'registration > 2', or an expression "
            "of pyarrow's"
        )
    try:
        tree = ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise MfsynthError(
            f"filter {condition!r:.200}: is no condition; write {_ALLOWED}"
        ) from error
    try:
        return _Reader(index, condition).truth(tree).true
    except RecursionError as error:
        raise MfsynthError(f"filter {condition!r:.200}: is nested too deeply") from error
    # Numbers beyond 64 bits, and text that is none.
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError) as error:
        raise _failed(condition, error) from error


def _met(index: pa.Table, expression: pc.Expression) -> NDArray[np.bool_]:
    try:
        rows = pyarrow.dataset.dataset(index)
        found = rows.to_table(columns={"met": expression}).column("met")
    except (pa.ArrowException, TypeError) as error:
        raise _failed(expression, error) from error
    if not pa.types.is_boolean(found.type):
        raise MfsynthError(f"filter {_shown(expression)}: gives {found.type}, not true or false")
    return _known(found)


def _failed(condition: str | pc.Expression, error: Exception) -> MfsynthError:
    what = " ".join(str(error).split())
    return MfsynthError(f"filter {_shown(condition)}: {what:.200}")


def _shown(condition: str | pc.Expression) -> str:
    return " ".join(f"{condition!r:.200}".split())


class _Truth(NamedTuple):
    """Of each row: whether it is true, and whether that is known; what is true is known."""

    true: NDArray[np.bool_]
    known: NDArray[np.bool_]

    @property
    def opposite(self) -> _Truth:
        return _Truth(self.known & ~self.true, self.known)


def _all(truths: Sequence[_Truth]) -> _Truth:
    """True where all are; known there, and where one is known not to be."""
    true = np.logical_and.reduce([each.true for each in truths])
    false = np.logical_or.reduce([each.opposite.true for each in truths])
    return _Truth(true, true | false)


class _Reader:
    def __init__(self, index: pa.Table, condition: str) -> None:
        self._index = index
        self._condition = condition

    def truth(self, node: ast.expr) -> _Truth:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return _all([self.truth(value) for value in values])
            case ast.BoolOp(op=ast.Or(), values=values):
                return _all([self.truth(value).opposite for value in values]).opposite
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.truth(operand).opposite
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                sides = [left, *comparators]
                pairs = zip(sides, ops, sides[1:], strict=False)
                return _all([self._compare(*each) for each in pairs])
        raise self._refusal(node)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> _Truth:
        match op, right:
            case ((ast.In() | ast.NotIn()), ast.Name()):
                found = self._contains(self._column(right), self._value(left))
            case ((ast.In() | ast.NotIn()), (ast.List() | ast.Tuple() | ast.Set())):
                constants = [self._constant(each) for each in right.elts]
                value = self._value(left)
                # Of no values Arrow can't tell the type.
                is_column = isinstance(value, pa.ChunkedArray)
                values = pa.array(constants, None if constants or not is_column else value.type)
                found = self._spread(pc.if_else(pc.is_null(value), None, pc.is_in(value, values)))
            case ((ast.Is() | ast.IsNot()), ast.Constant(value=None)):
                found = self._spread(pc.is_null(self._value(left), nan_is_null=True))
            case _ if type(op) in _COMPARISONS:
                return self._known_comparison(op, left, right)
            case _:
                raise self._refusal(right)
        return found if isinstance(op, ast.In | ast.Is) else found.opposite

    def _known_comparison(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> _Truth:
        sides = self._value(left), self._value(right)
        for side in sides:
            if isinstance(side, pa.ChunkedArray) and pa.types.is_list(side.type):
                raise MfsynthError(
                    f"filter {self._condition!r:.200}: a list is compared; write 'mug' in objects"
                )
        return self._spread(_COMPARISONS[type(op)](*sides))

    def _spread(self, found: Any) -> _Truth:
        if isinstance(found, pa.Scalar):
            every = np.ones(len(self._index), np.bool_)
            return _Truth(every & bool(found.as_py()), every & bool(found.is_valid))
        return _Truth(_known(found), _known(found.is_valid()))

    def _contains(self, column: pa.ChunkedArray, value: Any) -> _Truth:
        """Rows whose list has the value, or whose text has it in it."""
        if not isinstance(value, str):
            raise MfsynthError(
                f"filter {self._condition!r:.200}: left of `in` stands a text, such as 'mug'"
            )
        if pa.types.is_string(column.type):
            return self._spread(pc.match_substring(column, value))
        if not pa.types.is_list(column.type):
            raise MfsynthError(
                f"filter {self._condition!r:.200}: `in` is for texts and lists, not for "
                f"{column.type}"
            )
        found = np.zeros(len(column), np.bool_)
        first = 0
        for chunk in column.chunks:
            has = _known(pc.equal(chunk.flatten(), value))
            found[first + chunk.value_parent_indices().to_numpy(zero_copy_only=False)[has]] = True
            first += len(chunk)
        return _Truth(found, _known(column.is_valid()))

    def _value(self, node: ast.expr) -> Any:
        if not isinstance(node, ast.Name):
            return self._constant(node)
        column = self._column(node)
        if pa.types.is_floating(column.type):
            # A number that is none is missing as well.
            column = pc.if_else(pc.is_nan(column), None, column)
        return column

    def _constant(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=str() | bool() | int() | float() as value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
        raise self._refusal(node)

    def _column(self, node: ast.Name) -> pa.ChunkedArray:
        names = self._index.column_names
        for name in (node.id, f"{SCORE_PREFIX}{node.id}", f"{SLOT_PREFIX}{node.id}"):
            if name in names:
                return self._index.column(name)
        short = [n.removeprefix(SCORE_PREFIX).removeprefix(SLOT_PREFIX) for n in names]
        [*close] = get_close_matches(node.id, short, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(short)}"
        raise MfsynthError(f"filter {self._condition!r:.200}: no column {node.id!r:.80}; {hint}")

    def _refusal(self, node: ast.expr) -> MfsynthError:
        part = ast.unparse(node)
        return MfsynthError(
            f"filter {self._condition!r:.200}: can't take {part!r:.80}; write {_ALLOWED}"
        )


def _known(found: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """As numpy, with False for what is missing."""
    values: NDArray[np.bool_] = found.fill_null(False).to_numpy(zero_copy_only=False)
    return values.astype(np.bool_, copy=False)
