"""PNGs of depth, inflated before OpenCV sees them.

Most of the time in which a pair is decoded goes by in zlib's inflate, which OpenCV's PNG reader
calls. ISA-L's takes half of that; what OpenCV gets is a PNG of the same rows, not compressed.
"""

from __future__ import annotations

import struct

from isal import isal_zlib

Bytes = bytes | memoryview

_HEADER = 33
"""Bytes of signature and IHDR."""
_PLAIN = bytes([16, 0, 0, 0, 0])
"""The end of IHDR: 16 bits, grey, Deflate, adaptive filters, not interlaced."""
_IDAT, _IEND = b"IDAT", b"\0\0\0\0IEND\xaeB`\x82"
# Beside pixels, what our PNGs have: the mark.
_WITHOUT_MEANING = (b"iTXt",)
_STORED = 0xFFFF
"""Most bytes of a block of Deflate that is not compressed."""


def inflated(png: Bytes) -> Bytes:
    """The same picture, its rows not compressed; the file as it is if it isn't a whole one of ours.

    Args:
        png: A PNG, or any other bytes.
    """
    width, height = (int.from_bytes(png[at : at + 4]) for at in (16, 20))
    if png[24:29] != _PLAIN or (packed := _packed(png)) is None:
        return png
    size = height * (1 + 2 * width)
    unpacking = isal_zlib.decompressobj()
    try:
        rows = unpacking.decompress(packed, size + 1)
    except isal_zlib.error:  # type: ignore[misc] # its stub has an instance in the class's place
        return png
    if len(rows) != size or not unpacking.eof:
        return png
    return _png(png[:_HEADER], rows)


def _packed(png: Bytes) -> bytes | None:
    """What its IDAT chunks have; None of a PNG that is damaged or has other chunks."""
    pieces = []
    at = _HEADER
    while (kind := png[at + 4 : at + 8]) != b"IEND":
        end = at + 8 + int.from_bytes(png[at : at + 4])
        checksum = isal_zlib.crc32(png[at + 4 : end])
        if png[end : end + 4] != checksum.to_bytes(4):
            return None
        if kind == _IDAT:
            pieces.append(png[at + 8 : end])
        elif kind not in _WITHOUT_MEANING:
            return None
        at = end + 4
    return b"".join(pieces) if png[at:] == _IEND else None


def _png(header: Bytes, rows: bytes) -> bytes:
    pieces: list[Bytes] = [_IDAT, b"\x78\x01"]
    whole = memoryview(rows)
    for start in range(0, len(rows), _STORED):
        block = whole[start : start + _STORED]
        is_last = start + _STORED >= len(rows)
        pieces += [struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF), block]
    pieces.append(isal_zlib.adler32(rows).to_bytes(4))
    chunk = b"".join(pieces)
    size, checksum = len(chunk) - len(_IDAT), isal_zlib.crc32(chunk)
    return b"".join([header, size.to_bytes(4), chunk, checksum.to_bytes(4), _IEND])
