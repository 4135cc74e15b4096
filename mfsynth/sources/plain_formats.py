"""Depth maps in formats that are a header and numbers: PFM, PGM, Sintel's .dpt, COLMAP's, raw."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mfsynth.sources.encoding import Encoding
from mfsynth.sources.guards import require_few

_SPACE = rb"(?:\s+|#[^\n]*\n)+"
_PGM_HEADER = re.compile(rb"P5" + _SPACE + rb"(\d+)" + _SPACE + rb"(\d+)\s+(\d+)\s")
_PFM_HEADER = re.compile(rb"P([fF])\s+(\d+)\s+(\d+)\s+(-?[\d.eE+-]+)\s")
COLMAP_HEADER = re.compile(rb"(\d{1,9})&(\d{1,9})&(\d{1,9})&")
_DPT_HEADER = struct.Struct("<4sii")


def read_pgm(data: bytes, name: str) -> NDArray[Any]:
    """A binary PGM of 8 or 16 bits.

    Raises:
        ValueError: It is none, or truncated, or longer than its header says.
        MfsynthError: It has too many pixels.
    """
    header = _PGM_HEADER.match(data)
    if header is None:
        raise ValueError("no header")
    width, height, top = map(int, header.groups())
    dtype = np.dtype(">u2") if top > 255 else np.dtype("u1")
    return _numbers(data, dtype, (height, width), header.end(), name)


def highest_of_pgm(data: bytes) -> int | None:
    """The highest code of a PGM of so many bits; None of others, and where that is not all ones.

    Some programs write the highest code of each image there.
    """
    header = _PGM_HEADER.match(data)
    top = 0 if header is None else int(header[3])
    return top if top & (top + 1) == 0 and top else None


def read_pfm(data: bytes, name: str) -> NDArray[Any]:
    """A PFM of one channel, its rows as they are stored; a scale beside the sign is not applied.

    netpbm.sourceforge.net/doc/pfm.html: negative scales are of little-endian numbers.

    Raises:
        ValueError: It is none, has three channels or says no byte order; or is truncated, or
            longer than its header says.
        MfsynthError: It has too many pixels.
    """
    header = _PFM_HEADER.match(data)
    if header is None:
        raise ValueError("no header")
    if header[1] == b"F":
        raise ValueError("of three channels; depth has one")
    width, height = int(header[2]), int(header[3])
    scale = float(header[4])
    if scale == 0:
        raise ValueError("its scale is 0, which says no byte order")
    return _numbers(
        data, np.dtype("<f4" if scale < 0 else ">f4"), (height, width), header.end(), name
    )


def read_dpt(data: bytes, name: str) -> NDArray[Any]:
    """MPI Sintel's .dpt: the tag 202021.25, width, height and float32, little-endian.

    Raises:
        struct.error: It is shorter than a header.
        ValueError: It has no pixels, is truncated, or longer than its header says.
        MfsynthError: It has too many pixels.
    """
    _, width, height = _DPT_HEADER.unpack_from(data)
    if width < 1 or height < 1:
        raise ValueError(f"{width}x{height} pixels")
    return _numbers(data, np.dtype("<f4"), (height, width), _DPT_HEADER.size, name)


def read_colmap(data: bytes, name: str) -> NDArray[Any]:
    """COLMAP's dense maps: `W&H&C&` and float32, little-endian, row by row.

    github.com/colmap/colmap: src/colmap/mvs/mat.h.

    Raises:
        ValueError: It is none, or of more channels; or is truncated, or longer than its header
            says.
        MfsynthError: It has too many pixels.
    """
    header = COLMAP_HEADER.match(data)
    if header is None:
        raise ValueError("no header")
    width, height, channels = map(int, header.groups())
    if channels != 1:
        raise ValueError(f"of {channels} channels, as its maps of normals; depth has one")
    return _numbers(data, np.dtype("<f4"), (height, width), header.end(), name)


def read_raw(data: bytes, name: str, encoding: Encoding) -> NDArray[Any]:
    """Numbers alone, of a size and kind that the settings say.

    Raises:
        ValueError: They are fewer or more.
        MfsynthError: They are of too many pixels.
    """
    assert encoding.dtype is not None
    assert encoding.size is not None
    dtype = np.dtype(encoding.dtype).newbyteorder("<" if encoding.byte_order != "big" else ">")
    width, height = encoding.size
    return _numbers(data, dtype, (height, width), 0, name)


def _numbers(
    data: bytes, dtype: np.dtype[Any], shape: tuple[int, int], start: int, name: str
) -> NDArray[Any]:
    require_few(shape, name)
    wanted = shape[0] * shape[1] * dtype.itemsize
    there = len(data) - start
    if there != wanted:
        kind = "truncated" if there < wanted else "longer"
        raise ValueError(
            f"{kind}: {there} bytes of numbers for {shape[1]}x{shape[0]} pixels of {wanted} bytes"
        )
    values = np.frombuffer(data, dtype, shape[0] * shape[1], start)
    return values.reshape(shape).astype(dtype.newbyteorder("="))
