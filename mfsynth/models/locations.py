"""Where a model is, which layout its files have, and what the files say before any weight.

Nothing here imports torch: a driver looks a model up with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mfsynth.config.documents import decode_utf8, parse_yaml, strict_json
from mfsynth.config.suggestions import did_you_mean, nearest
from mfsynth.errors import MfsynthError
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.urls import where_sought

EMBEDDED = "embedded"
_EMBEDDED_FOLDER = Path(__file__).parent / "embedded"

INDEX = "model_index.json"
CARD = "README.md"
CONFIG = "config.json"
CHECKPOINT = "model.safetensors"
INDEX_SUFFIX = ".index.json"
"""Of the list of files that takes a file's place, where its weights are in several."""

AUTOENCODER_FILES = {"encoder": "ae_encoder.safetensors", "decoder": "ae_decoder.safetensors"}
AUTOENCODER_CONFIG = "ae_config.json"
PIPELINE_CLASS = "ModalityForcingPipeline"

# What the release fixes outside of its files.
RELEASED_TEXT_ENCODER = "Qwen/Qwen3-8B"
RELEASED_TEXT_LAYERS = (9, 18, 27)
RELEASED_TEXT_LENGTH = 512
RELEASED_SIZE = 512
RELEASED_SHIFT_MU = 1.1
RELEASED_LICENCE = "cc-by-nc-4.0"
# Name of a released variant → whether it mixes the streams' noise levels.
RELEASED_VARIANTS = {"flux_rgbd_9b_v1": False, "flux_rgbd_9b_v2": True}
UNKNOWN_LICENCE = "unknown"

_RELEASED_FILES = (
    f"{CONFIG}, {CHECKPOINT}, {AUTOENCODER_FILES['encoder']}, {AUTOENCODER_FILES['decoder']}"
)
_WEIGHTS_SUFFIX = ".safetensors"
_CHECKPOINT_FILES = [
    CHECKPOINT,
    f"{CHECKPOINT}{INDEX_SUFFIX}",
    CHECKPOINT.replace(".", "-*."),
    *AUTOENCODER_FILES.values(),
]
# What a training writes: the model when it ends, checkpoints before.
_TRAINED, _CHECKPOINTS = "model", "checkpoint-*"
_SMALL_FILES = [INDEX, CARD, CONFIG, AUTOENCODER_CONFIG, f"*/{CONFIG}"]
_FOUND_SHOWN = 6


class Layout(StrEnum):
    """How a model's files are laid out."""

    DIFFUSERS = "diffusers"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A model's files on this machine.

    Attributes:
        name: As the user calls it.
        path: The folder.
        layout: Of the files.
        commit: Of a hub model; None of a local folder.
        checkpoint: Name of the transformer's file in the released layout.
    """

    name: str
    path: Path
    layout: Layout
    commit: str | None = None
    checkpoint: str = CHECKPOINT


def find_model(
    name: str,
    revision: str | None = None,
    *,
    weights: bool = True,
    local_files_only: bool = False,
) -> ModelFolder:
    """Find a model: `embedded`, a folder, a released `model.safetensors`, or a hub id.

    Args:
        name: What to find.
        revision: Of a hub id; None for its newest.
        weights: Whether a hub model's weights are fetched, or only the small files about them.
        local_files_only: Whether a hub model must already be on this machine.

    Raises:
        MfsynthError: There is no such model, or it is neither a diffusers folder nor of the
            released layout.
    """
    path = _EMBEDDED_FOLDER if name == EMBEDDED else Path(name).expanduser()
    if path.name.endswith(f"{_WEIGHTS_SUFFIX}{INDEX_SUFFIX}"):
        path = path.with_name(path.name.removesuffix(INDEX_SUFFIX))
    # Folders first: `.` and `/` have no name, beside which there could be a list of files.
    if path.is_dir():
        return ModelFolder(name, path, _layout(path, name))
    if path.is_file() or path.with_name(f"{path.name}{INDEX_SUFFIX}").is_file():
        if path.suffix != _WEIGHTS_SUFFIX:
            raise MfsynthError(f"{path} is no model; name a folder or a released {CHECKPOINT}")
        layout = _layout(path.parent, name)
        if layout is not Layout.RELEASED:
            raise MfsynthError(f"{path} is part of a {layout} folder; name the folder")
        return ModelFolder(name, path.parent, layout, checkpoint=path.name)
    try:
        snapshot = download(name, revision, _SMALL_FILES, local_files_only)
    except MfsynthError as error:
        if (meant := nearest(name, [EMBEDDED])) is not None:
            raise MfsynthError(f"{error}; or did you mean {meant}?") from error
        raise
    folder = ModelFolder(name, snapshot, _layout(snapshot, name), commit=snapshot.name)
    if weights:
        wanted = None
        if folder.layout is Layout.RELEASED:
            # An unknown variant is known to be one before its weights are fetched.
            released_config(folder)
            wanted = _CHECKPOINT_FILES
        download(name, folder.commit, wanted, local_files_only)
    return folder


def is_released(
    name: str | Path, revision: str | None = None, local_files_only: bool = False
) -> bool:
    """Whether a name is that of a model in the released layout.

    Raises:
        MfsynthError: It is that of a folder or file here that is no model.
    """
    try:
        model = find_model(str(name), revision, weights=False, local_files_only=local_files_only)
    except MfsynthError:
        if Path(name).expanduser().exists():
            raise
        return False
    return model.layout is Layout.RELEASED


def download(
    name: str, revision: str | None, patterns: list[str] | None, local_files_only: bool = False
) -> Path:
    """Fetch a hub repository, or those of its files that fit the patterns.

    Raises:
        MfsynthError: There is no such repository, or it cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with asking_the_hub(name, local_files_only):
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns, local_files_only=local_files_only
            )
        )


