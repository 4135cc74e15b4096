"""Is what `KEY.json` says of a sample what the index says, and what lies beside it?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from mfsynth.config.documents import strict_json
from mfsynth.shards.quantisation import MAX_CODE, Codes, DepthScale
from mfsynth.shards.tables import SCORE_PREFIX, SLOT_PREFIX
from mfsynth.storage.digests import sha256_of_bytes

_PLAIN = (
    *("sample_id", "candidate", "seed", "prompt", "prompt_id", "width", "height"),
    *("intrinsics_source", "mode", "model_id"),
)
_LATER = (
    *("licence", "digital_source_type", "camera", "phash"),
    *("metres_per_unit", "metres_per_unit_error"),
    *("source", "copy", "scene", "source_licence"),
    *("camera_to_world", "objects", "parted_objects", "episode", "frame", "timestamp"),
)
_CAMERA = ("fx", "fy", "cx", "cy")
_DEPTH = ("kind", "encoding", "unit_per_code", "near", "far")
_SENSOR = ("unit_per_code",)
_SHOWN = 4


def description_faults(
    description: bytes, row: Mapping[str, Any], siblings: Mapping[str, bytes], *, hashes: bool
) -> Iterator[str]:
    """What is wrong with a sample's `KEY.json`.

    Args:
        description: The file.
        row: Of the index.
        siblings: The sample's other members, as far as they are sound, by their suffixes.
        hashes: Whether it must have their hashes; those of format version 1 have none.
    """
    try:
        about = strict_json(description)
        if not isinstance(about, dict):
            raise ValueError("no object")
    except ValueError as error:
        yield f"no JSON of a sample ({' '.join(str(error).split())[:200]})"
        return
    expected = _of_row(row)
    wrong = [name for name, value in expected.items() if not _same(_at(about, name), value)]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        yield f"says other than the index of {', '.join(wrong[:_SHOWN])}{more}"
    if hashes:
        written = about.get("sha256")
        written = written if isinstance(written, dict) else {}
        for suffix, data in siblings.items():
            if written.get(suffix) != sha256_of_bytes(data):
                yield f"was written with another {suffix} (SHA-256 differs)"


def depth_fault(codes: Codes, row: Mapping[str, Any]) -> str | None:
    """What of a row doesn't fit the codes of its depth map."""
    valid = codes[codes > 0]
    if abs(valid.size / codes.size - row["valid_fraction"]) > 1e-9:
        return "its valid pixels are not those of the index"
    unit, near, far = row["depth_unit_per_code"], row["depth_near"], row["depth_far"]
    if not valid.size:
        return None if near == far == 0 else "it has no valid pixel, the index says otherwise"
    if not (math.isfinite(unit) and unit >= 0 and 0 < near <= far < math.inf):
        return "the index has no depth that it could be of"
    codes_of_ends = int(valid.min()), int(valid.max())
    if row["depth_encoding"] == DepthScale.LINEAR:
        fits = math.isclose(unit * MAX_CODE, far, rel_tol=1e-9)
        ends = (max(1, round(near / unit)), MAX_CODE) if fits else None
    else:
        fits = math.isclose(unit * (MAX_CODE - 1), math.log(far) - math.log(near), rel_tol=1e-9)
        ends = (1, MAX_CODE) if fits else None
    # A map of one depth has one code.
    if ends is None or codes_of_ends not in (ends, (MAX_CODE,) * 2, (1, 1)):
        return "its codes are not those of the encoding in the index"
    return None


def _of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their dotted places in `KEY.json`."""
    camera = any(row[name] is not None for name in _CAMERA)
    return {
        **{name: row[name] for name in _PLAIN},
        **{name: row[name] for name in _LATER if name in row},
        **(
            {f"intrinsics.{name}": row[name] for name in _CAMERA}
            if camera
            else {"intrinsics": None}
        ),
        **_estimated_camera(row),
        **{f"depth.{name}": row[f"depth_{name}"] for name in _DEPTH},
        **{f"sensor.{name}": row[f"sensor_{name}"] for name in _SENSOR if f"sensor_{name}" in row},
        **({"sensor.preset": row["sensor"]} if "sensor" in row else {}),
        **{
            f"slots.{name.removeprefix(SLOT_PREFIX)}": value
            for name, value in row.items()
            if name.startswith(SLOT_PREFIX)
        },
        **{
            f"scores.{name.removeprefix(SCORE_PREFIX)}": value
            for name, value in row.items()
            if name.startswith(SCORE_PREFIX)
        },
    }


def _estimated_camera(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: row[f"estimated_{name}"] for name in _CAMERA if f"estimated_{name}" in row}
    if found and all(value is None for value in found.values()):
        return {"estimated_intrinsics": None}
    return {f"estimated_intrinsics.{name}": value for name, value in found.items()}


def _at(about: Any, place: str) -> Any:
    for name in place.split("."):
        about = about.get(name) if isinstance(about, dict) else None
    return about


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    return bool(found == expected)
