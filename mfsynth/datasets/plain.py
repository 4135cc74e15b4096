"""A sample as readers of plain WebDataset hand it over, decoded without loss.

import webdataset

from mfsynth.datasets.plain import decode_pair

pairs = webdataset.WebDataset(tars, shardshuffle=False).map(decode_pair)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import DepthKind
from mfsynth.geometry.rgbd import DepthMap, RgbImage
from mfsynth.shards import codecs, layout
from mfsynth.shards.quantisation import DepthEncoding, DepthScale


@dataclass(frozen=True, slots=True, eq=False)
class PlainPair:
    """What a sample's members say.

    Attributes:
        sample_id: Its key.
        rgb: uint8 (H, W, 3).
        depth: float32 (H, W), z-depth in units of `depth_kind`, 0 = invalid.
        depth_kind: What a unit is; metres only for the metric kinds.
        intrinsics: float64 (3, 3) pinhole matrix in pixels, whose centres are integers; NaN where
            nobody knows it.
        prompt: Text that the pair was asked for with.
    """

    sample_id: str
    rgb: RgbImage
    depth: DepthMap
    depth_kind: DepthKind
    intrinsics: NDArray[np.float64]
    prompt: str


def decode_pair(members: Mapping[str, Any]) -> PlainPair:
    """The pair of a sample.

    Args:
        members: Their bytes by suffix: `rgb.jpg`, `depth.png`, `json`.

    Raises:
        ValueError: One is damaged, or not what `json` says.
        KeyError: One is missing.
    """
    rgb, depth, description = (
        members[layout.MEMBERS[name].suffix] for name in ("rgb", "depth", "json")
    )
    about = json.loads(description)
    shape = (int(about["height"]), int(about["width"]))
    stored = about["depth"]
    encoding = DepthEncoding(
        DepthScale(stored["encoding"]),
        stored["unit_per_code"],
        stored["near"],
        stored["far"],
    )
    camera = about["intrinsics"] or dict.fromkeys(("fx", "fy", "cx", "cy"), np.nan)
    fx, fy, cx, cy = (camera[name] for name in ("fx", "fy", "cx", "cy"))
    return PlainPair(
        sample_id=about["sample_id"],
        rgb=codecs.decode_jpeg(rgb, shape),
        depth=codecs.decode_depth(depth, encoding, shape),
        depth_kind=DepthKind(stored["kind"]),
        intrinsics=np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64),
        prompt=about["prompt"],
    )