@contextmanager
def asking_the_hub(name: str, local_files_only: bool = False) -> Iterator[None]:
    """Turn what the hub's client raises for a name that is no folder into one line.

    Raises:
        MfsynthError: Such an error was raised inside of the `with`.
    """
    from huggingface_hub import errors

    try:
        yield
    except (
        *(errors.HfHubHTTPError, errors.HFValidationError, errors.LocalEntryNotFoundError),
        *(errors.RevisionResolutionError, OSError),
    ) as error:
        raise MfsynthError(f"{name!r}: {_why_none(name, error, local_files_only)}") from error


def _why_none(name: str, error: Exception, local_files_only: bool) -> str:
    from huggingface_hub import errors, is_offline_mode

    no_folder = f"no such folder{where_sought(name)}"
    match error:
        case errors.HFValidationError():
            return f"{no_folder}; name one that exists, or a hub id such as someone/model"
        case errors.GatedRepoError():
            return "its owners ask for your consent: accept its terms on the hub, and log in"
        case errors.RepositoryNotFoundError():
            return (
                f"{no_folder}, and no repository on the hub that you may see; look at the "
                "spelling, or log in"
            )
        case errors.RevisionNotFoundError():
            return "it has no such revision; name a commit, branch or tag that the hub shows"
    elsewhere = "name a folder that was made elsewhere by `mfsynth model convert`"
    if is_offline_mode():
        return (
            f"{no_folder}, and not fetched before; HF_HUB_OFFLINE is set, so the hub isn't asked: "
            f"unset it, or {elsewhere}"
        )
    if local_files_only:
        return f"{no_folder}, and not fetched before; leave local_files_only out, or {elsewhere}"
    return (
        f"{no_folder}, and the hub can't be reached ({type(error).__name__}); look at the "
        f"network, or {elsewhere}"
    )


def pipeline_index(model: ModelFolder) -> dict[str, Any]:
    """Read `model_index.json` of a diffusers folder.

    Raises:
        MfsynthError: It is of another pipeline than ours.
    """
    index = read_json(model.path / INDEX)
    if index.get("_class_name") != PIPELINE_CLASS:
        raise MfsynthError(f"{model.name} holds a {index.get('_class_name')}, not {PIPELINE_CLASS}")
    return index


def released_config(model: ModelFolder) -> dict[str, Any]:
    """Read `config.json` of a released checkpoint.

    Raises:
        MfsynthError: It names no variant that is known, and has no sizes of its own.
    """
    config = read_json(model.path / CONFIG)
    variant = config["variant"]
    if "dit" not in config and variant not in RELEASED_VARIANTS:
        raise MfsynthError(
            f"{model.path / CONFIG}: variant {variant} is not known and there is no 'dit' with "
            f"its sizes; {did_you_mean(variant, RELEASED_VARIANTS)}"
        )
    return config


def card_licence(folder: Path) -> dict[str, str]:
    """The licence fields of a folder's model card: `license`, and what explains it.

    Raises:
        MfsynthError: The card's front matter is no YAML, or says a thing twice.
    """
    from huggingface_hub.repocard import REGEX_YAML_BLOCK

    card = folder / CARD
    if not card.is_file():
        return {}
    text = decode_utf8(card.read_bytes(), str(card), "model card")
    data: Any = None
    if (found := REGEX_YAML_BLOCK.search(text)) is not None:
        above = "\n" * text.count("\n", 0, found.start(2))
        data = parse_yaml(above + found[2], str(card))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise MfsynthError(f"{card}: its front matter is not a YAML mapping; mend it")
    return {
        field: str(data[field])
        for field in ("license", "license_name", "license_link")
        if data.get(field)
    }


def model_licence(model: ModelFolder) -> str:
    """The licence of a model's weights: its card's, or that of the release."""
    if named := card_licence(model.path).get("license"):
        return named
    if model.layout is Layout.RELEASED and released_config(model)["variant"] in RELEASED_VARIANTS:
        return RELEASED_LICENCE
    return UNKNOWN_LICENCE


def digest_of(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 (hexadecimal) of files in a folder, their names included; the card doesn't count."""
    digest = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file() and path.name != CARD):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(bytes.fromhex(sha256_of_file(path)))
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        MfsynthError: The file is not one.
    """
    try:
        value = strict_json(path.read_text())
    except (OSError, ValueError) as error:
        raise MfsynthError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise MfsynthError(f"{path}: not a JSON object")
    return value


def _layout(folder: Path, name: str) -> Layout:
    if (folder / INDEX).is_file():
        return Layout.DIFFUSERS
    if (folder / _TRAINED / INDEX).is_file():
        raise MfsynthError(
            f"{name} is what a training wrote; its model is in it: name {folder / _TRAINED}"
        )
    if (folder / CONFIG).is_file():
        config = read_json(folder / CONFIG)
        if isinstance(config.get("variant"), str):
            return Layout.RELEASED
        kind = config.get("_class_name") or " ".join(config.get("architectures") or ["?"])
        raise MfsynthError(
            f"{name} is no model folder: it has no {INDEX}, and its {CONFIG} is of {kind} and "
            "names no released 'variant'"
        )
    if next(folder.glob(_CHECKPOINTS), None) is not None:
        raise MfsynthError(
            f"{name} is of a training that hasn't ended; run it to its end, then name "
            f"{folder / _TRAINED}"
        )
    found = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(found[:_FOUND_SHOWN]) + (" …" if len(found) > _FOUND_SHOWN else "")
    raise MfsynthError(
        f"{name} is no model folder: it holds {shown or 'nothing'}, and neither {INDEX} nor a "
        f"released checkpoint ({_RELEASED_FILES})"
    )
