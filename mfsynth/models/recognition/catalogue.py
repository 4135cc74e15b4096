"""Where such a network is, of which class, its revision and its licence; without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import (
    CARD,
    CONFIG,
    UNKNOWN_LICENCE,
    card_licence,
    digest_of,
    download,
    read_json,
)

TEXT_IMAGE = ("CLIPModel", "SiglipModel")
"""Classes of transformers that set a text beside an image."""

EMBEDDED_JUDGE = "embedded"
"""The judge of the embedded model's images that comes with the package."""

_EMBEDDED_FOLDER = Path(__file__).parents[1] / "embedded_judge"

JUDGE = "ObjectJudge"
DETECTORS = (
    JUDGE,
    "Owlv2ForObjectDetection",
    "OwlViTForObjectDetection",
    "GroundingDinoForObjectDetection",
)
"""Classes that find things by their names: the embedded model's judge, those of transformers."""

# No pickles, and no code.
_SMALL_FILES = ["*.json", "*.txt", "*.model", CARD]
_FILES = ["*.safetensors", *_SMALL_FILES]


@dataclass(frozen=True, slots=True)
class RecogniserFolder:
    """A network's files on this machine.

    Attributes:
        name: As the user calls it.
        path: The folder.
        kind: Its class.
        commit: Of a hub repository; None of a local folder.
    """

    name: str
    path: Path
    kind: str
    commit: str | None = None

    @property
    def revision(self) -> str:
        """Commit of a hub repository; SHA-256 of a local folder's files."""
        return self.commit or digest_of(self.path, self.path.rglob("*"))

    @property
    def licence(self) -> str:
        """That of its card; `unknown` where there is none."""
        return card_licence(self.path).get("license") or UNKNOWN_LICENCE


def find_recogniser(
    name: str, revision: str | None, kinds: Collection[str], *, weights: bool = True
) -> RecogniserFolder:
    """Find a network's files.

    Args:
        name: `EMBEDDED_JUDGE`, a folder, or a hub id.
        revision: Of a hub id; None for its newest.
        kinds: Classes that will do.
        weights: Whether a hub repository's weights are fetched, or only the small files about them.

    Raises:
        MfsynthError: There is no such folder or repository, or it holds something else.
    """
    folder = _EMBEDDED_FOLDER if name == EMBEDDED_JUDGE else Path(name).expanduser()
    commit = None
    if not folder.is_dir():
        folder = download(name, revision, _FILES if weights else _SMALL_FILES)
        commit = folder.name
    if not (folder / CONFIG).is_file():
        raise MfsynthError(f"{name} holds no {CONFIG}; name the folder or hub id of a model")
    kind = _class_of(read_json(folder / CONFIG))
    if kind not in kinds:
        raise MfsynthError(f"{name} is a {kind}; name a model of {', '.join(kinds)}")
    return RecogniserFolder(name, folder, kind, commit)


def _class_of(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else None
    return str(config.get("_class_name") or first or "model of no named class")
