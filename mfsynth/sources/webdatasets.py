"""Plain WebDataset shards with random access."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from mfsynth.config.base import NonEmpty
from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.shards.labels import Moment
from mfsynth.sources import own_shards
from mfsynth.sources.assembling import Files, assemble
from mfsynth.sources.base import Item
from mfsynth.sources.captions import caption_in, did_you_mean_caption
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.own_shards import OwnDepth, own_depth
from mfsynth.sources.settings import StoredDepthSettings
from mfsynth.sources.tars import TarFile, find_tars
from mfsynth.sources.tolerance import Skipped
from mfsynth.sources.trees import is_hidden
from mfsynth.storage.credentials import without_credentials

_IMAGE, _DEPTH, _CAPTION = range(3)
_ABSENT = -1
_DESCRIPTION = own_shards.DESCRIPTION[1:]


class WebDatasetSettings(StoredDepthSettings):
    """Tar files with the files of a sample side by side, named KEY.extension.

    Extensions may be written in capitals in the tar files. Depth of mfsynth's own shards is read
    as their `KEY.json` says, whatever `encoding` has.

    Attributes:
        shards: Path or URL of uncompressed tar files, with {000..127} or wildcards.
        image_key: The image's extension, or several, as `jpg;png`: the first that is there. So for
            the others. None where there is depth alone.
        depth_key: The depth map's extension; None where there is no depth.
        codes_per_unit: See above; it or a unit in `encoding` must be given with `depth_key`.
        caption_key: The extension of the caption's file; None for empty captions.
        caption_field: The key of the caption where its file is JSON; None where it is text.
    """

    places: ClassVar[frozenset[str]] = frozenset({"shards"})

    kind: Literal["webdataset"]
    shards: NonEmpty
    image_key: NonEmpty | None = "jpg"
    depth_key: NonEmpty | None = None
    caption_key: NonEmpty | None = "txt"
    caption_field: NonEmpty | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.image_key is None and self.depth_key is None:
            raise ValueError("give image_key, depth_key, or both: extensions of the files")
        if self.depth_key is not None:
            self.stored.require_complete()
        if self.labels is not None and self.labels.preset is not None:
            raise ValueError("labels.preset is of folders; name the labels' extensions")
        return self

    def open(self) -> WebDatasetSource:
        """Index tar files by their headers; the files in them are read when they are asked for.

        A sample's name is a path up to the first dot of the file's name, what follows is the
        extension, and its files are neighbours, as WebDataset has it.

        Raises:
            MfsynthError: No tar file, no sample, a sample without depth that must have it, or more
                tar files that can't be read or samples without image or caption than may be left
                out.
        """
        readable, broken = self.tolerance.readable(
            find_tars(self.shards), lambda tar: [*_samples(tar)], lambda tar: tar.name
        )
        tars = [tar for tar, _ in readable]
        found = [
            (number, key, files)
            for number, (_, samples) in enumerate(readable)
            for key, files in samples
        ]
        if self.depth == "paired" and self.depth_key is not None:
            found = [sample for sample in found if _has(sample[2], self.depth_key)]
        if not found:
            raise MfsynthError(
                f"{without_credentials(self.shards)}: no samples in {len(tars)} tar files; check "
                "the pattern"
            )
        samples, ids, skipped = [], [], []
        for (tar, key, files), called in zip(found, _ids(tars, found), strict=True):
            name = f"{tars[tar].name}/{key}"
            lacking = self._lacking(name, files)
            if lacking is None:
                samples.append((tar, key, files))
                ids.append(called)
            else:
                skipped.append(Skipped(name, lacking))
        self.tolerance.require(skipped, len(found))
        if not samples:
            raise MfsynthError(skipped[0].reason)
        stored = self.stored
        named = stored.files_beside
        if self.labels is not None:
            named = named | self.labels.files
            order = self.labels.in_order(ids)
            samples, ids = [samples[n] for n in order], [ids[n] for n in order]
        others = (_DESCRIPTION, *sorted(named - {_DESCRIPTION}))
        columns = (self.image_key, self.depth_key, self.caption_key, *others)
        return WebDatasetSource(
            settings=self,
            encoding=stored,
            tars=tuple(tars),
            keys=tuple(key for _, key, _ in samples),
            ids=tuple(ids),
            shards=np.array([tar for tar, _, _ in samples], np.int32),
            others=others,
            spans=np.array(
                [[_span(files, key) for key in columns] for *_, files in samples], np.int64
            ),
            skipped=(*broken, *skipped),
        )

    def _lacking(self, name: str, files: Collection[str]) -> str | None:
        """Why a sample is of no use, if it isn't.

        Raises:
            MfsynthError: It has no depth, though all must have it.
        """
        depth = self.depth_key
        needed = self.depth != "optional" or self.image_key is None
        if depth is not None and needed and not _has(files, depth):
            raise MfsynthError(
                f"{name}: no file .{depth}; set depth_key or depth: optional; "
                f"({did_you_mean(depth.lower(), files)})"
            )
        if self.image_key is not None and not _has(files, self.image_key):
            hint = did_you_mean(self.image_key.lower(), files)
            return f"{name}: no file .{self.image_key}; set image_key ({hint})"
        if self.caption_key is not None and not _has(files, self.caption_key):
            others = [key for key in files if key not in _alternatives(self.image_key or "")]
            hint = did_you_mean_caption(self.caption_key.lower(), others)
            return f"{name}: no file .{self.caption_key}; set caption_key ({hint})"
        return None


@dataclass(frozen=True, slots=True, eq=False)
class WebDatasetSource:
    """Implements `FiniteSource`.

    Attributes:
        settings: What was opened.
        encoding: Of the depth maps.
        tars: The shards.
        keys: N names of samples in their tars.
        ids: N names of items: these, behind the tar's where a name is in several.
        shards: (N,) which of the shards.
        others: M extensions of files beside image, depth and caption.
        spans: (N, 3 + M, 2) position and size of image, depth, caption and the others; a size of -1
            says that there is none.
        skipped: Tar files and samples that were left out.
    """

    settings: WebDatasetSettings
    encoding: Encoding
    tars: tuple[TarFile, ...]
    keys: tuple[str, ...]
    ids: tuple[str, ...]
    shards: NDArray[np.int32]
    others: tuple[str, ...]
    spans: NDArray[np.int64]
    skipped: tuple[Skipped, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Item:
        settings = self.settings
        image, depth = self._read(index, _IMAGE), self._read(index, _DEPTH)
        files = Files(
            rgb=image,
            rgb_name="" if image is None else self.name(index, settings.image_key),
            text=self._caption(index),
            beside=_InSample(self, index),
            depth=depth,
            depth_name=self.name(index, settings.depth_key),
            own=None if depth is None else self._own(index),
            named_as_own=self._named_as_own,
            moment=self.moment(index),
        )
        needs_depth = settings.depth_key is not None and settings.depth != "optional"
        return assemble(files, self.encoding, settings.labels, needs_depth=needs_depth)

    @property
    def _named_as_own(self) -> bool:
        image, depth = self.settings.image_key, self.settings.depth_key
        return image in (own_shards.IMAGE[1:], None) and depth == own_shards.DEPTH[1:]

    def _own(self, index: int) -> OwnDepth | None:
        about = self.beside(index, _DESCRIPTION) if self._named_as_own else None
        return None if about is None else own_depth(about, self.name(index, _DESCRIPTION))

    def beside(self, index: int, extension: str) -> bytes | None:
        """Content of another file of a sample; None where there is none."""
        part = 3 + self.others.index(extension)
        return self._read(index, part)

    def has(self, index: int, extension: str) -> bool:
        """Whether there is such a file."""
        return bool(self.spans[index, 3 + self.others.index(extension), 1] != _ABSENT)

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`; empty for items that can't be read and will be left out."""
        failed: list[Skipped] = []
        for index in range(len(self)):
            try:
                text = self._caption(index)
            except MfsynthError as error:
                failed.append(Skipped(self.keys[index], str(error)))
                self.settings.tolerance.require(failed, len(self))
                text = ""
            yield text

    def key(self, index: int) -> str:
        """The sample's name in its tar file, behind that of the tar where it is in several."""
        return self.ids[index]

    @property
    def labels(self) -> tuple[str, ...]:
        """See `LabelledSource`."""
        return self.settings.label_names

    def moment(self, index: int) -> Moment | None:
        """See `LabelledSource`."""
        return self.settings.moment(self.key(index))

    def contents(self) -> Iterator[bytes]:
        """Names, places and sizes of all files in the tars; of each tar the first image's bytes.

        Of depth alone, the first map's.
        """
        first = _DEPTH if self.settings.image_key is None else _IMAGE
        for tar in np.unique(self.shards).tolist():
            of_this = np.flatnonzero(self.shards == tar)
            yield self.tars[tar].name.rpartition("/")[2].encode()
            yield "\0".join(self.ids[index] for index in of_this.tolist()).encode()
            yield self.spans[of_this].astype("<i8").tobytes()
            yield self._read(int(of_this[0]), first) or b""

    def _read(self, index: int, part: int) -> bytes | None:
        start, size = self.spans[index, part].tolist()
        return None if size == _ABSENT else self.tars[self.shards[index]].read(start, size)

    def name(self, index: int, key: str | None) -> str:
        """Of a file of a sample, for messages."""
        return f"{self.tars[self.shards[index]].name}/{self.keys[index]}.{key}"

    def _caption(self, index: int) -> str:
        data = self._read(index, _CAPTION)
        if data is None:
            return ""
        settings = self.settings
        name = self.name(index, settings.caption_key)
        try:
            text = data.decode("utf-8-sig")
        except ValueError as error:
            raise MfsynthError(
                f"{name}: not UTF-8 text ({error}); mend it or set caption_key"
            ) from error
        if settings.caption_field is None:
            return text.strip()
        return caption_in(text, name, settings.caption_field, "caption_field")


