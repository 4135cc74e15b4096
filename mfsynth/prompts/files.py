"""Plain prompt sources: the rows of a text, JSONL, CSV or Parquet file."""

from __future__ import annotations

import hashlib
import io
import itertools
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import fsspec.utils
import pyarrow as pa
import pyarrow.parquet as pq

from mfsynth.config.documents import decode_utf8, opened, read_bytes
from mfsynth.config.limits import Limit
from mfsynth.config.suggestions import did_you_mean
from mfsynth.config.tables import read_csv, read_jsonl
from mfsynth.errors import MfsynthError
from mfsynth.prompts.prompt import Prompt
from mfsynth.storage.credentials import without_credentials

_WHAT = "prompt file"

# Rows of a Parquet file in memory at a time: one may be long.
_BATCH_ROWS = 1024

_Rows = Iterator[tuple[int, Any]]


@dataclass(frozen=True, slots=True)
class FilePrompts:
    """A prompt source over the rows of a file: candidate i has row i modulo their number.

    Attributes:
        texts: The prompts in the order of the file; at least one.
        digest: SHA-256 (hexadecimal) over the prompts, whatever file format they come from.
    """

    texts: tuple[str, ...]
    digest: str

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self.texts)

    @property
    def slot_names(self) -> tuple[str, ...]:
        """None: what a row was made of isn't known."""
        return ()

    def prompt(self, candidate: int) -> Prompt:
        """The prompt of a candidate (at least 0), without slots."""
        if candidate < 0:
            raise ValueError(f"candidate must be at least 0, not {candidate}")
        return Prompt.from_text(self.texts[candidate % len(self.texts)])


def open_file(url: str, column: str = "prompt") -> FilePrompts:
    """Read the prompts of a file.

    Args:
        url: A local path or a URL that ends in `.txt` (a prompt a line), `.jsonl`,
            `.csv` (with a header) or `.parquet`; all but the last also compressed, as in
            `.jsonl.gz`. Lines without text are left out of text and JSONL files.
        column: The column or key that holds the prompts.

    Raises:
        MfsynthError: One line that names the file, the row and what to do.
    """
    shown = without_credentials(url)
    texts: list[str] = []
    most_rows, bytes_left = Limit.ROWS.most, Limit.BYTES.most
    for row, value in _reader(url)(url, column):
        text = _checked(value, f"{shown}:{row}")
        texts.append(text)
        bytes_left -= len(text)
        if len(texts) > most_rows:
            raise Limit.ROWS.refusal(shown, f"more than {most_rows} prompts")
        if bytes_left < 0:
            raise Limit.BYTES.refusal(shown, f"prompts of more than {Limit.BYTES.most} bytes")
    if not texts:
        raise MfsynthError(f"{shown}: {_WHAT} has no prompts; add at least one")
    sha = hashlib.sha256(b"file")
    for text in texts:
        encoded = text.encode()
        # With its length, so that two prompts never read as one.
        sha.update(b"%d:%s" % (len(encoded), encoded))
    return FilePrompts(tuple(texts), sha.hexdigest())


def _checked(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise MfsynthError(f"{where}: the prompt is {value!r:.40}, not a text; mend this row")
    text = value.strip()
    if not text:
        raise MfsynthError(f"{where}: the prompt is empty; fill or remove this row")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise MfsynthError(f"{where}: a lone surrogate in the prompt; mend this row") from error
    return text


def _reader(url: str) -> Callable[[str, str], _Rows]:
    path = without_credentials(url)
    if fsspec.utils.infer_compression(path) is not None:
        path = posixpath.splitext(path)[0]
    suffix = posixpath.splitext(path)[1]
    if suffix not in _READERS:
        raise MfsynthError(
            f"{without_credentials(url)}: not a {_WHAT}; it must end in {', '.join(_READERS)}"
        )
    return _READERS[suffix]


def _text(url: str) -> str:
    return decode_utf8(read_bytes(url, _WHAT), url, _WHAT)


def _read_text(url: str, column: str) -> _Rows:
    # Not splitlines(): it also breaks at characters that may stand in a prompt.
    for number, line in enumerate(io.StringIO(_text(url), newline=None), start=1):
        if line.strip():
            yield number, line


def _read_jsonl(url: str, column: str) -> _Rows:
    shown = without_credentials(url)
    for number, row in read_jsonl(_text(url), shown):
        if column not in row:
            raise _no_column(f"{shown}:{number}", column, list(row))
        yield number, row[column]


def _read_csv(url: str, column: str) -> _Rows:
    shown = without_credentials(url)
    columns, rows = read_csv(_text(url), shown)
    if columns and column not in columns:
        raise _no_column(shown, column, columns)
    for number, row in rows:
        yield number, row[column]


def _read_parquet(url: str, column: str) -> _Rows:
    shown = without_credentials(url)
    # Only the one column is fetched: prompts often lie beside images.
    with opened(url, _WHAT) as stream:
        try:
            file = pq.ParquetFile(stream)
            names = file.schema_arrow.names
            if column not in names:
                raise _no_column(shown, column, names)
            if names.count(column) > 1:
                raise MfsynthError(f"{shown}: the column {column!r} is there twice; rename one")
            _require_size(file.metadata, column, shown)
            # As a dictionary, a text that stands in all rows is in memory once.
            file = pq.ParquetFile(stream, metadata=file.metadata, read_dictionary=[column])
            batches = file.iter_batches(_BATCH_ROWS, columns=[column])
            values = itertools.chain.from_iterable(batch.column(0) for batch in batches)
            for number, value in enumerate(values, start=1):
                yield number, value.as_py()
        # ValueError: what as_py() raises for text that is not UTF-8, and others.
        except (pa.ArrowException, OSError, ValueError) as error:
            raise MfsynthError(f"{shown}: not a readable Parquet file; make it again") from error


def _require_size(metadata: pq.FileMetaData, column: str, shown: str) -> None:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    parts = [group.column(i) for group in groups for i in range(group.num_columns)]
    size = sum(
        part.total_uncompressed_size
        for part in parts
        if f"{part.path_in_schema}.".startswith(f"{column}.")
    )
    if size > Limit.BYTES.most:
        raise Limit.BYTES.refusal(shown, f"prompts of {size} bytes")


def _no_column(where: str, column: str, known: list[str]) -> MfsynthError:
    return MfsynthError(
        f"{where}: no column {column!r}; set prompts.column; {did_you_mean(column, known)}"
    )


_READERS: dict[str, Callable[[str, str], _Rows]] = {
    ".txt": _read_text,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
