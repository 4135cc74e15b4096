"""Views: other data sets over the shards of a run, each a small file that says which candidates.

A view is created whole and once. It names the shards that it was made of by a digest of what their
receipts name, so that it goes with every copy, stays what it is when the run grows, and is never
read over other shards.
"""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.documents import strict_json
from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.shards import layout
from mfsynth.shards.commits import listed
from mfsynth.shards.duplicates import MOST_BITS
from mfsynth.shards.records import Receipt
from mfsynth.shards.run_manifest import run_sha256
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.exclusive import is_part
from mfsynth.storage.store import ObjectStore

_MOST = 2**53
_DIGEST = re.compile("[0-9a-f]{64}")
# What follows the bytes that the digest is of.
_END = ',\n "sha256": "{}"\n}}\n'
_END_LENGTH = len(_END.format("0" * 64))
_COUNTS = ("pairs", "returned", "shards")


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit on a score: the least value that passes, or the greatest one.

    A pair passes that has no value, because the check abstained.
    """

    value: float
    is_minimum: bool

    def text(self, score: str) -> str:
        """`registration>=2`, with as many digits as tell it from any other limit."""
        short = f"{self.value:g}"
        shown = short if float(short) == self.value else repr(self.value)
        return f"{score}{'>=' if self.is_minimum else '<='}{shown}"


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides which candidates are in a view, in this order.

    Attributes:
        limits: On scores, by name. Pairs that the run accepted must be within them; so do those
            that it rejected, which come back if there is a limit here for each score that they
            failed, and their pixels were kept.
        duplicates_within: Of images whose perceptual hashes differ by so many bits at most, those
            of higher candidates are left out; None for all.
        max_per_prompt: Of each prompt so many are in it, those of the lowest candidates; None for
            all.
    """

    limits: Mapping[str, Bound] = field(default_factory=dict)
    duplicates_within: int | None = None
    max_per_prompt: int | None = None

    def text(self) -> str:
        """For people: `registration>=2, without near-duplicates (6 bits)`."""
        parts = [bound.text(score) for score, bound in self.limits.items()]
        if self.duplicates_within is not None:
            parts.append(f"without near-duplicates ({self.duplicates_within} bits)")
        if self.max_per_prompt is not None:
            parts.append(f"at most {self.max_per_prompt} of a prompt")
        return ", ".join(parts) or "all accepted pairs"


