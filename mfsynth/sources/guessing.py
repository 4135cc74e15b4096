"""What kind of source a path is, by what lies there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfsynth.errors import MfsynthError

_REMEDY = (
    "say what it is by --set layout=NAME (tum, scannet, kitti, bop, …), or --set layout=generic "
    "--set images='*.jpg' --set depths='*.png', and --set encoding.scale=METRES_A_CODE"
)


def guess_source(place: str) -> dict[str, Any]:
    """Settings of a source, as far as its path says them.

    Args:
        place: A path, or a URL of a run or of tar files.

    Raises:
        MfsynthError: There is nothing.
    """
    if ".tar" in place:
        return {"kind": "webdataset", "shards": place}
    if "://" in place:
        return {"kind": "mfsynth", "url": place}
    folder = Path(place)
    if not folder.is_dir():
        raise MfsynthError(f"{place}: no such folder; give a folder, tar files or a configuration")
    if (folder / "run.json").is_file():
        return {"kind": "mfsynth", "url": place}
    if (folder / "dataset.json").is_file():
        return {"kind": "cached_scenes", "path": place}
    if (folder / "rgb.txt").is_file() and (folder / "depth.txt").is_file():
        return {"kind": "folder", "layout": "tum", "path": place}
    return {"kind": "folder", "path": place}


def require_layout(values: Mapping[Any, Any], place: str) -> None:
    """Refuse a folder of which nobody said how it is laid out.

    Raises:
        MfsynthError: It has no layout.
    """
    if values.get("kind") == "folder" and "layout" not in values:
        raise MfsynthError(f"{place}: a folder of images; {_REMEDY}")
