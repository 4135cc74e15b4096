"""Pairs brought to where data sets are shared, as Parquet with a card, and later what is new.

    README.md                              the card, and what the hub's viewer shows
    mfsynth.json                           what the pairs are of
    data/000012-0123456789abcdef.parquet   256 pairs, named by their number and what they are of

A file's name says all that decides its bytes, so whatever has its name is there: a push that was
cut off goes on, and one of a run that has grown sends what is new, without reading anything back.
What another version of mfsynth or of its encoders has written has other names, and gives way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from mfsynth.config.documents import json_document, strict_json
from mfsynth.datasets.exports.cards import CARD, card
from mfsynth.datasets.exports.pairs import Pairs
from mfsynth.datasets.exports.parquet import ENCODERS, Parquet, schema_of
from mfsynth.errors import MfsynthError
from mfsynth.storage import atomic
from mfsynth.storage.digests import sha256_of_bytes
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.storage.system_entries import is_system_entry

ABOUT = "mfsynth.json"
_DATA = re.compile(r"data/[0-9]{6,}-[0-9a-f]{16}\.parquet")
# A commit each; hubs take few an hour.
_FILES_A_COMMIT = 32
# What hubs put into a new data set; a card that is there stays.
_OF_A_NEW_PLACE = {CARD, ".gitattributes"}
# What tells pairs of one push from those of another, as errors name it.
_NAMES = {
    "runs": "another run",
    "view": "another view",
    "filter": "another --filter",
    "metres_per_unit": "another --metres-per-unit",
    "assume_fov": "another --assume-fov",
}

Report = Callable[[int, int], None]
"""Told of files that are sent, and of all that are to be."""


class Place(Protocol):
    """Where pairs are pushed to.

    Attributes:
        shown: Its name for people.
    """

    shown: str

    def files(self) -> Collection[str]:
        """Paths of all that readers find there, with `/`; none where it isn't there yet."""

    def read(self, path: str) -> bytes | None:
        """One of them that is small; None without."""

    def send(self, path: str, data: bytes) -> None:
        """Bring a file there, which readers find from the next `commit` on at the latest."""

    def commit(self, message: str, removed: Sequence[str] = ()) -> None:
        """Make what was sent visible, and some files of before gone."""


class Folder:
    """A folder of this machine, for whoever uploads it in another way.

    Args:
        root: New, empty but for a card of one's own, or of the same push.
    """

    def __init__(self, root: Path) -> None:
        self.shown = str(root)
        self._root = root

    def files(self) -> Collection[str]:
        """See `Place`."""
        names = [path.relative_to(self._root) for path in self._root.rglob("*") if path.is_file()]
        return {
            name.as_posix()
            for name in names
            if not is_system_entry(name.name) and not name.name.endswith(PART_SUFFIX)
        }

    def read(self, path: str) -> bytes | None:
        """See `Place`."""
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            return None

    def send(self, path: str, data: bytes) -> None:
        """See `Place`."""
        atomic.write_document(self._root / path, data)

    def commit(self, message: str, removed: Sequence[str] = ()) -> None:
        """See `Place`."""
        for path in removed:
            (self._root / path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Block:
    """Pairs of a file.

    Attributes:
        path: Of the file.
        start: The first pair.
        end: One after the last.
    """

    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Push:
    """What is to be done.

    Attributes:
        blocks: All, in order.
        missing: Those that aren't there.
        outdated: Files of earlier pushes that these take the place of.
        documents: The other files, as far as they are not there as they are to be.
        own_card: Whether somebody has written another card there, which is left as it is.
        size: Bytes of the files, as they are stored, of all pairs that are missing.
    """

    blocks: Sequence[Block]
    missing: Sequence[Block]
    outdated: Sequence[str]
    documents: dict[str, bytes]
    own_card: bool
    size: int

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.missing or self.outdated or self.documents)


