"""Documents of anybody end as values or as one short line."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from mfsynth.config.documents import parse_yaml, read_bytes, read_yaml, strict_json
from mfsynth.config.limits import Limit
from mfsynth.config.loading import load_config
from mfsynth.errors import MfsynthError

DEEP = 200_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * DEEP, "too many levels"),
        ("[" * 80 + "]" * 80, "too many levels"),
        ("&a [*a]", "too many levels"),
        ("a: !!timestamp foo", "timestamp"),
        ("a: !!binary aGk=", "binary"),
        ("!!set {a}", "set"),
        ("!!python/object/apply:os.system [x]", "constructor"),
        ("a: !!bool x", "not valid YAML"),
        ("a: !!int x", "not valid YAML"),
        ("a: !!float x", "not valid YAML"),
        ("a: " + "9" * 10_000, "not valid YAML"),
        ("a: -" + "9" * 400, "more than 300 digits"),
        ("a: 0x" + "f" * 5000, "more than 300 digits"),
        ('a: "\\ud800"', "half a character"),
        ('"\\udc00": a', "half a character"),
        ("a: \x1b[2J", "not valid YAML"),
        ("? [a]\n: 1", "unhashable"),
        (f"? {'x' * 100_000}\n: 1\n? {'x' * 100_000}\n: 2", "twice"),
    ],
)
def test_yaml_that_is_none_of_ours_is_one_short_line(text, problem):
    with pytest.raises(MfsynthError, match=problem) as refused:
        parse_yaml(text, "FILE")
    shown = str(refused.value)
    assert shown.startswith("FILE")
    assert len(shown) < 2100
    assert shown.isprintable()


def test_a_date_is_a_text_and_what_aliases_share_is_looked_at_once():
    assert parse_yaml("a: 2001-01-01", "FILE") == {"a": "2001-01-01"}
    lines = ["a0: &a0 x"]
    lines += [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(40)]
    assert set(parse_yaml("\n".join(lines), "FILE")) == {f"a{i}" for i in range(41)}


@pytest.mark.parametrize(
    "number",
    [
        *["010", "-010", "0_7", "08", "0o17", "0b11", "+0x1F", "1_000", "1_0.5", "0x_1"],
        *["1:30", "12:30:45", "190:20:30.15", "!!int 010", '!!int "1:30"', "!!float 1_0.5"],
    ],
)
def test_a_number_that_yaml_has_two_readings_of_is_refused_where_it_stands(number):
    for text in (f"b: 1\na: {number}", f"b: 1\n? {number}\n: x", f"%YAML 1.2\n---\na: {number}"):
        with pytest.raises(MfsynthError, match=r"^FILE:[23]:\d: .* is no plain number.*quotes"):
            parse_yaml(text, "FILE")
    with pytest.raises(MfsynthError, match=r"^--set seed:1:1: .*no plain number"):
        load_config("local", [f"seed={number}"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("0", 0), ("-0", 0), ("+12", 12), ("0x1F", 31), ("1" + "0" * 20, 10**20)],
        *[("1.", 1.0), ("-.5", -0.5), (".5e3", 500.0), ("1e-3", 1e-3), ("1.5E+3", 1500.0)],
        *[("-.inf", float("-inf")), ('"010"', "010"), ("'1:30'", "1:30"), ("!!str 010", "010")],
        *[("s_1", "s_1"), ("1-2", "1-2"), ("v0.10", "v0.10"), ("a:1", "a:1"), ("1.2.3", "1.2.3")],
    ],
)
def test_plain_numbers_are_numbers_and_the_rest_is_text(text, value):
    read = parse_yaml(text, "FILE")
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * DEEP, "too many levels"),
        ('{"a":' * DEEP, "too many levels"),
        ('{"a":' * 80 + "1" + "}" * 80, "too many levels"),
        ("NaN", "no finite number"),
        ('{"a": -Infinity}', "no finite number"),
        ("1e999", "no finite number"),
        ('"\\ud800"', "half a character"),
        ('{"\\udc00": 1}', "half a character"),
        ('{"seed": 1, "seed": 2}', "'seed' is there twice"),
        (b'"\xff"', "utf-8"),
        ("9" * 10_000, "no finite number"),
        ('{"limit": -' + "9" * 400 + "}", "no finite number"),
        ("", "Expecting value"),
    ],
)
def test_json_is_json_alone(text, problem):
    with pytest.raises(ValueError, match=problem) as refused:
        strict_json(text)
    assert len(str(refused.value)) < 200


def test_all_that_json_has_is_read():
    text = '{"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude00"], "b": {}}'
    found = {"a": [1, -2500.0, True, None, "é😀"], "b": {}}
    assert strict_json(text) == strict_json(text.encode()) == found


def test_what_unfolds_to_more_than_the_limit_is_not_read(tmp_path: Path, monkeypatch):
    path = tmp_path / "prompts.txt.gz"
    path.write_bytes(gzip.compress(bytes(10_000_001)))
    monkeypatch.setenv(Limit.BYTES.variable, "10000000")
    with pytest.raises(MfsynthError, match=r"more than 10000000 bytes.*set MFSYNTH_MAX_BYTES"):
        read_bytes(str(path), "prompt file")
    monkeypatch.setenv(Limit.BYTES.variable, "10000001")
    assert len(read_bytes(str(path), "prompt file")) == 10_000_001


def test_yaml_of_more_than_anybody_writes_is_not_parsed(tmp_path: Path):
    path = tmp_path / "run.yaml.gz"
    path.write_bytes(gzip.compress(b" " * 2**25))
    with pytest.raises(MfsynthError, match="configuration of more than 16777216 bytes"):
        read_yaml(str(path), "configuration")


@pytest.mark.parametrize("value", ["many", "-1", "0", "1e9", "٣", "9" * 30])
def test_a_limit_that_is_no_number_is_an_error(value, monkeypatch):
    monkeypatch.setitem(os.environ, Limit.PIXELS.variable, value)
    with pytest.raises(MfsynthError, match=r"MFSYNTH_MAX_PIXELS=.*: must be a whole number"):
        _ = Limit.PIXELS.most
