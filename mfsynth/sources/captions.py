"""Captions of images in a folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from typing import Any, Self

from pydantic import model_validator

from mfsynth.config.base import NonEmpty, Settings, Unset
from mfsynth.config.documents import decode_utf8, strict_json
from mfsynth.config.suggestions import did_you_mean
from mfsynth.config.tables import Rows, read_csv, read_jsonl
from mfsynth.errors import MfsynthError
from mfsynth.sources.trees import Tree

_WHAT = "caption file"
# Names that captions have elsewhere, the likeliest first.
_USUAL = ("caption", "text", "txt", "captions", "prompt", "description", "texts", "sentences")


class CaptionSettings(Settings):
    """Where captions of a folder come from; empty ones where nothing is given.

    Of an image with a list of captions the first is taken.

    Attributes:
        constant: One caption for all images.
        file: A .jsonl or .csv file, relative to the folder, with a row for every image.
        beside: Extension of a file beside every image, as `txt` for IMAGE.txt (or IMAGE.jpg.txt);
            a `json` has its caption under `caption_key`.
        image_key: The key of the image's path, relative to the folder.
        caption_key: The key of the caption.
    """

    constant: NonEmpty | None = None
    file: NonEmpty | None = None
    beside: Unset[NonEmpty] = None
    image_key: NonEmpty = "file_name"
    caption_key: NonEmpty = "text"

    @model_validator(mode="after")
    def _one_at_most(self) -> Self:
        if [self.constant, self.file, self.beside].count(None) < 2:
            raise ValueError("give one of constant, file and beside, or none for empty captions")
        return self


def read_captions(
    settings: CaptionSettings, tree: Tree, images: Sequence[str]
) -> list[str | MfsynthError]:
    """The caption of every image, or why it has none.

    Args:
        settings: Where they come from.
        tree: The folder.
        images: Paths of images, relative to it.

    Raises:
        MfsynthError: The file or one of its lines can't be read, a row is of no image, or an image
            has two rows.
    """
    if settings.beside is not None:
        return [_beside(settings, tree, image) for image in images]
    if settings.file is None:
        return [settings.constant or ""] * len(images)
    path = tree.told(settings.file)
    found: dict[str, str | MfsynthError] = {}
    for line, row in _rows(tree, settings.file):
        image = row.get(settings.image_key)
        if not isinstance(image, str):
            # Of which image it would be, nobody can say.
            raise _no_text(path, line, settings.image_key, did_you_mean(settings.image_key, row))
        if image in found:
            raise MfsynthError(f"{path}:{line}: {image} is there twice; keep one of its captions")
        key = settings.caption_key
        caption = first_text(row.get(key))
        if caption is None:
            found[image] = _no_text(path, line, key, did_you_mean_caption(key, row))
        else:
            found[image] = caption
    remedy = "add a row, with an empty text where there is no caption"
    return [
        found[image] if image in found else MfsynthError(f"{path}: no row for {image}; {remedy}")
        for image in images
    ]


def _no_text(path: str, line: int, key: str, hint: str) -> MfsynthError:
    return MfsynthError(
        f"{path}:{line}: no text under the key {key!r}; set captions.image_key and "
        f"captions.caption_key; {hint}"
    )


def first_text(value: Any) -> str | None:
    """A caption, or the first of a list of them; None where there is none."""
    if isinstance(value, list):
        value = next((one for one in value if isinstance(one, str)), None)
    return value if isinstance(value, str) else None


def did_you_mean_caption(name: str, known: Iterable[str]) -> str:
    """As `did_you_mean`, for what holds captions: another word for them is nearer than letters."""
    names = list(known)
    usual = next((word for word in _USUAL if word in names), None)
    return f"did you mean {usual}?" if usual is not None else did_you_mean(name, names)


def _beside(settings: CaptionSettings, tree: Tree, image: str) -> str | MfsynthError:
    extension = f".{(settings.beside or '').removeprefix('.')}"
    places = (posixpath.splitext(image)[0] + extension, image + extension)
    name = next((place for place in places if tree.find(place) is not None), None)
    if name is None:
        file = posixpath.basename(image)
        return MfsynthError(
            f"{tree.told(places[0])}: no such file with the caption of {file}; add it"
        )
    try:
        path = tree.told(name)
        text = decode_utf8(tree.read(name), path, "caption")
        if extension != ".json":
            return text.strip()
        return caption_in(text, path, settings.caption_key, "captions.caption_key")
    except MfsynthError as error:
        return error


def caption_in(text: str, name: str, key: str, setting: str) -> str:
    """The caption under a key of a JSON document.

    Raises:
        MfsynthError: It is no JSON, or has no text there.
    """
    try:
        document = strict_json(text)
    except ValueError as error:
        raise MfsynthError(f"{name}: not UTF-8 JSON ({error}); mend it or set {setting}") from error
    known = document if isinstance(document, dict) else {}
    caption = first_text(known.get(key))
    if caption is None:
        raise MfsynthError(
            f"{name}: no text under {key!r}; set {setting}; {did_you_mean_caption(key, known)}"
        )
    return caption


def _rows(tree: Tree, name: str) -> Rows:
    path = tree.told(name)
    text = decode_utf8(tree.read(name, "captions.file names it"), path, _WHAT)
    if path.endswith(".jsonl"):
        return read_jsonl(text, path)
    if path.endswith(".csv"):
        return read_csv(text, path)[1]
    raise MfsynthError(f"{path}: not a {_WHAT}; it must end in .jsonl or .csv")
