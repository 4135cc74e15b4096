"""Small files that would unfold to gigabytes are refused before they do, and the limit is named."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from training_files import image, jpeg, one_line_error

from mfsynth.config import PromptsConfig
from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.prompts import open_prompts
from mfsynth.sources.decoding import decode_depth, decode_rgb, read_file
from mfsynth.sources.encoding import Encoding
from mfsynth.sources.tars import TarFile, find_tars


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)


def png_bomb(side: int, bits: int, colour: int) -> bytes:
    """Says that it is of side x side pixels; what it holds doesn't matter before it is decoded."""
    header = side.to_bytes(4) * 2 + bytes([bits, colour, 0, 0, 0])
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_pictures_of_too_many_pixels_are_not_decoded():
    # Above Pillow's own limit, and below it.
    for side in (50_000, 9_000):
        with one_line_error(f"^a.png: .*{side}.*"):
            decode_rgb(png_bomb(side, 8, 2), "a.png", upright=True)
        with one_line_error(f"^a.png: .*{side}.*"):
            decode_depth(png_bomb(side, 16, 0), "a.png", Encoding(scale=0.001))


def test_the_limit_of_pixels_is_the_users_to_set(monkeypatch):
    data = jpeg(image(1))
    monkeypatch.setenv(Limit.PIXELS.variable, "47")
    with one_line_error(r"^a.jpg: 8x6 pixels, the limit is 47; .* set MFSYNTH_MAX_PIXELS$"):
        decode_rgb(data, "a.jpg", upright=False)
    monkeypatch.setenv(Limit.PIXELS.variable, "48")
    assert decode_rgb(data, "a.jpg", upright=False).shape == (6, 8, 3)


def test_formats_that_are_programs_are_no_images(tmp_path: Path):
    stream = io.BytesIO()
    Image.fromarray(image(1)).save(stream, "EPS")
    with one_line_error("^a.jpg: corrupt or not an image"):
        decode_rgb(stream.getvalue(), "a.jpg", upright=False)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "PPM", "WEBP", "PNG", "JPEG"])
def test_the_formats_of_data_sets_are_images(kind):
    stream = io.BytesIO()
    Image.fromarray(image(1)).save(stream, kind)
    assert decode_rgb(stream.getvalue(), "a", upright=False).shape == (6, 8, 3)


def test_a_file_that_has_no_end_is_left(monkeypatch):
    monkeypatch.setenv(Limit.BYTES.variable, "1000")
    with one_line_error("^/dev/zero: a longer file, the limit is 1000; .*MFSYNTH_MAX_BYTES$"):
        read_file(Path("/dev/zero"))


@pytest.mark.parametrize(
    "pattern",
    [
        "/a/{0..99999999}.tar",
        "/a/{0..999}/{0..999}/{0..999}.tar",
        "/a/{99999999..0}.tar",
        "/a/" + "{{a,b},c}" * 40 + ".tar",
        "/a/" + "{a..z}" * 9,
        "/a/{0.." + "9" * 400 + "}.tar",
        "/a/{x,{0..9999999}}.tar",
        "/a/" + "a" * 5000,
    ],
)
def test_braces_of_more_names_than_anybody_has_files_are_not_expanded(pattern):
    with one_line_error("the limit is 1000000|longer than 4096 characters"):
        find_tars(pattern)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("/a/{000..127}.tar", 128),
        ("/a/{9..0..3}{a,b,c}.tar", 12),
        ("/a/{x,{1..5},{y,z}}.tar", 8),
        ("/a/{single}.tar", 1),
        ("/a/\\{0..9\\}.tar", 1),
        ("/a/{a..e}.tar", 5),
    ],
)
def test_braces_are_counted_exactly(pattern, count, monkeypatch):
    monkeypatch.setenv(Limit.FILES.variable, str(count if "{a..e}" not in pattern else 52))
    assert len(find_tars(pattern)) == count
    if count > 1:
        monkeypatch.setenv(Limit.FILES.variable, str(count - 1))
        with pytest.raises(MfsynthError, match="MFSYNTH_MAX_FILES"):
            find_tars(pattern)


def test_braces_without_their_partners_are_one_line():
    with one_line_error("^/a/{0..3.tar: .*; mend the braces$"):
        find_tars("/a/{0..3.tar")


def test_a_member_that_says_it_is_huge_takes_no_memory(tmp_path: Path):
    header = tarfile.TarInfo("a.jpg")
    header.size = 2**40
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    with one_line_error("a.tar: a member of 1099511627776 bytes, the limit is"):
        TarFile(str(path), str(path)).read(512, header.size)


def prompts(path: Path):
    return open_prompts(PromptsConfig(file=str(path)), seed=0)


def test_a_column_of_one_text_a_thousand_million_times_is_not_unfolded(tmp_path: Path, monkeypatch):
    path = tmp_path / "p.parquet"
    indices = pa.array([0] * 200_000, pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"prompt": column}), path)
    assert path.stat().st_size < 100_000
    monkeypatch.setenv(Limit.BYTES.variable, "10000000")
    with one_line_error("p.parquet: prompts of more than 10000000 bytes, .*MFSYNTH_MAX_BYTES"):
        prompts(path)
    monkeypatch.setenv(Limit.ROWS.variable, "100")
    with one_line_error("p.parquet: more than 100 prompts, .*MFSYNTH_MAX_ROWS"):
        prompts(path)


def test_a_column_that_is_too_large_by_its_own_word_is_not_read(tmp_path: Path, monkeypatch):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": ["x" * 5000], "image": ["y" * 50_000]}), path)
    monkeypatch.setenv(Limit.BYTES.variable, "6000")
    assert prompts(path).size == 1
    monkeypatch.setenv(Limit.BYTES.variable, "4000")
    with one_line_error("p.parquet: prompts of 5.* bytes, the limit is 4000"):
        prompts(path)


def test_compressed_prompts_are_not_unfolded_beyond_the_limit(tmp_path: Path, monkeypatch):
    path = tmp_path / "p.txt.gz"
    path.write_bytes(gzip.compress(b"a" * 2_000_000))
    monkeypatch.setenv(Limit.BYTES.variable, "1000000")
    with one_line_error("p.txt.gz: prompt file of more than 1000000 bytes"):
        prompts(path)


def test_text_of_a_parquet_file_that_is_not_utf_8_is_one_line(tmp_path: Path):
    path = tmp_path / "p.parquet"
    text = pa.array([b"\xff\xfe"]).view(pa.string())
    pq.write_table(pa.table({"prompt": text}), path)
    with one_line_error("p.parquet: not a readable Parquet file"):
        prompts(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("id,prompt\n1,a red mug, and a bowl\n", "p.csv:2: 3 fields, but 2 columns; put quotes"),
        ("prompt,prompt\na,b\n", "p.csv:1: the column 'prompt' is there twice"),
    ],
)
def test_csv_of_which_something_would_be_lost_is_refused(tmp_path: Path, text, problem):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with one_line_error(problem):
        prompts(path)
