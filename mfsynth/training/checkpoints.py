"""Checkpoints: a folder of safetensors files that is there whole, or not at all.

Beside them `checkpoint.json` says what the checkpoint is of, and how long and of which SHA-256 each
file is: nothing of it is used before it was compared.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mfsynth.config import settings_digest
from mfsynth.config.base import Count, Index, Settings, Unset
from mfsynth.config.documents import strict_json
from mfsynth.errors import MfsynthError
from mfsynth.storage.atomic import staged_folder
from mfsynth.storage.digests import sha256_of_file
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.training.identity import Identity
from mfsynth.training.optimisers import Optimisers
from mfsynth.training.processes import gather_full, shard_like

MODEL, AVERAGE, BASE, OPTIMISER = "model", "average", "base", "optimiser"

_RECORD = "checkpoint.json"
_ASIDE = ".old"
_NAME = re.compile(rf"checkpoint-(\d{{8}})(\{_ASIDE})?")
# mfsynth 0.1.0 wrote into `checkpoint-N.new`.
_UNFINISHED = re.compile(rf"\.checkpoint-\d{{8}}\..*\{PART_SUFFIX}|checkpoint-\d{{8}}\.new")


class FileRecord(Settings):
    """What a file of a checkpoint must be: bytes, and their SHA-256 (hexadecimal)."""

    size: Count
    sha256: str


class CheckpointRecord(Settings):
    """What a checkpoint is of.

    Attributes:
        format: Of this record.
        step: Steps done.
        fingerprint: Of the settings.
        settings: What the weights are a function of; see `Identity`.
        files: All of them, by their names.
        loader: Where the loader of its data was, if it has one; see `mfsynth.datasets.Loader`.
    """

    format: Literal[1] = 1
    step: Index
    fingerprint: str
    settings: dict[str, Any]
    files: dict[str, FileRecord]
    loader: Unset[dict[str, Any]] = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint in a folder.

    Attributes:
        path: The folder.
        record: What it is of.
    """

    path: Path
    record: CheckpointRecord

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Read what a checkpoint is of, and see that it has its files, at their sizes.

        Raises:
            MfsynthError: It has not, or says nothing of itself.
        """
        file = path / _RECORD
        if not file.is_file():
            raise MfsynthError(
                f"{path} has no {_RECORD}: the file was lost, or an older mfsynth, which wrote "
                "none, has to finish what it began"
            )
        try:
            record = CheckpointRecord.model_validate(strict_json(file.read_bytes()))
            is_damaged = settings_digest(record.settings) != record.fingerprint
        except (ValidationError, ValueError, OSError):
            is_damaged = True
        if is_damaged or not path.name.startswith(checkpoint_folder(path, record.step).name):
            raise MfsynthError(f"{file} is damaged")
        for name, expected in record.files.items():
            of = path / name
            size = of.stat().st_size if of.is_file() else None
            if size is None:
                raise MfsynthError(f"{of} is missing")
            if size != expected.size:
                raise MfsynthError(f"{of} has {size} bytes, not {expected.size}")
        return cls(path, record)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.record.step

    def verify(self, *parts: str) -> None:
        """Compare the bytes of files with what was written.

        Args:
            *parts: Which; all files if none is named.

        Raises:
            MfsynthError: One has changed, can't be read, or was never there; names it.
        """
        for name in map(_file, parts) if parts else self.record.files:
            path = self.path / name
            if name not in self.record.files:
                raise MfsynthError(f"{path} is missing")
            try:
                digest = sha256_of_file(path)
            except OSError as error:
                raise MfsynthError(f"{path}: {error.strerror or error}") from error
            if digest != self.record.files[name].sha256:
                raise MfsynthError(f"{path} has changed since it was written")

    def read(self, part: str) -> Iterator[tuple[str, Tensor]]:
        """The whole tensors of a file, one at a time; none where nothing of the kind was kept."""
        if _file(part) in self.record.files:
            with safe_open(self.path / _file(part), "pt") as file:
                for name in file.keys():  # noqa: SIM118
                    yield name, file.get_tensor(name)


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where in a training's folder the checkpoint of a step is."""
    return folder / f"checkpoint-{step:08d}"


def latest_checkpoint(folder: Path, *parts: str) -> Checkpoint | None:
    """The newest checkpoint, compared with what was written; None where there is none.

    Args:
        folder: Of the training.
        *parts: Files that will be read; all if none is named.

    Raises:
        MfsynthError: It is not whole: a file is missing, cut off or changed. Says whether an older
            one is.
    """
    places = _places(folder)
    if not places:
        return None
    try:
        return _whole(places[0], parts)
    except MfsynthError as error:
        remedy = "give this training another output, or remove the checkpoint to begin anew"
        for older in places[1:]:
            try:
                found = _whole(older, ())
            except MfsynthError:
                continue
            remedy = (
                f"{older.name} is whole: remove {places[0].name} to go on from step {found.step}"
            )
            break
        raise MfsynthError(f"{error}; {remedy}") from error


def write_checkpoint(
    folder: Path,
    step: int,
    identity: Identity,
    parts: Mapping[str, Mapping[str, Tensor]],
    is_main: bool,
    loader: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint, then take older ones away.

    Visible: when it is whole and on the disk. Until then the older one counts, also if it is of
    the same step; a kill leaves one of the two.

    Where processes have parts of the tensors, all must call it; the main process writes them
    whole, one file after the other.

    Args:
        folder: Of the training.
        step: That it is of.
        identity: Of the training.
        parts: Tensors by name, by the name of their file.
        is_main: Whether this process writes.
        loader: See `CheckpointRecord`.
    """
    target = checkpoint_folder(folder, step)
    if is_main:
        _set_aside(target)
    with staged_folder(target) if is_main else nullcontext() as staged:
        for part, tensors in parts.items():
            gathered: dict[str, Tensor] = {}
            for name, tensor in tensors.items():
                value = gather_full(tensor)
                if staged is not None:
                    gathered[name] = value.cpu().contiguous()
            if staged is not None:
                save_file(gathered, staged / _file(part))
        if staged is not None:
            write_record(staged, step, identity, loader)
    if is_main:
        _remove_all_but(target)


def write_record(
    checkpoint: Path, step: int, identity: Identity, loader: dict[str, Any] | None = None
) -> None:
    """Write down what a checkpoint is of, its files being there."""
    files = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        files[path.name] = FileRecord(size=path.stat().st_size, sha256=sha256_of_file(path))
    record = CheckpointRecord(
        step=step,
        fingerprint=identity.fingerprint,
        settings=dict(identity.settings),
        files=files,
        loader=loader,
    )
    (checkpoint / _RECORD).write_text(record.model_dump_json(indent=1), encoding="utf-8")


def optimiser_state(
    optimisers: Optimisers, trained: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Moments and counters of all optimisers, by the parameter's name and their own."""
    return {
        f"{name}.{key}": value
        for name, parameter in trained.items()
        for optimiser in optimisers
        for key, value in optimiser.state.get(parameter, {}).items()
    }


def restore_optimisers(
    optimisers: Optimisers, trained: Mapping[str, nn.Parameter], state: Iterator[tuple[str, Tensor]]
) -> None:
    """Give optimisers the state that `optimiser_state` took."""
    owner = {
        parameter: optimiser
        for optimiser in optimisers
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    for full_name, value in state:
        name, key = full_name.rsplit(".", 1)
        parameter = trained[name]
        is_counter = value.ndim == 0
        placed = value.to(parameter.device) if is_counter else shard_like(value, parameter)
        owner[parameter].state[parameter][key] = placed


def _places(folder: Path) -> list[Path]:
    """Folders of checkpoints, the one that counts first."""
    found = [
        (int(match[1]), match[2] is None, path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NAME.fullmatch(path.name))
    ]
    return [path for _, _, path in sorted(found, reverse=True)]


def _whole(path: Path, parts: tuple[str, ...]) -> Checkpoint:
    checkpoint = Checkpoint.open(path)
    checkpoint.verify(*parts)
    return checkpoint


def _file(part: str) -> str:
    return f"{part}.safetensors"


def _set_aside(target: Path) -> None:
    """Give a checkpoint of the same step a name that still counts until the new one is whole."""
    if target.exists():
        aside = target.with_name(f"{target.name}{_ASIDE}")
        shutil.rmtree(aside, ignore_errors=True)
        target.rename(aside)


def _remove_all_but(target: Path) -> None:
    """Remove other checkpoints, and those that killed processes never finished."""
    for path in target.parent.iterdir():
        if path != target and (_NAME.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name)):
            shutil.rmtree(path)
