"""From the codes of a depth map to z-depth: pure, and every guard against silent errors is here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.geometry import Intrinsics, z_of_distances
from mfsynth.geometry.rgbd import DepthMap, Mask
from mfsynth.sources.base import CodeFacts
from mfsynth.sources.encoding import Encoding

# Of the pixels: more of the highest code there is are no depths, but what has none.
_SATURATED = 0.001
# Kinect v1's raw codes in metres (Burrus; OpenKinect's wiki, Imaging Information).
_KINECT_FACTOR, _KINECT_OFFSET = 351.3, 1092.5
_TOP_OF_16 = 2**16 - 1
_TOP_OF_24 = 2**24 - 1
# What programs write into numbers of more than 16 bits where there is no depth.
_BACKGROUNDS = (_TOP_OF_16, 65504.0, 1e10)
# Of the mean: neighbours in measured and rendered maps differ by .0005 to .009, with the bytes of
# their codes in the wrong order by .01 to .4, and 10 times as much as in the right one. Drawn maps
# of few depths may do so in the right order.
_ROUGH, _SMOOTHER, _MANY = 0.009, 6, 64
# Which rows are looked at; how many, and pairs of neighbours in each, say anything.
_EVERY, _FEW = 4, 8
_THREE_BYTES = {"rgb24": (16, 8, 0), "bgr24": (0, 8, 16)}


def decode_codes(
    codes: NDArray[Any],
    encoding: Encoding,
    camera: Intrinsics | None,
    keep: Mask | None = None,
    *,
    may_be_swapped: bool = False,
    highest: int | None = None,
) -> tuple[DepthMap, CodeFacts]:
    """z-depth of the codes of one map.

    Args:
        codes: (H, W), or (H, W, 3) bytes where the packing is of three channels.
        encoding: Of them; its numbers are numbers.
        camera: Of the map's pixels; needed for distances along rays and for disparities.
        keep: (H, W), the pixels that a mask leaves.
        may_be_swapped: Whether the two bytes of a code may be in the wrong order, for the file
            doesn't say which they have.
        highest: The highest code that there is, where that is not the highest of its kind of
            numbers: 4095 of 12 bits.

    Returns:
        float32 (H, W), 0 = invalid, in metres unless the encoding says otherwise; and facts.

    Raises:
        ValueError: They are no codes of this encoding, or are saturated; says what to set.
    """
    values, tops = _unpacked(codes, encoding, highest)
    if may_be_swapped or encoding.packing in _THREE_BYTES:
        _refuse_scrambled(codes, values, encoding)
    facts = facts_of(values)
    top = facts.highest if facts.highest in tops else tops[0]
    named = _named(values, encoding, top)
    _refuse_saturated(values, named, facts, tops)
    with np.errstate(all="ignore"):
        depth = _depth(values, encoding, camera, tops[0])
        if encoding.axis == "ray":
            depth = z_of_distances(depth, _required(camera))
        result: DepthMap = depth.astype(np.float32)
    # A comparison with NaN is false. In place, for most of the time goes into temporaries.
    valid = (result > 0) & (result < np.inf)
    valid &= ~named
    if encoding.clip is not None:
        valid &= (depth >= encoding.clip[0]) & (depth <= encoding.clip[1])
    if keep is not None:
        valid &= keep
    np.copyto(result, 0, where=~valid)
    return result, facts


def facts_of(values: NDArray[Any]) -> CodeFacts:
    """The ends of a map's codes, and how many pixels have them."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return CodeFacts(math.nan, 0.0, math.nan, 0.0)
    low, high = finite.min(), finite.max()
    shares = [float(np.count_nonzero(values == end)) / values.size for end in (low, high)]
    return CodeFacts(float(low), shares[0], float(high), shares[1])


