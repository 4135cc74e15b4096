"""Captions of images in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import model_validator

from mfsynth.config.base import NonEmpty, Settings
from mfsynth.config.documents import decode_utf8, read_bytes
from mfsynth.config.suggestions import did_you_mean
from mfsynth.config.tables import Rows, read_csv, read_jsonl
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
            has no row, or two.
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
                    f"captions.caption_key; {did_you_mean(key, row)}"
                )
        image = row[settings.image_key]
        if image in found:
            raise MfsynthError(f"{path}:{line}: {image} is there twice; keep one of its captions")
        found[image] = row[settings.caption_key]
    missing = [image for image in images if image not in found]
    if missing:
        raise MfsynthError(
            f"{path}: {len(missing)} of {len(images)} images have no row, the first is "
            f"{missing[0]}; add rows, with an empty text where there is no caption"
        )
    return tuple(found[image] for image in images)


def _rows(path: str) -> Rows:
    text = decode_utf8(read_bytes(path, _WHAT), path, _WHAT)
    if path.endswith(".jsonl"):
        return read_jsonl(text, path)
    if path.endswith(".csv"):
        return read_csv(text, path)[1]
    raise MfsynthError(f"{path}: not a {_WHAT}; it must end in .jsonl or .csv")