@dataclass(frozen=True, slots=True)
class View:
    """Which candidates of a run are a data set of their own, and by which rules.

    Attributes:
        name: Of the view.
        run_sha256: Of `run.json`.
        shards: How many it is of: the first ones of the run.
        objects_sha256: `objects_sha256` of their receipts.
        rules: What decided.
        left_out: Pairs that the run accepted and that are not in it, by what left them out: the
            score, `duplicates`, or `max_per_prompt`. One may be beyond several limits.
        pairs: How many candidates are in it.
        returned: How many of them the run itself rejected.
        bits: A bit a candidate, from 0, the first one the highest of its byte; compressed by zlib.
        format_version: Of the view.
    """

    name: str
    run_sha256: str
    shards: int
    objects_sha256: str
    rules: Rules
    left_out: Mapping[str, int]
    pairs: int
    returned: int
    bits: bytes
    format_version: int | str = layout.FORMAT_VERSION

    @property
    def key(self) -> str:
        """Where it is stored."""
        return layout.view_key(self.name)

    def to_bytes(self) -> bytes:
        """JSON whose last member is the SHA-256 of all bytes before it."""
        values = {
            "format_version": self.format_version,
            "view": self.name,
            "run_sha256": self.run_sha256,
            "shards": self.shards,
            "objects_sha256": self.objects_sha256,
            "limits": {
                score: {"min" if bound.is_minimum else "max": bound.value}
                for score, bound in self.rules.limits.items()
            },
            "duplicates_within": self.rules.duplicates_within,
            "max_per_prompt": self.rules.max_per_prompt,
            "left_out": dict(self.left_out),
            "pairs": self.pairs,
            "returned": self.returned,
            "candidates": base64.b64encode(self.bits).decode(),
        }
        text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
        body = text.removesuffix("\n}").encode()
        return body + _END.format(sha256_of_bytes(body)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> View:
        """Read what `to_bytes` wrote; members of later versions are ignored.

        Raises:
            MfsynthError: It is no view, or its bytes changed.
        """
        body = data[:-_END_LENGTH]
        if data != body + _END.format(sha256_of_bytes(body)).encode():
            raise MfsynthError("its bytes changed (SHA-256 differs), or it is no view")
        try:
            values = strict_json(data)
            view = cls(
                name=values["view"],
                run_sha256=values["run_sha256"],
                shards=values["shards"],
                objects_sha256=values["objects_sha256"],
                rules=_rules(values),
                left_out=values["left_out"],
                pairs=values["pairs"],
                returned=values["returned"],
                bits=base64.b64decode(values["candidates"], validate=True),
                format_version=values["format_version"],
            )
            _require_sound(view)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise MfsynthError(f"is no view ({' '.join(str(error).split())[:100]})") from error
        return view

    def selected(self, candidates: int) -> NDArray[np.bool_]:
        """Which of the first `candidates` of the run are in it.

        Raises:
            MfsynthError: It is of another number of them.
        """
        size = -(-candidates // 8)
        try:
            inflating = zlib.decompressobj()
            data = inflating.decompress(self.bits, min(size, Limit.BYTES.most // 8) + 1)
        except zlib.error:
            data = b""
        found = np.unpackbits(np.frombuffer(data, np.uint8))
        if len(data) != size or found[candidates:].any() or int(found.sum()) != self.pairs:
            raise MfsynthError("has not a bit for each candidate of its shards, or too few pairs")
        return found[:candidates].astype(bool)

    def receipts_of(self, receipts: Mapping[int, Receipt]) -> list[Receipt]:
        """Those of its shards, in order.

        Raises:
            MfsynthError: They aren't those that it was made of; the message doesn't say which view.
        """
        # It can say any number: of so many receipts one is missing at the latest behind the last.
        first = range(min(self.shards, len(receipts) + 1))
        if missing := [shard for shard in first if shard not in receipts]:
            raise MfsynthError(f"was made of {listed(missing)}, which is not committed")
        own = [receipts[shard] for shard in range(self.shards)]
        if objects_sha256(own) != self.objects_sha256:
            raise MfsynthError(
                f"was made of other shards than are committed now; `mfsynth refilter --name "
                f"{self.name} --replace` makes it anew"
            )
        return own

    def shards_since(self, receipts: Iterable[int]) -> int:
        """How many shards are committed that it is not of."""
        return sum(shard >= self.shards for shard in receipts)


def objects_sha256(receipts: Iterable[Receipt]) -> str:
    """What a view says that it was made of: a digest of the digests of all objects of shards."""
    digests = [
        f"{stored.sha256}\n"
        for receipt in receipts
        for _, stored in sorted(receipt.objects.items())
    ]
    return sha256_of_bytes("".join(digests).encode())


def pack(selected: NDArray[np.bool_]) -> bytes:
    """The `bits` of a view."""
    return zlib.compress(np.packbits(selected).tobytes(), 9)


def read_views(store: ObjectStore) -> tuple[list[View], list[str]]:
    """All views of a run, and what is wrong with those that can't be read, one line each.

    Read them before the receipts, which they must not be ahead of.
    """
    views, problems = [], []
    for key in store.list(layout.VIEWS_FOLDER):
        if (name := layout.parse_view_key(key)) is not None:
            try:
                views.append(read_view(store, name))
            except MfsynthError as error:
                problems.append(str(error).removeprefix(f"{store.url}/"))
        elif not (is_part(key) or layout.is_view_document(key)):
            problems.append(f"{key}: is not the name of a view")
    return views, problems


def read_view(store: ObjectStore, name: str) -> View:
    """A view of the run in `store`; to be read before the receipts.

    Raises:
        MfsynthError: There is none of this name, or it is damaged or of another run.
    """
    key = layout.view_key(name)
    if layout.parse_view_key(key) is None:
        raise MfsynthError(f"{name!r:.80} is no name of a view, such as strict")
    try:
        view = View.from_bytes(store.read_bytes(key))
    except FileNotFoundError:
        keys = map(layout.parse_view_key, store.list(layout.VIEWS_FOLDER))
        there = ", ".join(name for name in keys if name is not None)
        raise MfsynthError(
            f"{store.url} has no view {name!r}; "
            + (f"it has {there}" if there else "`mfsynth refilter` makes one")
        ) from None
    except MfsynthError as error:
        raise MfsynthError(f"{store.url}/{key}: {error}") from error
    if view.name != name or view.run_sha256 != run_sha256(store):
        raise MfsynthError(f"{store.url}/{key}: is of another run, or another view")
    return view


def write_view(store: ObjectStore, view: View, *, replace: bool = False) -> None:
    """Store a view. Visible: when it returns, whole. Idempotent.

    Args:
        store: Of the run.
        view: To be stored.
        replace: Whether it may take the place of one of the same name; readers see the one or the
            other.

    Raises:
        MfsynthError: There is another one of this name.
    """
    data = view.to_bytes()
    if replace:
        store.put_bytes(view.key, data)
    elif not store.create_if_absent(view.key, data) and store.read_bytes(view.key) != data:
        raise MfsynthError(
            f"{store.url} has a view {view.name!r}, which is not changed; give another name, or "
            "--replace"
        )


def _rules(values: Mapping[str, Any]) -> Rules:
    limits = {}
    for score, bounds in values["limits"].items():
        [(kind, value)] = bounds.items()
        if kind not in ("min", "max") or type(value) not in (int, float) or abs(value) == math.inf:
            raise ValueError(f"the limit of {score!r:.80} is none")
        limits[score] = Bound(float(value), kind == "min")
    for name, most in (("duplicates_within", MOST_BITS), ("max_per_prompt", _MOST)):
        if values[name] is not None and not (_is_count(values[name]) and values[name] <= most):
            raise ValueError(f"{name} is not a number from 0 to {most}")
    return Rules(limits, values["duplicates_within"], values["max_per_prompt"])


def _require_sound(view: View) -> None:
    counts = {name: getattr(view, name) for name in _COUNTS} | dict(view.left_out)
    for name, count in counts.items():
        if not isinstance(name, str) or not _is_count(count):
            raise ValueError(f"{name!r:.80} is not a number from 0")
    if not isinstance(view.name, str) or not layout.VIEW_NAME.fullmatch(view.name):
        raise ValueError("it has no name")
    for digest in (view.run_sha256, view.objects_sha256):
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise ValueError("a SHA-256 is none")
    if view.returned > view.pairs:
        raise ValueError("more pairs returned than there are")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST
