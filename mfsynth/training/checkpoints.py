"""Checkpoints: a folder of safetensors files that is there whole, or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mfsynth.storage.atomic import PART_SUFFIX, staged_folder
from mfsynth.training.optimisers import Optimisers
from mfsynth.training.processes import gather_full, shard_like

MODEL, AVERAGE, BASE, OPTIMISER = "model", "average", "base", "optimiser"

_ASIDE = ".old"
_NAME = re.compile(rf"checkpoint-(\d{{8}})(\{_ASIDE})?")
# mfsynth 0.1.0 wrote into `checkpoint-N.new`.
_UNFINISHED = re.compile(rf"\.checkpoint-\d{{8}}\..*\{PART_SUFFIX}|checkpoint-\d{{8}}\.new")


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where in a training's folder the checkpoint of a step is."""
    return folder / f"checkpoint-{step:08d}"


def latest_checkpoint(folder: Path) -> tuple[int, Path] | None:
    """Step and place of the newest whole checkpoint; None where there is none."""
    found = [
        (int(match[1]), match[2] is None, path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (match := _NAME.fullmatch(path.name))
    ]
    if not found:
        return None
    step, _, path = max(found)
    return step, path


def write_checkpoint(
    folder: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], is_main: bool
) -> None:
    """Write a checkpoint, then take older ones away.

    Visible: when it is whole and on the disk. Until then the older one counts, also if it is of
    the same step; a kill leaves one of the two.

    Where processes have parts of the tensors, all must call it; the main process writes them
    whole, one file after the other.

    Args:
        folder: Of the training.
        step: That it is of.
        parts: Tensors by name, by the name of their file.
        is_main: Whether this process writes.
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
                save_file(gathered, staged / f"{part}.safetensors")
    if is_main:
        _remove_all_but(target)


def read_part(checkpoint: Path, part: str) -> Iterator[tuple[str, Tensor]]:
    """The whole tensors of a checkpoint's file, one at a time; none where it has no such file."""
    path = checkpoint / f"{part}.safetensors"
    if path.exists():
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)


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
