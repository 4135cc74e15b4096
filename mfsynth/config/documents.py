"""Documents read strictly, from a path or a URL, with one-line errors."""

from __future__ import annotations

import json
import math
import re
import sys
import zipfile
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NoReturn

import fsspec
import fsspec.utils
import yaml

from mfsynth.config.limits import Limit
from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.protocols import require_openable
from mfsynth.storage.urls import where_sought

# Ours have 8 at most; whatever works on a value level by level must not run out of stack.
_MOST_LEVELS = 64
# YAML is parsed at a megabyte a second, and nobody writes as much.
_MOST_YAML_BYTES = 2**24
# What JSON has. Others (timestamps, bytes, sets) would come as values that nothing here expects.
_YAML_TAGS = ("null", "bool", "int", "float", "str", "seq", "map")
# What YAML 1.1, YAML 1.2 and people read as the same number, signs and infinities included.
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, without its silent surprises.

    YAML 1.1 keeps the last of two equal keys, reads `1e-3` as text, `2001-01-01` as a date, `010`
    as 8 and `1:30` as 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key) if isinstance(key, Hashable) else None
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        self._require(_WHOLE, node)
        number = super().construct_yaml_int(node)
        if abs(number) > sys.float_info.max:
            raise yaml.constructor.ConstructorError(
                None, None, "a whole number of more than 300 digits", node.start_mark
            )
        return number

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        self._require(_FLOAT, node)
        return super().construct_yaml_float(node)

    def _require(self, number: re.Pattern[str], node: yaml.ScalarNode) -> None:
        text = str(self.construct_scalar(node))
        if number.fullmatch(text) is None:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"{text[:40]!r} is no plain number; write it without leading zeros, _ and :, or in "
                "quotes if it is a text",
                node.start_mark,
            )


_StrictLoader.yaml_implicit_resolvers = {
    key: [(tag, regexp) for tag, regexp in resolvers if tag.rpartition(":")[2] in _YAML_TAGS]
    for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.yaml_constructors = {
    tag: constructor
    for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in _YAML_TAGS
}
for _tag, _constructor in (
    ("int", _StrictLoader.construct_yaml_int),
    ("float", _StrictLoader.construct_yaml_float),
):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _constructor)
# Numbers of YAML 1.2 alone: to be refused, and to be read.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?0[0-9]+$|0o[0-7]+$"), list("-+0")
)
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+.0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document.

    Args:
        text: The document.
        where: Its path or URL, for the error message.

    Raises:
        MfsynthError: Malformed YAML, a repeated key or a number that YAML 1.1 and 1.2 read as two,
            with line and column; a tag that JSON has no value for, half a character, or too many
            levels.
    """
    try:
        document = yaml.load(text, Loader=_StrictLoader)
        _require_plain(document)
        return document
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = " ".join((error.problem or "syntax error").split())
        raise MfsynthError(f"{where}{place}: not valid YAML: {problem}; mend this line") from error
    except RecursionError:
        raise MfsynthError(f"{where}: not valid YAML: too many levels") from None
    # Constructors let out whatever they trip over: ValueError of `!!int x`, KeyError of `!!bool x`.
    except (yaml.YAMLError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise MfsynthError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


def strict_json(text: str | bytes) -> Any:
    """Parse JSON (UTF-8) and nothing but JSON.

    Raises:
        ValueError: It is no JSON, or it has what JSON has not: numbers that are not finite, halves
            of characters, one key twice; or whole numbers beyond all floats, or more levels than
            anything needs. The message is short.
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        document = json.loads(
            text,
            object_pairs_hook=_without_repetition,
            parse_constant=_refuse_number,
            parse_float=_finite,
            parse_int=_whole,
        )
    except RecursionError:
        raise ValueError("too many levels") from None
    _require_plain(document)
    return document


def json_document(value: object) -> bytes:
    """A JSON document as it is stored for people and programs: indented, one key a line.

    Raises:
        ValueError: It has a number that is not finite.
    """
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return found


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no finite number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_number(text)


