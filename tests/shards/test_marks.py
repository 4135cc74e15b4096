"""The marks in the files, as a reader finds them that knows nothing of us."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
import tiny_run
from PIL import Image

from mfsynth.shards import codecs
from mfsynth.shards.marks import mark_jpeg, mark_png
from mfsynth.shards.records import DIGITAL_SOURCE_TYPE
from mfsynth.shards.writer import encode_sample

ATTRIBUTE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def source_type(data: bytes) -> str:
    """What Pillow and an XML parser find."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    text = packet.decode() if isinstance(packet, bytes) else packet
    # The packet's own processing instructions stand outside of the XML document.
    (document,) = re.findall(r"<x:xmpmeta.*</x:xmpmeta>", text, re.DOTALL)
    (found,) = [
        element.attrib[ATTRIBUTE]
        for element in ElementTree.fromstring(document).iter()
        if ATTRIBUTE in element.attrib
    ]
    return found


def test_image_and_depth_of_a_sample_say_that_a_model_made_them():
    encoded = encode_sample(tiny_run.make_sample(3))
    assert DIGITAL_SOURCE_TYPE.endswith("/trainedAlgorithmicMedia")
    assert source_type(encoded.rgb) == DIGITAL_SOURCE_TYPE
    assert source_type(encoded.depth) == DIGITAL_SOURCE_TYPE


def test_marks_leave_the_pixels_as_they_are_and_cost_some_hundred_bytes():
    sample = tiny_run.make_sample(3)
    jpeg, (png, _) = codecs.encode_jpeg(sample.rgb), codecs.encode_depth(sample.depth)
    marked_jpeg, marked_png = mark_jpeg(jpeg, "a:b"), mark_png(png, "a:b")
    assert np.array_equal(codecs.decode_jpeg(marked_jpeg), codecs.decode_jpeg(jpeg))
    assert np.array_equal(codecs.decode_codes(marked_png), codecs.decode_codes(png))
    with Image.open(io.BytesIO(marked_png)) as image:
        assert np.array_equal(np.asarray(image), codecs.decode_codes(png))
    assert max(len(marked_jpeg) - len(jpeg), len(marked_png) - len(png)) < 500


def test_the_jfif_header_stays_the_first_segment():
    jpeg = codecs.encode_jpeg(tiny_run.make_sample(3).rgb)
    assert jpeg[2:4] == b"\xff\xe0"
    marked = mark_jpeg(jpeg, "a:b")
    assert marked[:20] == jpeg[:20]
    assert marked[20:22] == b"\xff\xe1"
    with Image.open(io.BytesIO(marked)) as image:
        assert image.info["jfif_version"] == (1, 1)


def test_a_jpeg_without_a_jfif_header_is_marked():
    jpeg = codecs.encode_jpeg(tiny_run.make_sample(3).rgb)
    bare = jpeg[:2] + jpeg[20:]
    assert source_type(mark_jpeg(bare, "a:b")) == "a:b"
    assert cv2.imdecode(np.frombuffer(mark_jpeg(bare, "a:b"), np.uint8), 1) is not None


@pytest.mark.parametrize("mark", [mark_jpeg, mark_png])
def test_what_is_of_another_kind_is_refused(mark):
    with pytest.raises(ValueError, match="not a"):
        mark(b"GIF89a", "a:b")
