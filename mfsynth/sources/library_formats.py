"""Arrays in files that others' libraries read: OpenEXR, HDF5 and MATLAB's."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.suggestions import did_you_mean
from mfsynth.errors import MfsynthError
from mfsynth.sources.guards import library, require_few, require_sane

# What a channel of depth is called: OpenEXR's own name, and those of Blender and Unreal.
_DEPTH_CHANNELS = ("Z", "depth", "Depth.Z", "depth.Z", "Depth.V", "depth.V", "Y", "V")
_MAT_OF_HDF5 = b"MATLAB 7.3"


class _Window(NamedTuple):
    top: int
    left: int
    shape: tuple[int, int]


def read_exr(data: bytes, name: str, key: str | None) -> NDArray[Any]:
    """A channel of an OpenEXR image: the one of the key, of depth by its name, or the only one.

    Red is taken, too, where green and blue are the same. The map is what the file shows, its
    display window: pixels beyond are cut off, and where there are none there is no depth.
    """
    exr = library("OpenEXR", "OpenEXR", "exr", name)
    with exr.File(io.BytesIO(data), header_only=True, num_threads=0) as header:
        windows = [_windows(header.header(part)) for part in range(len(header.parts))]
        for window in (window for both in windows for window in both):
            require_few(window.shape, name)
    with exr.File(io.BytesIO(data), separate_channels=True, num_threads=0) as file:
        found = {
            channel: (values.pixels, of_part)
            for part, of_part in reversed([*zip(file.parts, windows, strict=True)])
            for channel, values in part.channels.items()
        }
        channels = {channel: pixels for channel, (pixels, _) in found.items()}
        pixels, (stored, shown) = found[_chosen_channel(channels, name, key)]
        return np.array(pixels) if stored == shown else _cut(pixels, stored, shown)


def read_hdf5(data: bytes, name: str, key: str | None) -> NDArray[Any]:
    """A data set of an HDF5 file: of the key, as in `frames/depth`, or the only one of a map."""
    h5py = library("h5py", "h5py", "hdf5", name)
    with h5py.File(io.BytesIO(data), "r") as file:
        return np.asarray(_dataset(h5py, file, name, key)[()])


def read_mat(data: bytes, name: str, key: str | None) -> NDArray[Any]:
    """A variable of a .mat file: of the key, or the only one of a map. Version 7.3 is HDF5."""
    if data.startswith(_MAT_OF_HDF5):
        # Of MATLAB's order of axes, the last first.
        return np.ascontiguousarray(read_hdf5(data, name, key).T)
    scipy = library("scipy.io", "scipy", "mat", name)
    found = {
        variable: shape
        for variable, shape, kind in scipy.whosmat(io.BytesIO(data))
        if kind not in ("cell", "struct", "object", "char", "function", "opaque", "sparse")
    }
    maps = [variable for variable, shape in found.items() if min(shape) > 1]
    chosen = _chosen(found, maps, name, key)
    require_sane(found[chosen], np.dtype(np.float64), name)
    return np.asarray(scipy.loadmat(io.BytesIO(data), variable_names=[chosen])[chosen])


def _windows(header: dict[str, Any]) -> tuple[_Window, _Window]:
    """What a part of an OpenEXR image has pixels of, and what it shows."""

    def window(name: str) -> _Window:
        (left, top), (right, bottom) = (corner.tolist() for corner in header[name])
        return _Window(top, left, (bottom - top + 1, right - left + 1))

    return window("dataWindow"), window("displayWindow")


def _cut(pixels: NDArray[Any], stored: _Window, shown: _Window) -> NDArray[Any]:
    whole = np.full(shown.shape, np.nan if pixels.dtype.kind == "f" else 0, pixels.dtype)
    to, of = [], []
    for begin, first, size, length in zip(
        stored[:2], shown[:2], pixels.shape, shown.shape, strict=True
    ):
        low, high = max(begin, first), min(begin + size, first + length)
        to.append(slice(low - first, max(low, high) - first))
        of.append(slice(low - begin, max(low, high) - begin))
    whole[tuple(to)] = pixels[tuple(of)]
    return whole


def _chosen_channel(channels: dict[str, NDArray[Any]], name: str, key: str | None) -> str:
    if key is not None or len(channels) == 1:
        return _chosen(channels, list(channels), name, key)
    named = [channel for channel in _DEPTH_CHANNELS if channel in channels]
    if named:
        return named[0]
    grey = [channels[one] for one in ("R", "G", "B") if one in channels]
    if len(grey) == 3 and all(np.array_equal(grey[0], other, equal_nan=True) for other in grey):
        return "R"
    return _chosen(channels, list(channels), name, key)


def _dataset(h5py: Any, file: Any, name: str, key: str | None) -> Any:
    if key is None or file.get(key, getlink=True) is None:
        known = {path: one for path, one in _datasets(h5py, file) if one.dtype.kind in "fiu"}
        maps = [path for path, one in known.items() if one.ndim >= 2 and min(one.shape[:2]) > 1]
        key = _chosen(known, maps, name, key)
    link = file.get(key, getlink=True)
    found = None if isinstance(link, h5py.ExternalLink) else file[key]
    if found is None or found.file["/"] != file["/"]:
        raise MfsynthError(f"{name}: {key} is in another file; copy it into this one")
    if not isinstance(found, h5py.Dataset):
        inner = ", ".join(f"{key.rstrip('/')}/{one}" for one in list(found)[:8])
        raise MfsynthError(f"{name}: {key} is a group; set encoding.key to one of {inner}")
    if found.external or found.is_virtual:
        raise MfsynthError(f"{name}: numbers of {key} are in other files; copy them into this one")
    require_sane(found.shape, found.dtype, name)
    return found


def _datasets(h5py: Any, group: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Data sets of this file, not of others that it links to."""
    for part in group:
        link = group.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink) or depth > 8:
            continue
        found = group.get(part)
        if isinstance(found, h5py.Dataset):
            yield f"{path}{part}", found
        elif isinstance(found, h5py.Group):
            yield from _datasets(h5py, found, f"{path}{part}/", depth + 1)


def _chosen(found: Collection[str], maps: list[str], name: str, key: str | None) -> str:
    if key is None and len(maps) == 1:
        return maps[0]
    if key is not None and key in found:
        return key
    said = f"no array {key!r}" if key is not None else f"{len(maps)} arrays"
    hint = f"known: {', '.join(sorted(found)[:16])}"
    if key is not None and found:
        hint = did_you_mean(key, found)
    raise MfsynthError(
        f"{name}: {said}; set encoding.key for depth and encoding.rgb_key for images; {hint}"
    )