def _whole(text: str) -> int:
    # Sooner or later it is compared with a float, or made one.
    _finite(text)
    return int(text)


def _require_plain(document: Any) -> None:
    """Refuse values that go round in circles, are too deep, or have text that can't be encoded."""
    # By level and not by call; what aliases share is looked at once a level.
    level = [document]
    for _ in range(_MOST_LEVELS):
        below: dict[int, Any] = {}
        for value in level:
            parts = value
            if isinstance(value, dict):
                parts = [*value, *value.values()]
            elif not isinstance(value, (list, tuple)):
                parts = (value,)
            for part in parts:
                if isinstance(part, str):
                    if not part.isascii():
                        _require_whole_characters(part)
                elif isinstance(part, (dict, list, tuple)):
                    below[id(part)] = part
        if not below:
            return
        level = [*below.values()]
    raise ValueError("too many levels")


def _require_whole_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half a character (\\u{ord(text[error.start]):04x}) in a text") from None


@contextmanager
def opened(url: str, what: str) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed when its suffix says so.

    Args:
        url: A local path or a URL of one of `mfsynth.storage.protocols.PROTOCOLS`.
        what: What the file is ("prompt file"), for the error message.

    Raises:
        MfsynthError: The file is not there, opening or reading it failed, it is a zip of more than
            one file, or its URL is one that isn't opened.
    """
    shown = without_credentials(url)
    require_openable(url)
    try:
        if fsspec.utils.infer_compression(url) == "zip":
            _require_one_member(url, shown, what)
        with fsspec.open(url, "rb", compression="infer") as stream:
            yield stream
    except MfsynthError:
        raise
    except FileNotFoundError as error:
        raise MfsynthError(
            f"{shown}: {what} not found{where_sought(url)}; check the path"
        ) from error
    except IsADirectoryError as error:
        raise MfsynthError(f"{shown}: {what} is a folder; name a file in it") from error
    except Exception as error:
        # Each fsspec backend has exceptions of its own; their texts may repeat the URL's secrets.
        raise MfsynthError(
            f"{shown}: {what} cannot be read ({type(error).__name__}); check URL and access"
        ) from error


def _require_one_member(url: str, shown: str, what: str) -> None:
    # fsspec takes the first.
    with fsspec.open(url, "rb") as stream, zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
    if len(names) != 1 or names[0].endswith("/"):
        raise MfsynthError(
            f"{shown}: a zip with {len(names)} entries; {what} must be the only one, in no folder"
        )


def read_bytes(url: str, what: str, most: int | None = None) -> bytes:
    """Read a whole file; see `opened`.

    Args:
        url: A local path or a URL.
        what: What the file is, for the error message.
        most: Bytes after decompression, or None for `Limit.BYTES`.

    Raises:
        MfsynthError: As `opened`; also for more bytes.
    """
    limit = Limit.BYTES.most if most is None else most
    with opened(url, what) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        shown, too_much = without_credentials(url), f"{what} of more than {limit} bytes"
        if most is None:
            raise Limit.BYTES.refusal(shown, too_much)
        raise MfsynthError(f"{shown}: {too_much}; divide it")
    return data


def decode_utf8(data: bytes, url: str, what: str) -> str:
    """Decode UTF-8 text (a byte order mark is dropped).

    Raises:
        MfsynthError: The bytes are not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MfsynthError(
            f"{without_credentials(url)}: {what} is not UTF-8 text (byte {error.start}); save it so"
        ) from error


def read_yaml(url: str, what: str) -> Any:
    """Read and parse a YAML file from a local path or a URL.

    Raises:
        MfsynthError: See `read_bytes` and `parse_yaml`; also for an empty file.
    """
    shown = without_credentials(url)
    document = parse_yaml(decode_utf8(read_bytes(url, what, _MOST_YAML_BYTES), url, what), shown)
    if document is None:
        raise MfsynthError(f"{shown}: {what} is empty")
    return document
