"""Which image of a folder has which depth map, in the layouts that published data sets have.

Every function gives pairs of names: the image's, relative to the folder, and the depth map's,
relative to the folder of depth maps, or None where the image has none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from mfsynth.config.documents import decode_utf8
from mfsynth.errors import MfsynthError
from mfsynth.sources.timing import paired
from mfsynth.sources.trees import WILDCARD, Tree, is_hidden, regex_of

Pairs = list[tuple[str, str | None]]

_ALTERNATIVES = re.compile(r"\{([^{}]*)\}")
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# Folders that only one of KITTI's two trees has; without them, paths of a pair are the same.
_KITTI_ONLY = re.compile(
    r"\d{4}_\d\d_\d\d|data|train|val|proj_depth|groundtruth|velodyne_raw", re.ASCII
)


def pair_by_time(tree: Tree, max_seconds: float) -> Pairs:
    """TUM: the lists rgb.txt and depth.txt of times and paths.

    The closest two are paired first, and each once, as TUM's own tool does.
    """
    images, depths = _read_times(tree, "rgb.txt"), _read_times(tree, "depth.txt")
    depth_of = paired([time for time, _ in images], [time for time, _ in depths], max_seconds)
    return [
        (path, depths[depth_of[i]][1] if i in depth_of else None)
        for i, (_, path) in enumerate(images)
    ]


def pair_by_wildcards(tree: Tree, images: str, depths: str | None) -> Pairs:
    """Images that match a pattern; depth maps by the same wildcards with other words about them.

    `{jpg,png}` stands for either, an extension for itself in capitals, too. Hidden files are none.

    Raises:
        MfsynthError: The two patterns have other wildcards, or the same image has two depth maps.
    """
    wildcards = WILDCARD.findall(_ALTERNATIVES.sub("", images))
    if depths is not None and WILDCARD.findall(_ALTERNATIVES.sub("", depths)) != wildcards:
        raise MfsynthError(
            f"depths {depths!r} must have the wildcards of images {images!r} in their order: "
            f"{' '.join(wildcards) or 'none'}"
        )
    depth_patterns = [] if depths is None else _expanded(depths)
    found: dict[str, str | None] = {}
    for image in _expanded(images):
        pattern = re.compile(regex_of(image))
        for name in tree.glob(image):
            match = pattern.fullmatch(name)
            if match is None or is_hidden(name, image):
                continue
            places = [_filled(depth, match.groups()) for depth in depth_patterns]
            maps = dict.fromkeys(real for place in places if (real := tree.find(place)))
            if len(maps) > 1:
                raise MfsynthError(
                    f"{' and '.join(map(tree.told, maps))} are depth of the same image; set depths "
                    "to one"
                )
            found[name] = next(iter(maps), None)
    return sorted(found.items(), key=lambda pair: pair[0].split("/"))


def _expanded(pattern: str) -> list[str]:
    """The patterns that alternatives in braces make."""
    match = _ALTERNATIVES.search(pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [one for word in match[1].split(",") for one in _expanded(before + word + after)]


def pair_trees(tree: Tree, depth_tree: Tree) -> Pairs:
    """KITTI: two trees; a pair has the same drive, camera and number.

    Raises:
        MfsynthError: Two depth maps belong to one image.
    """
    depths: dict[tuple[str, ...], str] = {}
    for name in _files(depth_tree, (".png",)):
        other = depths.setdefault(_kitti_key(name), name)
        if other != name:
            raise MfsynthError(
                f"{depth_tree.told(other)} and {depth_tree.told(name)} are depth of the same "
                "image; name a folder below in depth_path"
            )
    return [(name, depths.get(_kitti_key(name))) for name in _files(tree, _IMAGE_SUFFIXES)]


def _files(tree: Tree, suffixes: tuple[str, ...]) -> list[str]:
    found = (name for name in tree.glob("**/*") if name.lower().endswith(suffixes))
    return sorted((name for name in found if not is_hidden(name)), key=lambda name: name.split("/"))


def _kitti_key(name: str) -> tuple[str, ...]:
    *folders, file = name.split("/")
    kept = (folder for folder in folders if not _KITTI_ONLY.fullmatch(folder))
    return (*kept, file.rpartition(".")[0])


def _filled(pattern: str, values: Iterable[str]) -> str:
    remaining = iter(values)
    return WILDCARD.sub(lambda _: next(remaining), pattern)


def _read_times(tree: Tree, list_name: str) -> list[tuple[float, str]]:
    path = tree.told(list_name)
    text = tree.read(list_name, "a TUM sequence has rgb.txt and depth.txt")
    rows: dict[str, float] = {}
    for number, line in enumerate(decode_utf8(text, path, "list of times").splitlines(), 1):
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