def plan(pairs: Pairs, place: Place, *, view: str | None, condition: str | None) -> Push:
    """Compare pairs with what is there already; changes nothing.

    Args:
        pairs: All that are to be there in the end.
        place: Where to.
        view: Of the run that they are of; None for all that it accepted.
        condition: That they were filtered by; None for all.

    Raises:
        MfsynthError: There are no pairs, or what is there is something else.
    """
    if not len(pairs):
        raise MfsynthError("no pairs to push; see `mfsynth status`")
    about: dict[str, Any] = {
        "runs": [run.run_id for run in pairs.runs],
        "view": view,
        "filter": condition,
        "metres_per_unit": pairs.metres_per_unit,
        "assume_fov": pairs.assume_fov,
    }
    there = {*place.files()}
    stored = {name: place.read(name) for name in (CARD, ABOUT) if name in there}
    before = _parse_about(stored.get(ABOUT), place)
    _require_ours(place, there, before, about)
    blocks, written = _blocks(pairs), card(pairs).encode()
    missing = [block for block in blocks if block.path not in there]
    found = stored.get(CARD)
    known, new = before.get("cards_sha256", []), sha256_of_bytes(written)
    # A card that somebody else has written, or changed since, is theirs.
    own_card = found is not None and sha256_of_bytes(found) not in (*known, new)
    if new not in known:
        # That of before, too: it stays where a push is cut off between the two documents.
        known = [
            *(sha256_of_bytes(data) for data in (found,) if data is not None and not own_card),
            new,
        ]
    documents = {ABOUT: json_document({**about, "cards_sha256": sorted({*known})})}
    if not own_card:
        documents[CARD] = written
    return Push(
        blocks=blocks,
        missing=missing,
        outdated=sorted(
            name for name in there - {block.path for block in blocks} if _DATA.fullmatch(name)
        ),
        documents={name: data for name, data in documents.items() if stored.get(name) != data},
        own_card=own_card,
        size=sum(pairs.stored_bytes(block.start, block.end) for block in missing),
    )


def push(pairs: Pairs, place: Place, todo: Push, report: Report | None = None) -> None:
    """Do what was planned.

    Visible: some files at a time, each whole; card and `mfsynth.json` with the first of them. What
    a file takes the place of goes in the same commit. Repeated after a failure it goes on.

    Args:
        pairs: As planned.
        place: As planned.
        todo: The plan.
        report: See `Report`.

    Raises:
        MfsynthError: A pair is damaged, or the place can't be written.
    """
    if todo.is_done:
        return
    for name, data in todo.documents.items():
        place.send(name, data)
    exporter, done = Parquet(), 0
    pairs = pairs.with_labels(exporter.wants_labels)
    missing, outdated = iter(todo.missing), [*todo.outdated]
    while True:
        group = [*islice(missing, _FILES_A_COMMIT)]
        for block in group:
            frames = pairs.frames(range(block.start, block.end))
            [data] = exporter.encode(frames, pairs).files.values()
            place.send(block.path, data)
            done += 1
            if report is not None:
                report(done, len(todo.missing))
        is_last = done == len(todo.missing)
        sent = f"{group[-1].end} of {len(pairs)} pairs" if group else f"{len(pairs)} pairs"
        replaced = {_number(block.path) for block in group}
        gone = [name for name in outdated if is_last or _number(name) in replaced]
        outdated = [name for name in outdated if name not in gone]
        place.commit(f"mfsynth: {sent}", gone)
        if is_last:
            return


def _number(path: str) -> str:
    """Of a file, by its name."""
    return path.partition("-")[0]


def _blocks(pairs: Pairs) -> list[Block]:
    size = Parquet().pairs_per_file
    # All else that decides a file: a data set's files have one schema, whoever began it.
    columns = [str(each) for each in schema_of(pairs)]
    rest = [size, pairs.metres_per_unit, pairs.assume_fov, columns, ENCODERS]
    found = []
    for start in range(0, len(pairs), size):
        end = min(start + size, len(pairs))
        digest = sha256_of_bytes(json.dumps([*rest, pairs.digest(start, end)]).encode())
        found.append(Block(f"data/{start // size:06d}-{digest[:16]}.parquet", start, end))
    return found


def _parse_about(data: bytes | None, place: Place) -> dict[str, Any]:
    """What an earlier push has said of itself; nothing before the first."""
    if data is None:
        return {}
    try:
        found = strict_json(data)
        if not isinstance(found, dict) or not isinstance(found.get("cards_sha256"), list):
            raise ValueError("no object with cards_sha256")
    except ValueError as error:
        raise MfsynthError(
            f"{place.shown}: {ABOUT} is not what a push has written ({error}); give another place"
        ) from error
    return found


def _require_ours(
    place: Place, there: Collection[str], before: dict[str, Any], about: dict[str, Any]
) -> None:
    """Refuse a place with other data: what reads `data/*.parquet` would mix them."""
    for key, what in _NAMES.items():
        if before and before.get(key) != about[key]:
            raise MfsynthError(f"{place.shown}: has pairs of {what}; give another place")
    if not before and (others := sorted({*there} - _OF_A_NEW_PLACE)):
        raise MfsynthError(f"{place.shown}: has {others[0]} already; give another place")
    strangers = sorted(
        name for name in there if name.startswith("data/") and not _DATA.fullmatch(name)
    )
    if strangers:
        raise MfsynthError(
            f"{place.shown}: {strangers[0]} is none of mfsynth's and would be read with the pairs; "
            "remove it, or give another place"
        )
