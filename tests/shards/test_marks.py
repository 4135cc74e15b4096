"""The marks in the files, as a reader finds them that knows nothing of us."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tiny_run
from PIL import Image

from mfsynth.shards import codecs, marks, writer
from mfsynth.shards.commits import commit
from mfsynth.shards.marks import mark_jpeg, mark_png
from mfsynth.shards.records import COMPOSITE_SOURCE_TYPE, DIGITAL_SOURCE_TYPE
from mfsynth.shards.run_manifest import open_run
from mfsynth.shards.verify import verify_run
from mfsynth.shards.writer import encode_sample

ATTRIBUTE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
CAPTURED = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
MARKS = {b"\xff\xd8": "mark_jpeg", b"\x89P": "mark_png"}


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


@pytest.mark.parametrize(
    ("mode", "image", "depth"),
    [
        ("joint", DIGITAL_SOURCE_TYPE, DIGITAL_SOURCE_TYPE),
        ("i2d", CAPTURED, DIGITAL_SOURCE_TYPE),
        ("d2i", COMPOSITE_SOURCE_TYPE, COMPOSITE_SOURCE_TYPE),
    ],
)
def test_depth_has_the_mark_of_how_it_came_to_be_itself(mode, image, depth):
    sample = replace(tiny_run.make_sample(3), mode=mode, digital_source_type=image)
    encoded = encode_sample(sample)
    assert (source_type(encoded.rgb), source_type(encoded.depth)) == (image, depth)


def test_a_photograph_that_says_nothing_has_depth_that_does():
    sample = replace(tiny_run.make_sample(3), mode="i2d", digital_source_type="")
    encoded = encode_sample(sample)
    assert marks.source_type(encoded.rgb) is None
    assert source_type(encoded.depth) == DIGITAL_SOURCE_TYPE


@pytest.mark.parametrize(("mark", "suffix"), [("mark_jpeg", "rgb.jpg"), ("mark_png", "depth.png")])
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda picture, kind: picture, "its mark is missing, not http"),
        (lambda picture, kind: getattr(marks, MARKS[picture[:2]])(picture, CAPTURED), CAPTURED),
    ],
)
def test_verify_finds_pictures_whose_mark_is_not_that_of_their_row(
    store, monkeypatch, mark, suffix, wrong, told
):
    """By a writer that hashes, indexes and describes what it has marked wrongly."""
    monkeypatch.setattr(writer, mark, wrong)
    tiny_run.make_run(store.url, shards=1)
    monkeypatch.undo()
    problems = verify_run(store).problems
    assert len(problems) == 4
    for number, problem in enumerate(problems):
        assert f"{tiny_run.RUN_ID}-{number:09d}.{suffix}: " in problem
        assert told in problem


def test_runs_whose_given_depth_was_marked_as_a_models_are_sound(store, monkeypatch):
    monkeypatch.setattr(writer, "depth_source_type", lambda mode, image: DIGITAL_SOURCE_TYPE)
    made = [
        replace(tiny_run.make_sample(i), mode="d2i", digital_source_type=COMPOSITE_SOURCE_TYPE)
        for i in range(tiny_run.SHARD_SIZE)
    ]
    open_run(store, tiny_run.make_manifest())
    commit(store, tiny_run.upload_shard(store, 0, made))
    assert verify_run(store).problems == ()
