"""Depth of mfsynth's own shards where they are read as anybody's: `KEY.json` says how it is stored.

Its codes are spread over each map's own range, often in logarithms. Read as if a code were a fixed
part of a metre, they give depth that looks right and is .0006 to 2.2 times the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mfsynth.config.documents import strict_json
from mfsynth.errors import MfsynthError
from mfsynth.geometry import DepthKind, Intrinsics
from mfsynth.geometry.rgbd import DepthMap
from mfsynth.shards.quantisation import MAX_CODE, DepthEncoding, DepthScale, dequantise_depth
from mfsynth.sources.base import CodeFacts, DepthFacts, unit_of
from mfsynth.sources.containers import read_codes
from mfsynth.sources.depth_codes import facts_of
from mfsynth.sources.encoding import Encoding

# Members of mfsynth's samples: no other data set is known to name them so.
IMAGE, DEPTH, DESCRIPTION = ".rgb.jpg", ".depth.png", ".json"


@dataclass(frozen=True, slots=True)
class OwnDepth:
    """What a `KEY.json` says of a sample.

    Attributes:
        encoding: Of its depth map.
        kind: What a unit of it is.
        camera: Of it.
        camera_from: Where the camera comes from.
    """

    encoding: DepthEncoding
    kind: DepthKind
    camera: Intrinsics | None
    camera_from: str

    def decode(self, png: bytes, name: str) -> tuple[DepthMap, DepthFacts]:
        """Depth float32 (H, W), 0 = invalid.

        Raises:
            MfsynthError: It is no 16-bit PNG.
        """
        codes = read_codes(png, name, Encoding(container="png"), "restore it")
        unit = unit_of(self.kind)
        return dequantise_depth(codes, self.encoding), DepthFacts(unit, facts_of(codes))


def own_depth(description: bytes, name: str) -> OwnDepth | None:
    """What a sample's JSON says of its depth, if it is one of mfsynth's.

    Raises:
        MfsynthError: It is, and has something wrong or depth with an unknown shift.
    """
    try:
        about = strict_json(description)
    except ValueError:
        # Anybody's, and of no use here.
        return None
    depth = about.get("depth") if isinstance(about, Mapping) else None
    if not isinstance(depth, Mapping) or not {"encoding", "unit_per_code"} <= depth.keys():
        return None
    try:
        encoding = DepthEncoding(
            DepthScale(depth["encoding"]), *(depth[k] for k in ("unit_per_code", "near", "far"))
        )
        kind = DepthKind(depth["kind"])
        given = about.get("intrinsics")
        names = ("fx", "fy", "cx", "cy")
        camera = None if given is None else Intrinsics(*(given[name] for name in names))
    except (KeyError, TypeError, ValueError) as error:
        raise MfsynthError(
            f"{name}: not what mfsynth writes of a sample ({error}); restore it"
        ) from error
    if kind is DepthKind.AFFINE_INVARIANT_Z:
        raise MfsynthError(
            f"{name}: depth of the kind {kind} has an unknown shift; use data of another kind"
        )
    return OwnDepth(encoding, kind, camera, str(about.get("intrinsics_source") or ""))


def require_foreign(encoding: Encoding, codes: CodeFacts) -> None:
    """Refuse a depth map named as mfsynth's own, if it seems to be one and nothing describes it.

    Args:
        encoding: By which it was read.
        codes: Its own: in mfsynth's maps the farthest depth has the highest code.

    Raises:
        ValueError: It seems to be one.
    """
    invalid = encoding.invalid or ()
    if codes.highest == MAX_CODE and "max" not in invalid and MAX_CODE not in invalid:
        raise ValueError(
            "seems to be one of mfsynth's own, whose encoding is in a .json beside it, which is "
            "missing; restore it, or name 65535 in encoding.invalid if it is another program's"
        )