def _unpacked(
    codes: NDArray[Any], encoding: Encoding, highest: int | None
) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Numbers (H, W), and what is the highest of their kind, the kind's own limit first."""
    packing = encoding.packing or "none"
    if packing in _THREE_BYTES:
        if codes.ndim != 3 or codes.shape[2] not in (3, 4) or codes.dtype != np.uint8:
            raise ValueError(
                f"packing {packing} is three channels of 8 bits, this is {_told(codes)}; "
                "set encoding.packing to what it is"
            )
        return _three_bytes(codes, packing), (_TOP_OF_24,)
    if codes.ndim != 2:
        raise ValueError(
            f"a depth map has rows and columns alone, this is {_told(codes)}; depth in bytes of "
            "three channels needs encoding.packing, a colour map of depth can't be used"
        )
    if packing == "none":
        return codes, _tops(codes, encoding, highest)
    if codes.dtype != np.uint16:
        raise ValueError(f"packing {packing} is of 16 bits, this is {_told(codes)}")
    if packing == "float16_bits":
        return codes.view(np.float16).astype(np.float32), (65504.0,)
    if packing == "rotate3":
        return (codes >> 3) | (codes << 13), (_TOP_OF_16,)
    return codes, (_TOP_OF_16,)


def _three_bytes(codes: NDArray[Any], packing: str) -> NDArray[np.uint32]:
    shifts = np.array(_THREE_BYTES[packing], np.uint32)
    whole: NDArray[np.uint32] = (codes[..., :3].astype(np.uint32) << shifts).sum(
        axis=-1, dtype=np.uint32
    )
    return whole


def _refuse_scrambled(codes: NDArray[Any], values: NDArray[Any], encoding: Encoding) -> None:
    """Refuse codes between neighbours of which hardly anything is alike, if another order mends it.

    Surfaces are smooth: with the bytes of a code in the wrong order, its lowest is its highest.
    """
    packing = encoding.packing
    if packing in _THREE_BYTES:
        (name,) = _THREE_BYTES.keys() - {packing}
        other, setting = _three_bytes(codes[::_EVERY], name), f"packing: {name}"
        values = values[::_EVERY]
    elif codes.dtype == np.uint16 and encoding.byte_order is None:
        other, setting = codes[::_EVERY].byteswap(), "byte_order: little"
        values = codes[::_EVERY]
    else:
        return
    rough, smooth = _roughness(values), _roughness(other)
    wrong = rough > _ROUGH and 0 < smooth < rough / _SMOOTHER
    if wrong and np.unique(values).size >= _MANY:
        raise ValueError(
            f"neighbouring codes differ by {rough:.2g} of their mean, and by {smooth:.1g} of it "
            f"with their bytes in another order; set encoding.{setting}"
        )


def _roughness(values: NDArray[Any]) -> float:
    """Mean difference of neighbours over their mean, in the median row; 0 where few have codes."""
    left, right = values[:, :-1].astype(np.float64), values[:, 1:].astype(np.float64)
    both = (left > 0) & (right > 0)
    rows = np.count_nonzero(both, axis=1) >= _FEW
    if np.count_nonzero(rows) < _FEW:
        return 0.0
    left, right, both = left[rows], right[rows], both[rows]
    means = left.sum(axis=1, where=both)
    return float(np.median(np.abs(left - right).sum(axis=1, where=both) / means))


def _tops(codes: NDArray[Any], encoding: Encoding, highest: int | None) -> tuple[float, ...]:
    if codes.dtype.kind not in "fiu":
        raise ValueError(f"a depth map has numbers, this is {_told(codes)}")
    # With near and far, a unit is what makes codes 0 to 1.
    if encoding.near is not None and encoding.scale is not None:
        return (round(1 / _number(encoding.scale)),)
    if encoding.near is not None and encoding.codes_per_unit is not None:
        return (round(_number(encoding.codes_per_unit)),)
    if codes.dtype.kind == "f":
        if encoding.near is not None:
            return (1.0,)
        return (float(np.finfo(codes.dtype).max), *_BACKGROUNDS)
    if codes.dtype.itemsize == 1 and encoding.quantity in (None, "depth"):
        raise ValueError(
            f"{_told(codes)}: 8 bits are too few for depth, this is a picture of it; use the data "
            "set's own depth maps"
        )
    top = float(highest or np.iinfo(codes.dtype).max)
    return (top,) if codes.dtype.itemsize <= 2 else (top, _TOP_OF_16)