@dataclass(frozen=True, slots=True)
class _InSample:
    """Implements `Beside`: files of a sample, by their extensions."""

    source: WebDatasetSource
    index: int

    @property
    def stem(self) -> str:
        return self.source.keys[self.index].rpartition("/")[2]

    def has(self, file: str) -> bool:
        return self.source.has(self.index, file)

    def read(self, file: str) -> tuple[bytes, str]:
        data = self.source.beside(self.index, file)
        name = self.source.name(self.index, file)
        if data is None:
            raise MfsynthError(f"{name}: no such file in the sample; encoding names it")
        return data, name


def _ids(tars: Sequence[TarFile], samples: Sequence[tuple[int, str, object]]) -> list[str]:
    """What samples are called, wherever the tars lie: each of them otherwise."""
    keys = [key for _, key, _ in samples]
    if len(set(keys)) == len(keys):
        return keys
    paths = [tar.name.lstrip("/") for tar in tars]
    above = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    names = [path.removeprefix(above).lstrip("/") for path in paths]
    met = Counter[str]()
    ids = []
    for tar, key, _ in samples:
        name = f"{names[tar]}/{key}"
        # A pattern may name a tar twice.
        ids.append(f"{name}#{met[name]}" if met[name] else name)
        met[name] += 1
    return ids


def _alternatives(keys: str) -> list[str]:
    return [key.strip().lower() for key in keys.split(";")]


def _has(files: Collection[str], keys: str) -> bool:
    return any(key in files for key in _alternatives(keys))


def _span(files: Mapping[str, tuple[int, int]], keys: str | None) -> tuple[int, int]:
    present = (files[key] for key in _alternatives(keys or "") if key in files)
    return next(present, (0, _ABSENT))


def _samples(tar: TarFile) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Name of each sample, with position and size by extension."""
    split = [
        (*_split(name), start, size)
        for name, start, size in tar.members()
        if not is_hidden(name.removeprefix("./"))
    ]
    for key, members in groupby((m for m in split if m[1]), key=lambda member: member[0]):
        files: dict[str, tuple[int, int]] = {}
        for _, extension, start, size in members:
            if extension in files:
                raise MfsynthError(
                    f"{tar.name}: {key}.{extension} is there twice; give samples names of their own"
                )
            files[extension] = (start, size)
        yield key, files


def _split(name: str) -> tuple[str, str]:
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()
