"""Marks in the files themselves: that a model made them.

Readers of a single JPEG or PNG don't see the tar or the index that it came from, so each carries an
XMP packet with the IPTC's digital source type
(https://iptc.org/std/photometadata/specification/IPTC-PhotoMetadata, "Digital Source Type").
Pixels are untouched.
"""

from __future__ import annotations

import re
import zlib

_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{digital_source_type}"/>'
    "</rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)
JPEG_START = b"\xff\xd8"
_JPEG_APP0 = b"\xff\xe0"
_JPEG_APP1 = b"\xff\xe1"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PNG_START = b"\x89PNG\r\n\x1a\n"
# Signature, then length, type, 13 bytes and checksum of IHDR, which must be the first chunk.
_PNG_HEADER_END = len(_PNG_START) + 4 + 4 + 13 + 4
# Keyword; not compressed; no language and no translated keyword.
_PNG_XMP = b"XML:com.adobe.xmp\0" + b"\0\0" + b"\0" + b"\0"

# Others write the property as an element, or the term with https.
_TERM = re.compile(rb"https?://cv\.iptc\.org/newscodes/digitalsourcetype/([A-Za-z]{1,60})")
_SEARCHED_BYTES = 2**18


def source_type(file: bytes) -> str | None:
    """The IPTC's digital source type that a picture says it is of, if its XMP is as it is written.

    Args:
        file: JPEG, PNG or another picture; its first 256 KiB are looked at.
    """
    match = _TERM.search(file[:_SEARCHED_BYTES])
    return match and f"http://cv.iptc.org/newscodes/digitalsourcetype/{match[1].decode()}"


def mark_jpeg(jpeg: bytes, digital_source_type: str) -> bytes:
    """A JPEG with the mark in an APP1 segment, behind its JFIF header if there is one.

    Args:
        jpeg: Without a mark.
        digital_source_type: URI of a term of the IPTC's vocabulary.

    Raises:
        ValueError: It is no JPEG.
    """
    if not jpeg.startswith(JPEG_START):
        raise ValueError("not a JPEG")
    at = len(JPEG_START)
    if jpeg[at : at + 2] == _JPEG_APP0:
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4])
    data = _JPEG_XMP + xmp_packet(digital_source_type)
    segment = _JPEG_APP1 + (len(data) + 2).to_bytes(2) + data
    return jpeg[:at] + segment + jpeg[at:]


def mark_png(png: bytes, digital_source_type: str) -> bytes:
    """A PNG with the mark in an iTXt chunk, behind its header.

    Args:
        png: Without a mark.
        digital_source_type: URI of a term of the IPTC's vocabulary.

    Raises:
        ValueError: It is no PNG.
    """
    if not png.startswith(_PNG_START):
        raise ValueError("not a PNG")
    data = b"iTXt" + _PNG_XMP + xmp_packet(digital_source_type)
    chunk = (len(data) - 4).to_bytes(4) + data + zlib.crc32(data).to_bytes(4)
    return png[:_PNG_HEADER_END] + chunk + png[_PNG_HEADER_END:]


def xmp_packet(digital_source_type: str) -> bytes:
    """The mark itself, for formats that have a place for XMP."""
    return _PACKET.format(digital_source_type=digital_source_type).encode()
