"""What a source holds, as one digest: a run's fingerprint has it in place of paths and URLs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import groupby, islice

from mfsynth.errors import MfsynthError
from mfsynth.sources.base import FiniteSource, NamedSource
from mfsynth.sources.local_files import as_text
from mfsynth.sources.settings import SourceSettings
from mfsynth.sources.trees import Tree

# A PNG ends with the checksum of its pixels, a zip (.npz) with those of its members, a JPEG with
# its last rows: one small read tells files of equal names and sizes apart.
_TAIL_BYTES = 4096
# Stores are asked for so many at once.
_TOGETHER = 256
# How much may be broken changes no item.
_NO_CONTENT = {"max_skipped"}

Member = tuple[Tree, str, str]
"""A file: the folder and its name there, and what it is called wherever that lies."""


def named(source: FiniteSource, kind: str) -> NamedSource:
    """The source, if a run can begin with it.

    Raises:
        MfsynthError: It doesn't say what its items are called, or what they are.
    """
    if not isinstance(source, NamedSource):
        raise MfsynthError(
            f"source.kind: {kind} has no key() and contents(), by which a run knows its items; add "
            "them (NamedSource in mfsynth/sources/base.py), or take another kind"
        )
    return source


def content_digest(settings: SourceSettings, source: NamedSource) -> str:
    """SHA-256 (hexadecimal) over what the items are: settings but places, texts, `contents`."""
    values = settings.model_dump(mode="json", exclude={*settings.places, *_NO_CONTENT})
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode())
    texts = (text.encode() for text in source.texts())
    for part in (texts, source.contents()):
        for data in part:
            digest.update(len(data).to_bytes(8) + data)
        digest.update(b"\xff" * 8)
    return digest.hexdigest()


def file_contents(files: Iterable[Member]) -> Iterator[bytes]:
    """Of files: what each is called, and its size and last bytes; one that isn't there has none."""
    files = iter(files)
    while batch := list(islice(files, _TOGETHER)):
        for tree, group in groupby(batch, key=lambda file: file[0]):
            members = list(group)
            ends = tree.ends([name for _, name, _ in members], _TAIL_BYTES)
            for (*_, called), end in zip(members, ends, strict=True):
                yield as_text(called).encode()
                yield b"" if end is None else end[0].to_bytes(8) + end[1]
