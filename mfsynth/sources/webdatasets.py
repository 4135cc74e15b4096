"""Plain WebDataset shards with random access."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from mfsynth.config.base import NonEmpty
from mfsynth.config.documents import strict_json
from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.sources.base import Item
from mfsynth.sources.decoding import decode_depth, decode_rgb, make_item
from mfsynth.sources.settings import StoredDepthSettings, require_unit
from mfsynth.sources.tars import TarFile, find_tars
from mfsynth.storage.credentials import without_credentials

_IMAGE, _DEPTH, _CAPTION = range(3)
_ABSENT = -1


class WebDatasetSettings(StoredDepthSettings):
    """Tar files with the files of a sample side by side, named KEY.extension.

    Attributes:
        shards: Path or URL of uncompressed tar files, with {000..127} or wildcards.
        image_key: The image's extension.
        depth_key: The depth map's extension; None where there is no depth.
        codes_per_unit: See above; must be given with `depth_key`.
        caption_key: The extension of the caption's file; None for empty captions.
        caption_field: The key of the caption where its file is JSON; None where it is text.
    """

    kind: Literal["webdataset"]
    shards: NonEmpty
    image_key: NonEmpty = "jpg"
    depth_key: NonEmpty | None = None
    caption_key: NonEmpty | None = "txt"
    caption_field: NonEmpty | None = None

    @model_validator(mode="after")
    def _has_unit(self) -> Self:
        if self.depth_key is not None:
            require_unit(self.codes_per_unit)
        return self

    def open(self) -> WebDatasetSource:
        """Index tar files by their headers; the files in them are read when they are asked for.

        A sample's name is a path up to the first dot of the file's name, what follows is the
        extension, and its files are neighbours, as WebDataset has it.

        Raises:
            MfsynthError: No tar file, one that can't be read, no sample, or a sample without what
                the settings name.
        """
        tars = find_tars(self.shards)
        samples = [
            (tar, key, files) for tar, found in enumerate(tars) for key, files in _samples(found)
        ]
        if self.depth == "paired" and self.depth_key is not None:
            samples = [sample for sample in samples if self.depth_key in sample[2]]
        if not samples:
            raise MfsynthError(
                f"{without_credentials(self.shards)}: no samples in {len(tars)} tar files; check "
                "the pattern"
            )
        for tar, key, files in samples:
            self._require_files(f"{tars[tar].name}/{key}", files)
        absent = (0, _ABSENT)
        columns = (self.image_key, self.depth_key, self.caption_key)
        spans = [[files.get(c, absent) if c else absent for c in columns] for *_, files in samples]
        return WebDatasetSource(
            settings=self,
            tars=tuple(tars),
            keys=tuple(key for _, key, _ in samples),
            shards=np.array([tar for tar, _, _ in samples], np.int32),
            spans=np.array(spans, np.int64),
        )

    def _require_files(self, name: str, files: Collection[str]) -> None:
        wanted = {self.image_key: "image_key"}
        if self.depth_key is not None and self.depth != "optional":
            wanted[self.depth_key] = "depth_key or depth: optional;"
        if self.caption_key is not None:
            wanted[self.caption_key] = "caption_key"
        for extension, setting in wanted.items():
            if extension not in files:
                raise MfsynthError(
                    f"{name}: no file .{extension}; set {setting} "
                    f"({did_you_mean(extension, files)})"
                )


@dataclass(frozen=True, slots=True, eq=False)
class WebDatasetSource:
    """Implements `FiniteSource`.

    Attributes:
        settings: What was opened.
        tars: The shards.
        keys: N names of samples.
        shards: (N,) which of the shards.
        spans: (N, 3, 2) position and size of image, depth and caption; a size of -1 says that
            there is none.
    """

    settings: WebDatasetSettings
    tars: tuple[TarFile, ...]
    keys: tuple[str, ...]
    shards: NDArray[np.int32]
    spans: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> Item:
        settings = self.settings
        image, depth = self._read(index, _IMAGE), self._read(index, _DEPTH)
        image_name = self._name(index, settings.image_key)
        depth_name = self._name(index, settings.depth_key)
        assert image is not None
        rgb = decode_rgb(image, image_name, upright=depth is None)
        values = None
        if depth is not None:
            unit = settings.codes_per_unit or 1.0
            values = decode_depth(depth, depth_name, unit, settings.ray_intrinsics)
        return make_item(rgb, values, self._caption(index), image_name, depth_name)

    def texts(self) -> Iterator[str]:
        """See `FiniteSource`."""
        return (self._caption(index) for index in range(len(self)))

    def _read(self, index: int, part: int) -> bytes | None:
        start, size = self.spans[index, part].tolist()
        return None if size == _ABSENT else self.tars[self.shards[index]].read(start, size)

    def _name(self, index: int, key: str | None) -> str:
        return f"{self.tars[self.shards[index]].name}/{self.keys[index]}.{key}"

    def _caption(self, index: int) -> str:
        data = self._read(index, _CAPTION)
        if data is None:
            return ""
        settings = self.settings
        name = self._name(index, settings.caption_key)
        try:
            text = data.decode("utf-8-sig")
            if settings.caption_field is None:
                return text.strip()
            document = strict_json(text)
        except ValueError as error:
            kind = "text" if settings.caption_field is None else "JSON"
            raise MfsynthError(
                f"{name}: not UTF-8 {kind} ({error}); mend it or set caption_key"
            ) from error
        known = document if isinstance(document, dict) else {}
        caption = known.get(settings.caption_field)
        if not isinstance(caption, str):
            raise MfsynthError(
                f"{name}: no text under {settings.caption_field!r}; set caption_field; "
                f"{did_you_mean(settings.caption_field, known)}"
            )
        return caption


def _samples(tar: TarFile) -> Iterator[tuple[str, dict[str, tuple[int, int]]]]:
    """Name of each sample, with position and size by extension."""
    split = [(*_split(name), start, size) for name, start, size in tar.members()]
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
    return f"{folder}{slash}{stem}", extension
