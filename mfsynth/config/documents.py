"""Documents read strictly, from a path or any fsspec URL, with one-line errors."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import fsspec
import yaml

from mfsynth.errors import MfsynthError
from mfsynth.storage.credentials import without_credentials


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, without its two silent surprises.

    YAML 1.1 keeps the last of two equal keys, and reads `1e-3` as text.
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


_StrictLoader.yaml_implicit_resolvers = {
    key: list(resolvers) for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str, where: str) -> Any:
    """Parse one YAML document.

    Args:
        text: The document.
        where: Its path or URL, for the error message.

    Raises:
        MfsynthError: Malformed YAML or a repeated key, with line and column.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = " ".join((error.problem or "syntax error").split())
        raise MfsynthError(f"{where}{place}: not valid YAML: {problem}; mend this line") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise MfsynthError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error


def strict_json(text: str | bytes) -> Any:
    """Parse JSON (UTF-8) in which no object has a key twice.

    Raises:
        ValueError: It is no JSON, or a key is there twice, of which the last would win.
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except RecursionError:
        raise ValueError("too many levels") from None


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} is there twice")
    return found


@contextmanager
def opened(url: str, what: str) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed when its suffix says so.

    Args:
        url: A local path or any fsspec URL.
        what: What the file is ("prompt file"), for the error message.

    Raises:
        MfsynthError: The file is not there, or opening or reading it failed.
    """
    shown = without_credentials(url)
    try:
        with fsspec.open(url, "rb", compression="infer") as stream:
            yield stream
    except MfsynthError:
        raise
    except FileNotFoundError as error:
        raise MfsynthError(f"{shown}: {what} not found; check the path") from error
    except IsADirectoryError as error:
        raise MfsynthError(f"{shown}: {what} is a folder; name a file in it") from error
    except Exception as error:
        # Each fsspec backend has exceptions of its own; their texts may repeat the URL's secrets.
        raise MfsynthError(
            f"{shown}: {what} cannot be read ({type(error).__name__}); check URL and access"
        ) from error


def read_bytes(url: str, what: str) -> bytes:
    """Read a whole file; see `opened`."""
    with opened(url, what) as stream:
        return stream.read()


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
    """Read and parse a YAML file from a local path or any fsspec URL.

    Raises:
        MfsynthError: See `read_bytes` and `parse_yaml`; also for an empty file.
    """
    shown = without_credentials(url)
    document = parse_yaml(decode_utf8(read_bytes(url, what), url, what), shown)
    if document is None:
        raise MfsynthError(f"{shown}: {what} is empty")
    return document
