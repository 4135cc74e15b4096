"""Rendered scenes on disk: arrays that training maps into memory.

A folder holds `rgb.npy` uint8 (N, H, W, 3), `depth.npy` float32 (N, H, W) metres,
`intrinsics.npy` and `camera_to_world.npy` float64 (N, 3, 3) and (N, 4, 4), `captions.json`
(N strings) and `dataset.json` (what decides the content). View v of scene s is row
s · views + v. While it is being rendered, `finished/` names the chunks of scenes that are done
and `captions.json` isn't there yet.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from mfsynth.config.documents import strict_json
from mfsynth.errors import MfsynthError
from mfsynth.processes import end_with_parent
from mfsynth.prompts import load_library
from mfsynth.simulation.rendering import render_scene
from mfsynth.simulation.scene_sampling import scenes as number_scenes
from mfsynth.simulation.styles import PLAIN, SceneStyle
from mfsynth.storage import atomic
from mfsynth.storage.exclusive import PART_SUFFIX
from mfsynth.storage.system_entries import is_system_entry

_CHUNK_SCENES = 16
_FORMAT_VERSION = 1
_SHOWN_DIFFERENCES = 3

# Rendering processes that die one after the other, with no chunk finished between them.
_MAX_DEATHS = 3


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What decides a rendered data set; the same settings resume, others don't.

    Attributes:
        library: Name or path of the prompt library.
        library_digest: Hash of its content.
        seed: Of prompts and scenes.
        scenes: Number of scenes.
        views: Views of each.
        size: Rows and columns of the images.
        style: Within which limits scenes and cameras vary.
        format_version: Of the files.
    """

    library: str
    library_digest: str
    seed: int
    scenes: int
    views: int
    size: int
    style: SceneStyle = PLAIN
    format_version: int = _FORMAT_VERSION

    def document(self) -> dict[str, Any]:
        """What is in `dataset.json`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "style": self.style.document()}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Settings from the content of `dataset.json`.

        Raises:
            KeyError: As `TypeError`.
            TypeError: The document isn't one of rendered scenes.
        """
        fields = dict(document)
        if "style" in fields:
            style = SceneStyle.from_document(fields.pop("style"))
        else:  # before there were styles
            fov = fields.pop("fov_degrees")
            style = replace(PLAIN, fov_degrees=(fov, fov))
        return cls(**fields, style=style)

    @property
    def images(self) -> int:
        """Number of images."""
        return self.scenes * self.views

    def arrays(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Shape and type of each array file."""
        n, size = self.images, self.size
        return {
            "rgb.npy": ((n, size, size, 3), np.uint8),
            "depth.npy": ((n, size, size), np.float32),
            "intrinsics.npy": ((n, 3, 3), np.float64),
            "camera_to_world.npy": ((n, 4, 4), np.float64),
        }


@dataclass(frozen=True, slots=True, eq=False)
class CachedScenes:
    """A finished folder of rendered scenes, mapped into memory read-only.

    Attributes:
        rgb: uint8 (N, H, W, 3).
        depth: float32 (N, H, W), z-depth in metres, everywhere valid.
        intrinsics: float64 (N, 3, 3).
        camera_to_world: float64 (N, 4, 4).
        captions: N strings.
        settings: What decided the content.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    camera_to_world: NDArray[np.float64]
    captions: tuple[str, ...]
    settings: CacheSettings

    @classmethod
    def open(cls, folder: str | Path) -> CachedScenes:
        """Open what `render_dataset` wrote.

        Raises:
            MfsynthError: The folder holds no rendered scenes, or rendering hasn't finished.
        """
        root = Path(folder)
        settings = _read_settings(root)
        if settings is None:
            raise MfsynthError(
                f"{root} holds no rendered scenes; make some with pipelines/render_tabletop.py"
            )
        try:
            captions = strict_json((root / "captions.json").read_bytes())
        except FileNotFoundError:
            raise MfsynthError(
                f"{root} isn't rendered to the end; run pipelines/render_tabletop.py again with "
                "the same settings to resume it"
            ) from None
        except ValueError:
            captions = None
        views = settings.scenes * settings.views
        if not _are_texts(captions, views):
            raise MfsynthError(
                f"{root / 'captions.json'}: not the captions of {views} images; remove it, and run "
                "pipelines/render_tabletop.py again with the same settings"
            )
        maps = {name: _open_map(root, settings, name, mode="r") for name in settings.arrays()}
        return cls(
            rgb=maps["rgb.npy"],
            depth=maps["depth.npy"],
            intrinsics=maps["intrinsics.npy"],
            camera_to_world=maps["camera_to_world.npy"],
            captions=tuple(captions),
            settings=settings,
        )

    def __len__(self) -> int:
        return len(self.captions)


def render_dataset(
    out_dir: str | Path,
    scenes: int,
    views: int,
    size: int,
    seed: int,
    workers: int = 1,
    *,
    library: str = "tabletop",
    style: SceneStyle = PLAIN,
    progress: Callable[[int, int], None] | None = None,
) -> CachedScenes:
    """Render scenes into a folder with several processes; resume what is there.

    The result doesn't depend on the number of processes or on interruptions.

    Args:
        out_dir: The folder; new, empty, or begun with the same settings.
        scenes: How many; scene i shows prompt i of the library.
        views: Images of each.
        size: Rows and columns.
        seed: Of prompts and scenes.
        workers: Processes.
        library: Name or path of a prompt library of tabletop scenes.
        style: Within which limits scenes and cameras vary.
        progress: Called with scenes done and scenes in total.

    Raises:
        MfsynthError: The folder holds something else, can't be written, or OpenGL is missing.
    """
    for name, value in {"scenes": scenes, "views": views, "size": size, "workers": workers}.items():
        if value < 1:
            raise MfsynthError(f"{name} is {value}; give a number from 1")
    root = Path(out_dir)
    digest = load_library(library, seed).digest
    settings = CacheSettings(library, digest, seed, scenes, views, size, style)
    try:
        _begin(root, settings)
        _render_missing(root, settings, workers, progress or (lambda done, total: None))
        _finish(root, settings)
    except BrokenProcessPool as error:
        raise MfsynthError(
            f"processes that rendered into {root} were killed {_MAX_DEATHS} times in a row, "
            "perhaps for want of memory; run again to resume, with fewer workers"
        ) from error
    except OSError as error:
        raise MfsynthError(
            f"cannot write rendered scenes to {root}: {error.strerror or error}; "
            "free some space or choose another folder, then run again to resume"
        ) from error
    return CachedScenes.open(root)


def _begin(root: Path, settings: CacheSettings) -> None:
    found = _read_settings(root)
    if found is None:
        ours = {*settings.arrays(), "finished"}
        names = {path.name for path in root.iterdir()} if root.exists() else set()
        others = {n for n in names - ours if not (n.endswith(PART_SUFFIX) or is_system_entry(n))}
        if others:
            raise MfsynthError(f"{root} isn't empty and holds no rendered scenes; choose another")
        (root / "finished").mkdir(parents=True, exist_ok=True)
        for name, (shape, dtype) in settings.arrays().items():
            array = np.lib.format.open_memmap(root / name, mode="w+", dtype=dtype, shape=shape)
            del array
            _reserve(root / name)
            atomic.flush(root / name)
        atomic.flush(root)
        # Last: only a folder with a description is one that has begun.
        atomic.replace(root / "dataset.json", _json(settings.document()))
        return
    there, wanted = _flat(found.document()), _flat(settings.document())
    other = [
        f"{key} {there.get(key)!r} -> {wanted.get(key)!r}"
        for key in {**wanted, **there}
        if there.get(key) != wanted.get(key)
    ]
    if other:
        more = len(other) - _SHOWN_DIFFERENCES
        other[_SHOWN_DIFFERENCES:] = [f"{more} more"] if more > 0 else []
        raise MfsynthError(
            f"{root} was rendered with other settings ({', '.join(other)}); "
            "use the same ones or another folder"
        )


def _flat(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """A nested document's values by their dotted names."""
    values: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            values |= _flat(value, f"{above}{key}.")
        else:
            values[above + key] = value
    return values


def _reserve(path: Path) -> None:
    """Claim a file's blocks, because a mapped write to a full disk kills the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _render_missing(
    root: Path, settings: CacheSettings, workers: int, progress: Callable[[int, int], None]
) -> None:
    deaths = 0
    while missing := _missing(root, settings):
        done = settings.scenes - sum(len(_scenes_of(settings, chunk)) for chunk in missing)
        progress(done, settings.scenes)
        try:
            for chunk in _rendered(root, settings, missing, workers):
                deaths = 0
                done += len(_scenes_of(settings, chunk))
                progress(done, settings.scenes)
        except BrokenProcessPool:
            # A driver that corrupts memory once in thousands of scenes must not end the rest.
            deaths += 1
            if deaths == _MAX_DEATHS:
                raise


def _missing(root: Path, settings: CacheSettings) -> list[int]:
    chunks = range(-(-settings.scenes // _CHUNK_SCENES))
    return [chunk for chunk in chunks if not _marker(root, chunk).exists()]


def _rendered(
    root: Path, settings: CacheSettings, chunks: list[int], workers: int
) -> Iterator[int]:
    """Render chunks, and yield each when it is on disk."""
    if workers == 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield _render_chunk(root, settings, chunk, _scenes_of(settings, chunk))
        return
    # An OpenGL context doesn't survive a fork.
    context = multiprocessing.get_context("spawn")
    waiting = iter(chunks)
    with ProcessPoolExecutor(
        min(workers, len(chunks)), mp_context=context, initializer=end_with_parent
    ) as pool:

        def submit(count: int) -> set[Future[int]]:
            return {
                pool.submit(_render_chunk, root, settings, chunk, _scenes_of(settings, chunk))
                for chunk in islice(waiting, count)
            }

        running = submit(2 * workers)
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            running |= submit(len(finished))
            for future in finished:
                yield future.result()


def _render_chunk(root: Path, settings: CacheSettings, chunk: int, indices: range) -> int:
    library = load_library(settings.library, settings.seed)
    maps = {name: _open_map(root, settings, name, mode="r+") for name in settings.arrays()}
    for index, scene in number_scenes(library, settings.seed, indices, settings.style):
        for image in render_scene(scene, settings.views, settings.size, settings.size):
            row = index * settings.views + image.view_index
            maps["rgb.npy"][row] = image.rgb
            maps["depth.npy"][row] = image.depth
            maps["intrinsics.npy"][row] = image.intrinsics.matrix()
            maps["camera_to_world.npy"][row] = image.pose.camera_to_world()
    for array in maps.values():
        array.flush()
    # Last: a marker that outlives a power cut stands for images that did.
    atomic.replace(_marker(root, chunk), b"")
    return chunk


def _finish(root: Path, settings: CacheSettings) -> None:
    library = load_library(settings.library, settings.seed)
    captions = [
        library.prompt(i).text for i in range(settings.scenes) for _ in range(settings.views)
    ]
    atomic.replace(root / "captions.json", _json(captions))


def _scenes_of(settings: CacheSettings, chunk: int) -> range:
    first = chunk * _CHUNK_SCENES
    return range(first, min(first + _CHUNK_SCENES, settings.scenes))


def _marker(root: Path, chunk: int) -> Path:
    return root / "finished" / f"{chunk:06d}"


def _read_settings(root: Path) -> CacheSettings | None:
    path = root / "dataset.json"
    try:
        return CacheSettings.from_document(strict_json(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise MfsynthError(
            f"{path} doesn't describe rendered scenes ({error}); render into another folder"
        ) from None


def _are_texts(value: object, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(text, str) for text in value)
    )


def _open_map(root: Path, settings: CacheSettings, name: str, mode: Literal["r", "r+"]) -> Any:
    path = root / name
    shape, dtype = settings.arrays()[name]
    try:
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MfsynthError(f"{path} can't be read ({error}); render into another folder") from None
    if array.shape != shape or array.dtype != dtype:
        raise MfsynthError(
            f"{path} is {array.dtype} {array.shape}, must be {np.dtype(dtype)} {shape}; "
            "render into another folder"
        )
    return array


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()
