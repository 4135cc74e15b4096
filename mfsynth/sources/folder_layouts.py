"""Which image of a folder has which depth map, in the layouts that published data sets have.

Every function gives pairs of paths: the image's, relative to the folder, and the depth map's, or
None where the image has none.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

from mfsynth.config.documents import decode_utf8
from mfsynth.errors import MfsynthError

Pairs = list[tuple[str, Path | None]]

_WILDCARD = re.compile(r"\*\*/|\*|\?|\[[^\]]+\]")
_ALTERNATIVES = re.compile(r"\{([^{}]*)\}")
_EXTENSION = re.compile(r"\.[A-Za-z0-9]+$")
# What operating systems leave in folders, beside what begins with a dot.
_NOT_DATA = {"__MACOSX", "Thumbs.db", "desktop.ini", "lost+found"}
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# Folders that only one of KITTI's two trees has; without them, paths of a pair are the same.
_KITTI_ONLY = re.compile(
    r"\d{4}_\d\d_\d\d|data|train|val|proj_depth|groundtruth|velodyne_raw", re.ASCII
)


def pair_by_time(root: Path, max_seconds: float) -> Pairs:
    """TUM: the lists rgb.txt and depth.txt of times and paths.

    The closest two are paired first, and each once, as TUM's own tool does.
    """
    images, depths = _read_times(root / "rgb.txt"), _read_times(root / "depth.txt")
    times = [time for time, _ in depths]
    near = sorted(
        (abs(times[j] - time), i, j)
        for i, (time, _) in enumerate(images)
        for j in range(
            bisect_left(times, time - max_seconds), bisect_right(times, time + max_seconds)
        )
    )
    depth_of: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in near:
        if i not in depth_of and j not in taken:
            depth_of[i] = j
            taken.add(j)
    return [
        (path, root / depths[depth_of[i]][1] if i in depth_of else None)
        for i, (_, path) in enumerate(images)
    ]


def pair_by_wildcards(root: Path, images: str, depths: str | None) -> Pairs:
    """Images that match a pattern; depth maps by the same wildcards with other words about them.

    `{jpg,png}` stands for either, an extension for itself in capitals, too. Hidden files are none.

    Raises:
        MfsynthError: The two patterns have other wildcards, or the same image has two depth maps.
    """
    wildcards = _WILDCARD.findall(_ALTERNATIVES.sub("", images))
    if depths is not None and _WILDCARD.findall(_ALTERNATIVES.sub("", depths)) != wildcards:
        raise MfsynthError(
            f"depths {depths!r} must have the wildcards of images {images!r} in their order: "
            f"{' '.join(wildcards) or 'none'}"
        )
    depth_patterns = [] if depths is None else _expanded(depths)
    folders = _Names()
    found: dict[str, Path | None] = {}
    for image in _expanded(images):
        pattern = re.compile(_to_regex(image))
        for path in root.glob(_in_any_case(image)):
            relative = path.relative_to(root).as_posix()
            match = pattern.fullmatch(relative)
            if match is None or is_hidden(relative, image) or not path.is_file():
                continue
            places = [root / _filled(depth, match.groups()) for depth in depth_patterns]
            maps = dict.fromkeys(real for place in places if (real := folders.find(place)))
            if len(maps) > 1:
                raise MfsynthError(
                    f"{' and '.join(map(str, maps))} are depth of the same image; set depths to one"
                )
            found[relative] = next(iter(maps), None)
    return sorted(found.items(), key=lambda pair: pair[0].split("/"))


def is_hidden(path: str, named: str = "") -> bool:
    """Whether a file is no data: `._x.jpg`, `.DS_Store` and the like, or in such a folder.

    Args:
        path: Of the file.
        named: A pattern whose own parts are meant, hidden or not.
    """
    parts = set(path.split("/")) - set(named.split("/"))
    return any(part.startswith(".") or part in _NOT_DATA for part in parts)


class _Names:
    """Names in folders, each of which is listed once, and only if a name isn't there as it is."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, path: Path) -> Path | None:
        """A file, by a name whose extension may be written in other letters."""
        if path.is_file():
            return path
        folder = path.parent
        if folder not in self._folders:
            names = sorted(folder.iterdir()) if folder.is_dir() else []
            self._folders[folder] = {_plain(name): name for name in names if name.is_file()}
        return self._folders[folder].get(_plain(path))


def _plain(path: Path) -> str:
    return path.stem + path.suffix.lower()


def _expanded(pattern: str) -> list[str]:
    """The patterns that alternatives in braces make."""
    match = _ALTERNATIVES.search(pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [one for word in match[1].split(",") for one in _expanded(before + word + after)]


def _in_any_case(pattern: str) -> str:
    """For glob: the extension at the end in capitals, too."""
    match = _EXTENSION.search(pattern)
    if match is None:
        return pattern
    either = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in match[0])
    return pattern[: match.start()] + either


def pair_trees(root: Path, depth_root: Path) -> Pairs:
    """KITTI: two trees; a pair has the same drive, camera and number.

    Raises:
        MfsynthError: Two depth maps belong to one image.
    """
    depths: dict[tuple[str, ...], Path] = {}
    for path in _files(depth_root, (".png",)):
        other = depths.setdefault(_kitti_key(path, depth_root), path)
        if other != path:
            raise MfsynthError(
                f"{other} and {path} are depth of the same image; name a folder below in depth_path"
            )
    return [
        (path.relative_to(root).as_posix(), depths.get(_kitti_key(path, root)))
        for path in _files(root, _IMAGE_SUFFIXES)
    ]


def _files(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    return (
        path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in suffixes and not is_hidden(path.relative_to(root).as_posix())
    )


def _kitti_key(path: Path, root: Path) -> tuple[str, ...]:
    folders = path.relative_to(root).parent.parts
    return (*(name for name in folders if not _KITTI_ONLY.fullmatch(name)), path.stem)


def _filled(pattern: str, values: Iterable[str]) -> str:
    remaining = iter(values)
    return _WILDCARD.sub(lambda _: next(remaining), pattern)


def _to_regex(pattern: str) -> str:
    parts, position = [], 0
    for match in _WILDCARD.finditer(pattern):
        parts.append(re.escape(pattern[position : match.start()]))
        token = match[0]
        if token.startswith("["):
            parts.append(f"({token.replace('[!', '[^', 1)})")
        else:
            parts.append({"**/": "((?:[^/]+/)*)", "*": "([^/]*)", "?": "([^/])"}[token])
        position = match.end()
    rest = pattern[position:]
    extension = _EXTENSION.search(rest)
    at = extension.start() if extension else len(rest)
    return "".join([*parts, re.escape(rest[:at]), f"(?i:{re.escape(rest[at:])})"])


def _read_times(path: Path) -> list[tuple[float, str]]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise MfsynthError(
            f"{path}: {error.strerror}; a TUM sequence has rgb.txt and depth.txt"
        ) from error
    rows: dict[str, float] = {}
    for number, line in enumerate(decode_utf8(text, str(path), "list of times").splitlines(), 1):
        words = line.split(maxsplit=1)
        if not words or words[0].startswith("#"):
            continue
        try:
            time, file = float(words[0]), words[1].strip()
        except (ValueError, IndexError):
            time, file = math.nan, ""
        if not math.isfinite(time):
            raise MfsynthError(f"{path}:{number}: not a time and a path; mend this line")
        if file in rows:
            raise MfsynthError(f"{path}:{number}: {file} is there twice; keep one of its times")
        rows[file] = time
    return sorted((time, file) for file, time in rows.items())
