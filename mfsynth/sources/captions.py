"""Captions of images in a folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator

from mfsynth.config.base import NonEmpty, Settings
from mfsynth.config.documents import decode_utf8, read_bytes, strict_json
from mfsynth.config.suggestions import did_you_mean
from mfsynth.config.tables import refuse_more_fields, refuse_repeated_columns
from mfsynth.errors import MfsynthError

_WHAT = "caption file"


class CaptionSettings(Settings):
    """Where captions of a folder come from; empty ones where nothing is given.

    Attributes:
        constant: One caption for all images.
        file: A .jsonl or .csv file, relative to the folder, with a row for every image.
        image_key: The key of the image's path, relative to the folder.
        caption_key: The key of the caption.
    """

    constant: NonEmpty | None = None
    file: NonEmpty | None = None
    image_key: NonEmpty = "file_name"
    caption_key: NonEmpty = "text"

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if self.constant is not None and self.file is not None:
            raise ValueError("give one of constant and file, or neither for empty captions")
        return self


def read_captions(settings: CaptionSettings, root: Path, images: Sequence[str]) -> tuple[str, ...]:
    """The caption of every image.

    Args:
        settings: Where they come from.
        root: The folder.
        images: Paths of images, relative to it.

    Raises:
        MfsynthError: The file or one of its lines can't be read, a key isn't there, or an image
            has no row.
    """
    if settings.file is None:
        return (settings.constant or "",) * len(images)
    path = str(root / settings.file)
    found: dict[str, str] = {}
    for line, row in _rows(path):
        for key in (settings.image_key, settings.caption_key):
            if not isinstance(row.get(key), str):
                raise MfsynthError(
                    f"{path}:{line}: no text under the key {key!r}; set captions.image_key and "
                    f"captions.caption_key; {did_you_mean(key, map(str, row))}"
                )
        found[row[settings.image_key]] = row[settings.caption_key]
    missing = [image for image in images if image not in found]
    if missing:
        raise MfsynthError(
            f"{path}: {len(missing)} of {len(images)} images have no row, the first is "
            f"{missing[0]}; add rows, with an empty text where there is no caption"
        )
    return tuple(found[image] for image in images)


def _rows(path: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    text = decode_utf8(read_bytes(path, _WHAT), path, _WHAT)
    if path.endswith(".jsonl"):
        yield from _jsonl_rows(path, text)
    elif path.endswith(".csv"):
        yield from _csv_rows(path, text)
    else:
        raise MfsynthError(f"{path}: not a {_WHAT}; it must end in .jsonl or .csv")


def _jsonl_rows(path: str, text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    # Not splitlines(): it also breaks at characters that may stand in a caption.
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if not line.strip():
            continue
        try:
            row = strict_json(line)
        except ValueError as error:
            raise MfsynthError(
                f"{path}:{number}: not valid JSON ({error}); mend this line"
            ) from error
        if not isinstance(row, dict):
            raise MfsynthError(f"{path}:{number}: not a JSON object; mend this line")
        yield number, row


def _csv_rows(path: str, text: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        refuse_repeated_columns(reader, path)
        for row in reader:
            refuse_more_fields(reader, row, path)
            yield reader.line_num, row
    except csv.Error as error:
        raise MfsynthError(
            f"{path}:{reader.reader.line_num}: not valid CSV: {error}; mend this line"
        ) from error
