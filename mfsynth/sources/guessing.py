"""A source by itself: what kind a path is, by what lies there, and its settings as a document."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from mfsynth.config.base import Settings
from mfsynth.errors import MfsynthError
from mfsynth.sources.registry import AnySource
from mfsynth.storage.urls import where_sought

_KINDS = {
    **dict.fromkeys(("bag", "mcap", "db3"), "recording"),
    **dict.fromkeys(("parquet", "arrow"), "table"),
    **dict.fromkeys(("mp4", "mov", "mkv", "avi", "webm", "m4v"), "video"),
}
# In the last part of a path, or before the query of a URL.
_TARS = re.compile(r"\.tar(?![\w-])[^/?]*(?:\?|$)")
# What only one kind of folder has.
_MARKS = {
    "recording": ("metadata.yaml",),
    "lerobot": ("meta/info.json",),
    "table": ("dataset_info.json", "dataset_dict.json", "*.parquet", "data/*.parquet"),
    "folder": ("*/scene_camera.json", "*/*/scene_camera.json"),
}
_REMEDY = (
    "say what it is by --set layout=NAME (tum, scannet, kitti, bop, …), or --set layout=generic "
    "--set images='*.jpg' --set depths='*.png', and --set encoding.scale=METRES_A_CODE"
)


class LoneSource(Settings):
    """The settings of a source by themselves, as a document has them.

    Attributes:
        source: Of any kind.
    """

    internal_fields: ClassVar[frozenset[str]] = frozenset({"source"})

    source: AnySource

    @model_validator(mode="before")
    @classmethod
    def _is_the_document(cls, values: Any) -> Any:
        return {"source": values}


def guess_source(place: str, given: Collection[str] = ()) -> dict[str, Any]:
    """Settings of a source, as far as its path says them.

    Args:
        place: A path, or a URL of a run, of a folder, of tar files or tables.
        given: Names of settings that are given beside it.

    Raises:
        MfsynthError: There is nothing.
    """
    if _TARS.search(place) and not Path(place).is_dir():
        return {"kind": "webdataset", "shards": place}
    # A folder may be named as a file is, or as its files' extension: `parquet`.
    kind = _KINDS.get(posixpath.splitext(place)[1][1:].lower())
    if kind is not None and not Path(place).is_dir():
        return {"kind": kind, "path": place}
    if "://" in place:
        if "layout" in given:
            return {"kind": "folder", "path": place}
        return {"kind": "mfsynth", "url": place}
    folder = Path(place)
    if not folder.is_dir():
        what = "not a file of any kind of source"
        if not folder.exists():
            what = f"no such folder{where_sought(place)}"
        raise MfsynthError(f"{place}: {what}; give a folder, tar files or a configuration")
    if (folder / "run.json").is_file():
        return {"kind": "mfsynth", "url": place}
    if (folder / "dataset.json").is_file():
        return {"kind": "cached_scenes", "path": place}
    if "layout" in given:
        return {"kind": "folder", "path": place}
    if (folder / "rgb.txt").is_file() and (folder / "depth.txt").is_file():
        return {"kind": "folder", "layout": "tum", "path": place}
    for kind, patterns in _MARKS.items():
        if any(next(folder.glob(pattern), None) is not None for pattern in patterns):
            return {"kind": kind, **({"layout": "bop"} if kind == "folder" else {}), "path": place}
    return {"kind": "folder", "path": place}


def require_layout(values: Mapping[Any, Any], place: str) -> None:
    """Refuse a folder of which nobody said how it is laid out.

    Raises:
        MfsynthError: It has no layout.
    """
    if values.get("kind") == "folder" and "layout" not in values:
        raise MfsynthError(f"{place}: a folder of images; {_REMEDY}")
