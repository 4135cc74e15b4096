"""Looking into safetensors files: headers without data, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mfsynth.errors import MfsynthError
from mfsynth.models.locations import INDEX_SUFFIX, read_json

WEIGHTS = ("diffusion_pytorch_model.safetensors", "model.safetensors")
"""Names of a model's only file: diffusers', transformers'."""

_SHOWN = 5
_FLOATS = frozenset({"F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a file says of a tensor before its data is read.

    Attributes:
        dtype: As safetensors writes it: "BF16", "F32", "I64" and so on.
        shape: Its sizes.
    """

    dtype: str
    shape: tuple[int, ...]


def read_headers(path: Path) -> dict[str, TensorHeader]:
    """Read names, types and shapes of a file's tensors.

    Raises:
        MfsynthError: There is no such file, or it is not a whole safetensors file.
    """
    with open_tensors(path, "numpy") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 (no iterator)
        return {
            key: TensorHeader(part.get_dtype(), tuple(part.get_shape()))
            for key, part in slices.items()
        }


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model's folder, as diffusers and transformers name them.

    Raises:
        MfsynthError: There are none, or their index can't be read.
    """
    for path in (folder / name for name in WEIGHTS):
        parts = parts_of(path)
        if parts != [path] or path.is_file():
            return parts
    raise MfsynthError(f"{folder}: no weights ({' or '.join(WEIGHTS)}); fetch it again")


def parts_of(path: Path) -> list[Path]:
    """A file of weights itself, or those that an index beside it names in its place.

    Raises:
        MfsynthError: The index can't be read.
    """
    index = path.with_name(f"{path.name}{INDEX_SUFFIX}")
    if not index.is_file():
        return [path]
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(file, str) for file in shards.values()):
        raise MfsynthError(f"{index} names no files; fetch it again")
    # Files of the folder itself: a name must not lead to another place.
    return [
        path.with_name(file) for file in sorted({Path(shard).name for shard in shards.values()})
    ]


def read_headers_of(paths: Iterable[Path]) -> dict[Path, dict[str, TensorHeader]]:
    """Read the headers of files that together hold a model's weights.

    Raises:
        MfsynthError: See `read_headers`; or a tensor is in two of them.
    """
    headers: dict[Path, dict[str, TensorHeader]] = {}
    seen: set[str] = set()
    for path in paths:
        headers[path] = read_headers(path)
        if twice := seen & headers[path].keys():
            raise MfsynthError(
                f"{path}: {min(twice)} is in another file, too; fetch or convert the model again"
            )
        seen |= headers[path].keys()
    return headers


@contextmanager
def open_tensors(path: Path, framework: str = "pt") -> Iterator[Any]:
    """Open a file for reading; its tensors live as long as the file is open.

    Raises:
        MfsynthError: There is no such file, or it is not a whole safetensors file.
    """
    if not path.is_file():
        raise MfsynthError(f"{path}: no such file; the model is not whole without it")
    try:
        file = safe_open(path, framework)
    except (SafetensorError, OSError) as error:
        raise MfsynthError(
            f"{path}: not a whole safetensors file ({error}); fetch it again"
        ) from error
    with file:
        yield file


def discrepancies(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, TensorHeader]
) -> list[str]:
    """Say how a file's tensors differ from what they should be; an empty list where they do not.

    Tensors are floating-point numbers of at most 32 bits, but for counters, which are int64.

    Args:
        expected: Shapes by key.
        found: Headers by key.

    Returns:
        A phrase for each kind of difference, with its count and its first few keys.
    """
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    both = {key: found[key] for key in expected if key in found}
    misshapen = [
        f"{key} is {_sizes(header.shape)}, not {_sizes(expected[key])}"
        for key, header in both.items()
        if header.shape != expected[key]
    ]
    mistyped = [
        f"{key} is {header.dtype}"
        for key, header in both.items()
        if header.dtype not in (("I64",) if key.endswith(".num_batches_tracked") else _FLOATS)
    ]
    kinds = {
        "missing": missing,
        "extra": extra,
        "of another shape": misshapen,
        "of a type that is not float32, float16 or bfloat16": mistyped,
    }
    return [f"{len(keys)} {kind} ({_some(keys)})" for kind, keys in kinds.items() if keys]


def _sizes(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape) or "a scalar"


def _some(keys: list[str]) -> str:
    rest = len(keys) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