def _named(values: NDArray[Any], encoding: Encoding, top: float) -> Mask:
    """Pixels whose codes `invalid` names."""
    invalid = encoding.invalid
    if invalid is None:
        invalid = (0.0,) if values.dtype.kind != "f" or _is_depth(encoding) else ()
    named = np.zeros(values.shape, np.bool_)
    for code in invalid:
        if code == "nan":
            named |= np.isnan(values)
        else:
            number = top if code == "max" else float(code)
            # As the file has it: -3.4e38 is no number of float32, its nearest is.
            same = values.dtype.type(number) if values.dtype.kind == "f" else number
            named |= values == same
    return named


def _is_depth(encoding: Encoding) -> bool:
    return encoding.quantity in (None, "depth")


def _refuse_saturated(
    values: NDArray[Any], named: Mask, facts: CodeFacts, tops: tuple[float, ...]
) -> None:
    if facts.highest not in tops or facts.highest_share <= _SATURATED:
        return
    if not np.any((values == facts.highest) & ~named):
        return
    raise ValueError(
        f"{100 * facts.highest_share:.3g} % of the pixels have the code {facts.highest:.8g}, as "
        "high as there is: background or out of range, not depth; add it to encoding.invalid, as "
        f"invalid: [0, {facts.highest:.8g}]"
    )


def _depth(
    values: NDArray[Any], encoding: Encoding, camera: Intrinsics | None, top: float
) -> NDArray[np.float64]:
    quantity = encoding.quantity or "depth"
    if encoding.packing == "kinect_raw":
        kinect: NDArray[np.float64] = _KINECT_FACTOR / (_KINECT_OFFSET - values.astype(np.float64))
        return kinect
    near, far = _number(encoding.near), _number(encoding.far)
    scaled = _scaled(values, encoding, top)
    if quantity == "depth":
        return scaled if encoding.near is None else near + (far - near) * scaled
    if quantity == "disparity":
        focal = _required(camera).fx
        return focal * _number(encoding.baseline) / (scaled + _number(encoding.doffs))
    if quantity == "inverse_depth":
        return 1 / scaled
    if quantity == "zbuffer":
        return near * far / (far - scaled * (far - near))
    shift = _number(encoding.shift)
    first, last = math.log(near + shift), math.log(far + shift)
    return np.exp(first + scaled * (last - first)) - shift


def _scaled(values: NDArray[Any], encoding: Encoding, top: float) -> NDArray[np.float64]:
    offset = _number(encoding.offset)
    # In one step: float32 would round what is divided, and a copy takes longer than the division.
    if encoding.codes_per_unit is not None:
        scaled = np.divide(values, _number(encoding.codes_per_unit), dtype=np.float64)
    elif encoding.scale is not None:
        scaled = np.multiply(values, _number(encoding.scale), dtype=np.float64)
    else:
        whole = 1.0 if values.dtype.kind == "f" else top
        scaled = np.divide(values, whole, dtype=np.float64)
    return scaled + offset if offset else scaled


def _number(value: object) -> float:
    """A number of an encoding whose numbers are all known; 0 where it is unset."""
    assert value is None or isinstance(value, int | float)
    return 0.0 if value is None else float(value)


def _required(camera: Intrinsics | None) -> Intrinsics:
    if camera is None:
        raise ValueError("the camera of the depth map is not known; give encoding.camera")
    return camera


def _told(codes: NDArray[Any]) -> str:
    return f"{codes.dtype} of {'x'.join(map(str, codes.shape))}"
